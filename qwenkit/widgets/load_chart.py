"""The chart of a load test: latency, requests and replicas on one time axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qwenkit.widgets import svg
from qwenkit.widgets.svg import Axis, Chart, Plot

if TYPE_CHECKING:
    from qwenkit.capacity.simulation.result import SimulationResult
    from qwenkit.inference.results import LoadRequest
    from qwenkit.loadtest.moment import Moment
    from qwenkit.loadtest.timeline import Timeline

_HEIGHTS = (170, 90, 100)
_MOST_DOTS, _SHORTEST_S = 300, 1e-3
_ROOM = 0.03
Points = Sequence[tuple[float, float | None]]


def load_chart(timeline: Timeline, predicted: SimulationResult | None = None) -> Chart:
    """Draw a load test, and the ready replicas that a simulation of the same load predicts.

    Above, each request's TTFT and latency where it was due, and the percentiles of the last ten
    seconds; below them the requests in flight, and the replicas of the revision that serves.

    >>> from qwenkit import Settings, load_chart, start_test
    >>> from qwenkit.capacity.simulation.traffic import ClosedLoop
    >>> test = start_test(Settings(), ClosedLoop(((0, 1), (1, 0))))
    >>> print("drawn:", load_chart(test.result()))
    drawn: ... requests, 0 failed, ready replicas ...
    """
    return draw_load(
        timeline.moments(),
        timeline.load.requests,
        text=str(timeline),
        load_end_s=timeline.load.seconds,
        gaps=timeline.gaps,
        predicted=predicted,
    )


def draw_load(
    moments: Sequence[Moment],
    requests: Sequence[LoadRequest],
    *,
    text: str,
    load_end_s: float | None = None,
    gaps: Sequence[tuple[float, float, str]] = (),
    predicted: SimulationResult | None = None,
) -> Chart:
    """Draw moments and requests; the load may still run."""
    start_s, end_s = min(moments[0].at_s, 0.0), max(moments[-1].at_s, 1.0)
    if load_end_s is not None:  # room for the last sample, which is a step at the very end
        end_s += _ROOM * (end_s - start_s)
        moments = [*moments, replace(moments[-1], at_s=end_s)]
    x = Axis(start_s, end_s, svg.LEFT, svg.WIDTH - svg.RIGHT)
    foot, places = 0.0, []
    for height in _HEIGHTS:
        foot += svg.TOP + height
        places.append((foot, foot - height))
    latency = _latency(x, *places[0], moments, requests)
    flight = _flight(x, *places[1], moments)
    replicas = _replicas(x, *places[2], moments, predicted)
    under = [Plot(x, plot.y) for plot in (latency, flight, replicas)]
    for plot in under:
        for start, end, why in gaps:
            plot.band(start, end, svg.GREY, f"no answer from the cluster: {why}")
        if load_end_s is not None:
            plot.band(load_end_s, load_end_s, svg.GREY, f"the load ended after {load_end_s:.1f} s")
    for start, _, _ in gaps:
        replicas.words(x.at(start) + 5, places[2][1] + 16, "no answer")
    if load_end_s is not None and load_end_s < 0.9 * x.high:
        latency.words(x.at(load_end_s) + 5, places[0][0] - 6, "load ended")
    replicas.foot("seconds since the load began")
    plots = (*under, latency, flight, replicas)
    return Chart([part for plot in plots for part in plot.parts], foot + svg.FOOT, text)


def _latency(
    x: Axis, foot: float, top: float, moments: Sequence[Moment], requests: Sequence[LoadRequest]
) -> Plot:
    shown = list(_thinned(requests))
    lines = {
        f"{name} {rank}": [(m.at_s, _drawn(getattr(m, of).get(rank))) for m in moments]
        for name, of in (("TTFT", "ttft_s"), ("latency", "latency_s"))
        for rank in ("p50", "p95")
    }
    # A line may be of requests whose dots are not drawn, or no longer.
    values = [value for points in lines.values() for _, value in points if value is not None]
    values += [value for r in shown for value in map(_drawn, (r.ttft_s, r.latency_s)) if value]
    plot = Plot(x, Axis(*svg.around(values or [0.1, 10.0], log=True), foot, top, log=True))
    plot.grid("seconds, log")
    plot.legend(
        {"TTFT": svg.GREEN, "latency": svg.BLUE, "failed": svg.RED}, "lines: p50 (dashed), p95"
    )
    for request in shown:
        tip = (
            f"at {request.scheduled_s:.1f} s: {request.why or 'ok'} after {request.latency_s:.2f} s"
        )
        tip += f", {request.pod}" if request.pod else ""
        color = svg.BLUE if request.outcome == "ok" else svg.RED
        plot.dot(request.scheduled_s, max(request.latency_s, _SHORTEST_S), color, tip, radius=2.5)
        first_s = _drawn(request.ttft_s)
        if first_s is not None and request.outcome == "ok":
            tip = f"at {request.scheduled_s:.1f} s: first token after {first_s:.2f} s"
            plot.dot(request.scheduled_s, first_s, svg.GREEN, tip, radius=2.5)
    for name, points in lines.items():
        color, dashes = svg.GREEN if "TTFT" in name else svg.BLUE, "4 3" if "p50" in name else ""
        _line(plot, points, color, name, dashes)
    return plot


def _drawn(seconds: float | None) -> float | None:
    """Return a time that a logarithmic axis can show."""
    return None if seconds is None else max(seconds, _SHORTEST_S)


def _flight(x: Axis, foot: float, top: float, moments: Sequence[Moment]) -> Plot:
    seen = [value for m in moments for value in (m.in_flight, m.stable or 0, m.panic or 0)]
    plot = Plot(x, Axis(0, max(1, *seen), foot, top))
    plot.grid("requests", count=3, whole=True)
    colors = {"in flight": svg.AMBER}
    plot.area([(m.at_s, m.in_flight) for m in moments], svg.AMBER, "in flight")
    if any(m.waiting is not None for m in moments):
        colors["without a token"] = svg.RED
        _line(plot, [(m.at_s, m.waiting) for m in moments], svg.RED, "without a first token")
    if any(m.stable is not None for m in moments):
        colors |= {"autoscaler's window": svg.VIOLET, "its panic window (dashed)": svg.VIOLET}
        stable, panic = [(m.at_s, m.stable) for m in moments], [(m.at_s, m.panic) for m in moments]
        _line(plot, stable, svg.VIOLET, "average of the stable window")
        _line(plot, panic, svg.VIOLET, "average of the panic window", "2 3")
    plot.legend(colors)
    return plot


def _replicas(
    x: Axis,
    foot: float,
    top: float,
    moments: Sequence[Moment],
    predicted: SimulationResult | None,
) -> Plot:
    found = [(m.at_s, m.replicas) for m in moments]
    ready = [(t, r.ready if r else None) for t, r in found]
    living = [(t, r.ready + r.starting if r and r.starting else None) for t, r in found]
    desired = [(t, r.desired if r else None) for t, r in found]
    others = [(m.at_s, m.others or None) for m in moments]
    most = max(value or 0 for points in (ready, living, desired, others) for _, value in points)
    most = max(1, most, *(predicted.ready if predicted else ()))
    plot = Plot(x, Axis(0, most * 1.05, foot, top))  # room for the highest line
    plot.grid("replicas", count=3, whole=True)
    colors = {"desired": svg.GREY, "ready": svg.BLUE, "starting": svg.AMBER}
    for part in _known(ready):
        plot.area(part, svg.BLUE, "ready")
    _line(plot, desired, svg.GREY, "desired", "5 3")
    _line(plot, living, svg.AMBER, "ready and starting")
    if predicted:
        colors["predicted ready"] = svg.GREEN
        inside = [(t, n) for t, n in zip(predicted.t, predicted.ready, strict=True) if t <= x.high]
        plot.steps(inside, svg.GREEN, "predicted ready", dashes="8 3")
    if any(value for _, value in others):
        colors["other revisions"] = svg.VIOLET
        _line(plot, others, svg.VIOLET, "pods of other revisions", "2 2")
    plot.legend(colors)
    return plot


def _line(plot: Plot, points: Points, color: str, name: str, dashes: str = "") -> None:
    """Draw a line that has a gap where nothing is known."""
    for part in _known(points):
        plot.steps(part, color, name, dashes=dashes)


def _known(points: Points) -> Iterator[list[tuple[float, float]]]:
    """Yield each stretch in which a value is known; it holds until the next moment."""
    stretch: list[tuple[float, float]] = []
    for at_s, value in points:
        if stretch and value is None:
            yield [*stretch, (at_s, stretch[-1][1])]
            stretch = []
        elif value is not None:
            stretch.append((at_s, value))
    if stretch:
        yield stretch


def _thinned(requests: Sequence[LoadRequest]) -> Iterator[LoadRequest]:
    """Yield a bounded number of requests; failures last, so that they are on top."""
    for failed in (False, True):
        some = [r for r in requests if r.outcome != "cancelled" and (r.outcome != "ok") is failed]
        yield from some[:: math.ceil(len(some) / _MOST_DOTS) or 1]

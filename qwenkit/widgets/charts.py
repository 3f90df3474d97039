"""The charts of the course: results in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwenkit.widgets import svg
from qwenkit.widgets.svg import Axis, Chart, Plot

if TYPE_CHECKING:  # a chart of a simulation needs no client of a cluster
    from qwenkit.capacity.candidates import Candidate
    from qwenkit.capacity.result import SimulationResult

_UPPER, _LOWER, _FRONT = 160, 110, 210


def draw_run(result: SimulationResult) -> Chart:
    """Draw a simulated run: requests in flight above, replicas below, on one time axis."""
    most, ready = max(result.concurrency, default=0), max(result.ready, default=0)
    upper, lower = _two_plots(result.t[-1], most, max(ready, *result.desired))
    upper.grid("in flight", whole=True)
    upper.legend({"requests in flight": svg.AMBER})
    upper.area(svg.peaks(result.t, result.concurrency), svg.AMBER, "requests in flight")
    lower.grid("replicas", whole=True)
    lower.foot("seconds")
    lower.legend({"desired": svg.GREY, "ready": svg.BLUE})
    lower.steps(zip(result.t, result.desired, strict=True), svg.GREY, "desired", dashes="5 3")
    lower.steps(zip(result.t, result.ready, strict=True), svg.BLUE, "ready")
    return _stacked(
        upper, lower, f"at most {most} requests in flight, at most {ready} replicas ready"
    )


def utilization_chart(result: SimulationResult) -> Chart:
    """Draw GPU utilisation above, and below the requests of which it says so little."""
    most, waiting = max(result.concurrency), max(result.queue)
    upper, lower = _two_plots(result.t[-1], 100, most)
    upper.grid("GPU, %")
    upper.legend({"GPU utilization": svg.RED})
    shares = result.gpu_utilization
    means = [(at, sum(shares[at : at + 15]) * 100 / 15) for at in range(0, result.t[-1], 15)]
    upper.area(means, svg.RED, "GPU utilization, means of 15 s")
    lower.grid("requests", whole=True)
    lower.foot("seconds")
    lower.legend({"in flight": svg.AMBER, "of them waiting": svg.BLUE})
    lower.area(svg.peaks(result.t, result.concurrency), svg.AMBER, "in flight")
    lower.area(svg.peaks(result.t, result.queue), svg.BLUE, "of them waiting")
    busy = 100 * sum(share > 0.99 for share in shares) / len(shares)
    text = f"GPU utilization is full in {busy:.0f} % of the seconds, with up to {most} requests"
    return _stacked(upper, lower, f"{text} in flight, up to {waiting} of them waiting")


def front_chart(candidates: Sequence[Candidate], chosen: Candidate, now: Candidate) -> Chart:
    """Draw settings by cost and TTFT; mark the present and the recommended ones."""
    colors = {"tried": svg.GREY, "these settings": svg.AMBER, "recommended": svg.GREEN}
    marked = [(each, "tried") for each in candidates if each is not chosen]
    marked += [(now, "these settings"), (chosen, "recommended")]
    drawn = [(each, kind) for each, kind in marked if math.isfinite(each.ttft_p95_s)]
    costs = [each.cost_per_hour for each, _ in drawn]
    times = [max(each.ttft_p95_s, 1e-3) for each, _ in drawn]
    x = Axis(*svg.around(costs or [1.0]), svg.LEFT, svg.WIDTH - svg.RIGHT)
    y = Axis(*svg.around(times or [1.0], log=True), svg.TOP + _FRONT, svg.TOP, log=True)
    plot = Plot(x, y)
    plot.grid("TTFT p95, s")
    plot.foot("cost per hour")
    plot.legend(colors)
    for (each, kind), cost, time in zip(drawn, costs, times, strict=True):
        tip = f"{kind}: {each.choice}; {cost:.3g} per hour, TTFT p95 {each.ttft_p95_s:.3g} s"
        plot.dot(cost, time, colors[kind], tip, radius=5 if kind == "tried" else 7)
    text = f"{len(drawn)} settings by cost and TTFT p95"
    if len(drawn) < len(marked):
        text += f"; {len(marked) - len(drawn)} that answer no request are not drawn"
    return Chart(plot.parts, svg.TOP + _FRONT + svg.FOOT, text)


def _two_plots(end: float, most_above: float, most_below: float) -> tuple[Plot, Plot]:
    """Return two plots, one above the other, whose time axes are the same."""
    x = Axis(0, end, svg.LEFT, svg.WIDTH - svg.RIGHT)
    foot = svg.TOP + _UPPER + svg.TOP + _LOWER
    upper = Plot(x, Axis(0, most_above or 1, svg.TOP + _UPPER, svg.TOP))
    return upper, Plot(x, Axis(0, most_below or 1, foot, foot - _LOWER))


def _stacked(upper: Plot, lower: Plot, text: str) -> Chart:
    return Chart([*upper.parts, *lower.parts], lower.y.start + svg.FOOT, text)

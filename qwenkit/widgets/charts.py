"""The charts of the course: results in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwenkit.widgets.svg import (
    AMBER,
    BLUE,
    FOOT,
    GREEN,
    GREY,
    LEFT,
    RED,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Chart,
    Plot,
    around,
    peaks,
)

if TYPE_CHECKING:  # a chart of a simulation needs no client of a cluster
    from qwenkit.capacity.candidates import Candidate
    from qwenkit.capacity.result import SimulationResult

_UPPER, _LOWER, _FRONT = 160, 110, 210


def draw_run(result: SimulationResult) -> Chart:
    """Draw a simulated run: requests in flight above, replicas below, on one time axis."""
    most, ready = max(result.concurrency, default=0), max(result.ready, default=0)
    upper, lower = _two_plots(result.t[-1], most, max(ready, *result.desired))
    upper.grid("in flight", whole=True)
    upper.legend({"requests in flight": AMBER})
    upper.area(peaks(result.t, result.concurrency), AMBER, "requests in flight")
    _replicas(
        lower,
        list(zip(result.t, result.desired, strict=True)),
        list(zip(result.t, result.ready, strict=True)),
    )
    return _stacked(
        upper, lower, f"at most {most} requests in flight, at most {ready} replicas ready"
    )


def utilization_chart(result: SimulationResult) -> Chart:
    """Draw GPU utilisation above, and below the requests of which it says so little."""
    most, waiting = max(result.concurrency), max(result.queue)
    upper, lower = _two_plots(result.t[-1], 100, most)
    upper.grid("GPU, %")
    upper.legend({"GPU utilization": RED})
    shares = result.gpu_utilization
    means = [(at, sum(shares[at : at + 15]) * 100 / 15) for at in range(0, result.t[-1], 15)]
    upper.area(means, RED, "GPU utilization, means of 15 s")
    lower.grid("requests", whole=True)
    lower.foot("seconds")
    lower.legend({"in flight": AMBER, "of them waiting": BLUE})
    lower.area(peaks(result.t, result.concurrency), AMBER, "in flight")
    lower.area(peaks(result.t, result.queue), BLUE, "of them waiting")
    busy = 100 * sum(share > 0.99 for share in shares) / len(shares)
    text = f"GPU utilization is full in {busy:.0f} % of the seconds, with up to {most} requests"
    return _stacked(upper, lower, f"{text} in flight, up to {waiting} of them waiting")


def front_chart(candidates: Sequence[Candidate], chosen: Candidate, now: Candidate) -> Chart:
    """Draw settings by cost and TTFT; mark the present and the recommended ones."""
    colors = {"tried": GREY, "these settings": AMBER, "recommended": GREEN}
    marked = [(each, "tried") for each in candidates if each is not chosen]
    marked += [(now, "these settings"), (chosen, "recommended")]
    drawn = [(each, kind) for each, kind in marked if math.isfinite(each.ttft_p95_s)]
    costs = [each.cost_per_hour for each, _ in drawn]
    times = [max(each.ttft_p95_s, 1e-3) for each, _ in drawn]
    x = Axis(*around(costs or [1.0]), LEFT, WIDTH - RIGHT)
    y = Axis(*around(times or [1.0], log=True), TOP + _FRONT, TOP, log=True)
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
    return Chart(plot.parts, TOP + _FRONT + FOOT, text)


def _two_plots(end: float, most_above: float, most_below: float) -> tuple[Plot, Plot]:
    """Return two plots, one above the other, whose time axes are the same."""
    x = Axis(0, end, LEFT, WIDTH - RIGHT)
    foot = TOP + _UPPER + TOP + _LOWER
    upper = Plot(x, Axis(0, most_above or 1, TOP + _UPPER, TOP))
    return upper, Plot(x, Axis(0, most_below or 1, foot, foot - _LOWER))


def _replicas(
    plot: Plot, desired: Sequence[tuple[float, int]], ready: Sequence[tuple[float, int]]
) -> None:
    plot.grid("replicas", whole=True)
    plot.foot("seconds")
    plot.legend({"desired": GREY, "ready": BLUE})
    if ready:
        plot.steps(desired, GREY, "desired", dashes="5 3")
        plot.steps(ready, BLUE, "ready")


def _stacked(upper: Plot, lower: Plot, text: str) -> Chart:
    return Chart([*upper.parts, *lower.parts], lower.y.start + FOOT, text)

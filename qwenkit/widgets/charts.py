"""The charts of a simulation and of a recommendation: results in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwenkit.widgets import svg
from qwenkit.widgets.svg import Axis, Chart, Plot

if TYPE_CHECKING:  # a chart of a simulation needs no client of a cluster
    from qwenkit.capacity.search.candidates import Candidate
    from qwenkit.capacity.simulation.result import SimulationResult

_UPPER, _LOWER, _FRONT = 160, 110, 210


def draw_run(result: SimulationResult) -> Chart:
    """Draw a simulated run: requests in flight above, replicas below, on one time axis."""
    most, ready = max(result.concurrency, default=0), max(result.ready, default=0)
    x = Axis(0, result.t[-1], svg.LEFT, svg.WIDTH - svg.RIGHT)
    foot = svg.TOP + _UPPER + svg.TOP + _LOWER
    upper = Plot(x, Axis(0, most or 1, svg.TOP + _UPPER, svg.TOP))
    upper.grid("in flight", whole=True)
    upper.legend({"requests in flight": svg.AMBER})
    upper.area(svg.peaks(result.t, result.concurrency), svg.AMBER, "requests in flight")
    lower = Plot(x, Axis(0, max(1, ready, *result.desired), foot, foot - _LOWER))
    lower.grid("replicas", whole=True)
    lower.foot("seconds")
    lower.legend({"desired": svg.GREY, "ready": svg.BLUE})
    lower.steps(zip(result.t, result.desired, strict=True), svg.GREY, "desired", dashes="5 3")
    lower.steps(zip(result.t, result.ready, strict=True), svg.BLUE, "ready")
    text = f"at most {most} requests in flight, at most {ready} replicas ready"
    return Chart([*upper.parts, *lower.parts], foot + svg.FOOT, text)


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

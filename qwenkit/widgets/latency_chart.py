"""The chart of how long requests waited for their first token: the share that had it in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from qwenkit.capacity.simulation.result import nearest_rank
from qwenkit.widgets import svg
from qwenkit.widgets.svg import Axis, Chart, Plot

_HEIGHT, _SHORTEST_S = 170, 1e-3
_LOOKS = ((svg.BLUE, ""), (svg.BLUE, "4 3"), (svg.GREEN, ""), (svg.GREEN, "4 3"))


def latency_chart(ttft_s: Mapping[str, Sequence[float]]) -> Chart:
    """Draw the share of requests that had their first token within a time, a line for each name.

    Lines come in pairs of a colour, the second one dashed: measured, predicted.

    >>> from qwenkit import latency_chart
    >>> latency_chart({"measured": [0.1, 0.2, 0.4], "predicted": [0.1, 0.2, 0.3]})
    TTFT p95: measured 0.400 s, predicted 0.300 s
    """
    lines = {name: sorted(max(s, _SHORTEST_S) for s in ttft_s[name]) for name in ttft_s}
    lines = {name: values for name, values in lines.items() if values}
    ends = svg.around([s for values in lines.values() for s in values] or [1.0], log=True)
    plot = Plot(
        Axis(*ends, svg.LEFT, svg.WIDTH - svg.RIGHT, log=True),
        Axis(0, 100, svg.TOP + _HEIGHT, svg.TOP),
    )
    plot.grid("requests, %")
    plot.foot("time to first token, s, log")
    colors: dict[str, str] = {}
    for (name, values), (color, dashes) in zip(lines.items(), cycle(_LOOKS), strict=False):
        share = 100 / len(values)
        points = [(s, number * share) for number, s in enumerate(values, 1)]
        plot.steps([(values[0], 0.0), *points], color, name, dashes=dashes)
        colors |= {} if dashes else {name: color}
    plot.legend(colors, "dashed: predicted")
    told = ", ".join(f"{name} {nearest_rank(v, 95):.3f} s" for name, v in lines.items())
    return Chart(plot.parts, svg.TOP + _HEIGHT + svg.FOOT, f"TTFT p95: {told}")

"""The chart of a comparison of autoscalers: GPU time against goodput, a curve for each."""

from __future__ import annotations

from html import escape
from itertools import product
from typing import TYPE_CHECKING

from qwenkit.capacity.autoscalers import (
    FIXED,
    HPA_GPU,
    KEDA_WAITING,
    KPA_CONCURRENCY,
    KPA_RPS,
)
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
    text_width,
)

if TYPE_CHECKING:
    from qwenkit.capacity.autoscalers import AutoscalerComparison, AutoscalerOutcome

_HEIGHT = 290
# A colour and a shape for each: the chart is readable without colours too.
_LOOKS = {
    HPA_GPU: (RED, "M-5-5h10v10h-10Z"),
    KPA_CONCURRENCY: (BLUE, "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0Z"),
    KPA_RPS: (GREEN, "M0-7L7 5H-7Z"),
    KEDA_WAITING: (AMBER, "M0-8L8 0L0 8L-8 0Z"),
    FIXED: (GREY, "M-6-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z"),
}
_Box = tuple[float, float, float, float]  # left, right, top, bottom


def autoscaler_chart(found: AutoscalerComparison) -> Chart:
    """Draw GPU-hours against the share of requests within the objective.

    A curve joins the targets of one autoscaler; the named point is the published target, or
    where there is none the cheapest that serves 95 %.

    >>> from qwenkit import Objective, VllmServer, autoscaler_chart, bursts, compare_autoscalers
    >>> server = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
    >>> few = bursts(0.1, 3, 300, every_s=150, burst_s=30)
    >>> found = compare_autoscalers(server, few, objective=Objective(ttft_p95_s=5), gpus=2)
    >>> autoscaler_chart(found)
    22 settings of 5 autoscalers: 0.17 to 0.20 GPU-hours, 100 to 100 % within the objective
    """
    hours = [each.gpu_hours for each in found.outcomes]
    shares = [100 * each.within for each in found.outcomes]
    foot = TOP + _HEIGHT
    lowest = min(*shares, 80.0)
    plot = Plot(Axis(*around(hours), LEFT, WIDTH - RIGHT), Axis(lowest - 5, 103, foot, TOP))
    plot.grid("requests within the objective, %")
    plot.foot("GPU-hours")
    taken = [_box(plot, each) for each in found.outcomes]
    for name, (color, _) in _LOOKS.items():
        points = found.of(name)
        way = "L".join(f"{x} {y}" for x, y in (_place(plot, each) for each in points))
        plot.parts.append(f'<path d="M{way}" fill="none" stroke="{color}" stroke-opacity="0.6"/>')
    named = found.named()
    for each in found.outcomes:
        _mark(plot, each, big=each in named)
    for each in named:
        _label(plot, each, taken)
    text = (
        f"{len(hours)} settings of {len(_LOOKS)} autoscalers: {min(hours):.2f} to "
        f"{max(hours):.2f} GPU-hours, {min(shares):.0f} to {max(shares):.0f} % within the objective"
    )
    return Chart(plot.parts, foot + FOOT, text)


def _place(plot: Plot, outcome: AutoscalerOutcome) -> tuple[float, float]:
    return plot.x.at(outcome.gpu_hours), plot.y.at(100 * outcome.within)


def _box(plot: Plot, outcome: AutoscalerOutcome) -> _Box:
    x, y = _place(plot, outcome)
    return x - 7, x + 7, y - 7, y + 7


def _mark(plot: Plot, outcome: AutoscalerOutcome, *, big: bool) -> None:
    x, y = _place(plot, outcome)
    color, shape = _LOOKS[outcome.autoscaler]
    tip = ", ".join(f"{name} {value}" for name, value in outcome.row().items())
    plot.parts.append(
        f'<path transform="translate({x} {y}) scale({1 if big else 0.6})" d="{shape}" '
        f'fill="{color}" fill-opacity="{1 if big else 0.7}"><title>{escape(tip)}</title></path>'
    )


def _label(plot: Plot, outcome: AutoscalerOutcome, taken: list[_Box]) -> None:
    """Write the name where nothing else is, as near as possible, with a line to its point."""
    x, y = _place(plot, outcome)
    text = f"{outcome.autoscaler}: {outcome.setting}"
    width = text_width(text) * 0.9
    downs = (-16, 22, -34, 40, 58, 76, 94, 112, 130)
    for down, right in product(downs, (True, False)):
        left = x + 10 if right else x - 10 - width
        box = left, left + width, y + down - 11, y + down + 4
        inside = plot.x.start < left and box[1] < WIDTH and box[2] > 4 and box[3] < plot.y.start
        if inside and not any(_meet(box, each) for each in taken):
            break
    taken.append(box)
    end = left - 2 if right else box[1] + 2
    plot.parts.append(
        f'<path d="M{x} {y}L{end:.1f} {y + down - 4:.1f}" stroke="currentColor" '
        'stroke-opacity="0.5"/>'
    )
    plot.words(left, y + down, text)


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]

"""The chart of a comparison of autoscalers: GPU time against goodput, a curve for each."""

from __future__ import annotations

from html import escape
from itertools import product
from typing import TYPE_CHECKING

from qwenkit.capacity.search.autoscalers import FIXED, TARGETS
from qwenkit.language import said
from qwenkit.widgets import svg
from qwenkit.widgets.svg import Axis, Chart, Plot

if TYPE_CHECKING:
    from qwenkit.capacity.search.autoscalers import AutoscalerComparison, AutoscalerOutcome

_FOOT = svg.TOP + 290
# A colour and a shape for each: the chart is readable without colours too.
_SQUARE, _CIRCLE, _UP = "M-5-5h10v10h-10Z", "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0Z", "M0-7L7 5H-7Z"
_DIAMOND, _PLUS = "M0-8L8 0L0 8L-8 0Z", "M-6-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z"
_STYLES = (
    *((svg.RED, _SQUARE), (svg.BLUE, _CIRCLE), (svg.GREEN, _UP)),
    *((svg.AMBER, _DIAMOND), (svg.GREY, _PLUS)),
)
_LOOKS = dict(zip((*TARGETS, FIXED), _STYLES, strict=True))
_DOWN = (-16, 22, -34, 40, 58, 76, 94, 112, 130)  # where a label may be, in pixels from its point


def autoscaler_chart(found: AutoscalerComparison) -> Chart:
    """Draw GPU-hours against the share of requests within the objective.

    A curve joins the targets of one autoscaler; named is the point of ``found.named()``.

    >>> from qwenkit import Objective, autoscaler_chart, bursts, compare_autoscalers
    >>> from qwenkit.capacity.simulation.server import VllmServer
    >>> server = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
    >>> few = bursts(0.1, 3, 300, every_s=150, burst_s=30)
    >>> found = compare_autoscalers(server, few, objective=Objective(ttft_p95_s=5), gpus=2)
    >>> autoscaler_chart(found)
    22 settings of 5 autoscalers: 0.18 to 0.37 GPU-hours, ... to 100 % within the objective
    """
    hours = [each.gpu_hours for each in found.outcomes]
    shares = [100 * each.within for each in found.outcomes]
    x = Axis(*svg.around(hours), svg.LEFT, svg.WIDTH - svg.RIGHT)
    plot = Plot(x, Axis(min(*shares, 80.0) - 5, 103, _FOOT, svg.TOP))
    plot.grid("requests within the objective, %")
    plot.foot("GPU-hours")
    places = [(x.at(hour), plot.y.at(share)) for hour, share in zip(hours, shares, strict=True)]
    for name, (color, _) in _LOOKS.items():
        points = zip(found.outcomes, places, strict=True)
        way = "L".join(f"{at[0]} {at[1]}" for each, at in points if each.autoscaler == name)
        plot.parts.append(f'<path d="M{way}" fill="none" stroke="{color}" stroke-opacity="0.6"/>')
    taken = [(left - 7, left + 7, y - 7, y + 7) for left, y in places]
    named = found.named()
    for each, at in zip(found.outcomes, places, strict=True):
        _mark(plot, each, at, size=1.0 if each in named else 0.6)
    for each, at in zip(found.outcomes, places, strict=True):
        if each in named:
            _label(plot, f"{each.autoscaler}: {each.setting}", at, taken)
    text = (
        f"{len(hours)} settings of {len(_LOOKS)} autoscalers: {min(hours):.2f} to "
        f"{max(hours):.2f} GPU-hours, {min(shares):.0f} to {max(shares):.0f} % within the objective"
    )
    return Chart(plot.parts, _FOOT + svg.FOOT, text)


def _mark(plot: Plot, outcome: AutoscalerOutcome, at: tuple[float, float], *, size: float) -> None:
    color, shape = _LOOKS[outcome.autoscaler]
    tip = ", ".join(f"{name} {value}" for name, value in outcome.shown().items())
    plot.parts.append(
        f'<path transform="translate({at[0]} {at[1]}) scale({size:g})" d="{shape}" '
        f'fill="{color}"><title>{escape(said(tip))}</title></path>'
    )


def _label(
    plot: Plot,
    text: str,
    at: tuple[float, float],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write a name where nothing else is, as near as possible, with a line to its point."""
    (x, y), width = at, svg.text_width(text) * 0.9
    for down, right in product(_DOWN, (True, False)):
        left = x + 10 if right else x - 10 - width
        box = left, left + width, y + down - 11, y + down + 4
        inside = plot.x.start < left and box[1] < svg.WIDTH and box[2] > 4 and box[3] < _FOOT
        free = all(
            box[1] < each[0] or each[1] < box[0] or box[3] < each[2] or each[3] < box[2]
            for each in taken
        )
        if inside and free:
            break
    taken.append(box)
    end = left - 2 if right else box[1] + 2
    line = f"M{x} {y}L{end:.1f} {y + down - 4:.1f}"
    plot.parts.append(f'<path d="{line}" stroke="currentColor" stroke-opacity="0.5"/>')
    plot.words(left, y + down, text)

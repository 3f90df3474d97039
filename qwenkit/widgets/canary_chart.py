"""The chart of a rollout: how much of the traffic each step had, and what the gate measured."""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.loadtest.gate import CanaryStep, Gate
from qwenkit.widgets import svg
from qwenkit.widgets.svg import Axis, Chart, Plot

_UPPER, _LOWER, _SIDE = 120, 100, 0.25
_COLORS = {"passed": svg.GREEN, "held": svg.RED}


def canary_chart(steps: Sequence[CanaryStep], gate: Gate) -> Chart:
    """Draw the share of the traffic of each step, and its TTFT p95 below the gate's limit.

    >>> from qwenkit import Gate, canary_chart
    >>> from qwenkit.loadtest.gate import CanaryStep
    >>> gate = Gate(ttft_p95_s=5)
    >>> canary_chart([gate.judge(CanaryStep("qwen-00002", 10, 20, 100.0, 0.4))], gate)
    qwen-00002 at 10 %: passed
    """
    x, limit = Axis(0, len(steps) or 1, svg.LEFT, svg.WIDTH - svg.RIGHT), gate.ttft_p95_s
    times = [step.ttft_p95_s for step in steps if step.ttft_p95_s]
    foot = svg.TOP + _UPPER + svg.TOP + _LOWER
    upper = Plot(x, Axis(0, 115, svg.TOP + _UPPER, svg.TOP))
    upper.grid("share of traffic, %", count=2)
    upper.legend(_COLORS)
    lower = Plot(x, Axis(*svg.around([*times, limit], log=True), foot, foot - _LOWER, log=True))
    lower.grid("TTFT p95, s")
    lower.legend({}, f"dashed: the gate's limit, {limit:g} s")
    lower.steps([(0, limit), (x.high, limit)], svg.RED, "the gate's limit", dashes="5 3")
    for number, step in enumerate(steps):
        color, tip = _COLORS.get(step.gate, svg.GREY), f"{step.requests} requests; {step.why}"
        left, middle = number + _SIDE, x.at(number + 0.5)
        upper.area([(left, step.share), (number + 1 - _SIDE, step.share)], color, tip)
        back = ", then 0 %" if step.gate == "held" else ""
        upper.words(middle, upper.y.at(step.share) - 5, f"{step.share} %{back}", anchor="middle")
        if p95_s := step.ttft_p95_s:
            lower.dot(number + 0.5, p95_s, color, tip, radius=6)
            lower.words(middle + 10, lower.y.at(p95_s) + 4, f"{p95_s:.3g} s")
        else:
            lost = f"no answer: {step.failed} of {step.requests} failed"
            lower.words(middle, foot - _LOWER / 3, lost, anchor="middle")
        lower.words(middle, foot + 17, step.revision, anchor="middle")
    text = "; ".join(f"{step.revision} at {step.share} %: {step.gate}" for step in steps)
    return Chart([*upper.parts, *lower.parts], foot + svg.FOOT, text)

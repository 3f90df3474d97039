"""The chart of a rollout: each step in the colour of its verdict."""

from __future__ import annotations

from qwenkit.loadtest.gate import CanaryStep, Gate
from qwenkit.widgets import svg
from qwenkit.widgets.canary_chart import canary_chart

GATE = Gate(ttft_p95_s=5)


def test_a_step_has_the_colour_of_its_verdict_and_what_was_measured() -> None:
    good = GATE.judge(CanaryStep("qwen-00002", 50, 20, 100.0, 0.4))
    slow = GATE.judge(CanaryStep("qwen-00003", 10, 20, 0.0, 30.1))
    lost = GATE.judge(CanaryStep("qwen-00004", 10, 2, 0.0, None, failed=2, cause="http 400"))
    one, other, none = (canary_chart([step], GATE).svg() for step in (good, slow, lost))
    assert f'fill="{svg.GREEN}" fill-opacity="0.4"' in one
    assert ">50 %<" in one
    assert f'fill="{svg.RED}" fill-opacity="0.4"' in other
    assert ">10 %, then 0 %<" in other
    assert ">30.1 s<" in other
    assert ">no answer: 2 of 2 failed<" in none
    assert "2 of 2 requests failed: http 400" in none
    assert str(canary_chart([good, slow], GATE)) == (
        "qwen-00002 at 50 %: passed; qwen-00003 at 10 %: held"
    )


def test_no_steps_are_an_empty_chart() -> None:
    assert "the gate" in canary_chart([], GATE).svg()

"""What a faster clock does to figures: told by the answer, said beside every figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenkit.capacity.simulation.clock import clock_note, on_gpu
from qwenkit.inference.answers import StreamStats
from qwenkit.inference.clock import told_clock
from qwenkit.inference.results import LoadResult


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-1", "0"])
def test_what_is_no_clock_changes_nothing(text: str) -> None:
    assert told_clock({"x-qwenkit-clock": text}, 2.0) == 2.0
    assert told_clock({}) == 1.0


def test_a_faster_clock_is_said_and_the_gpus_own_times_shown() -> None:
    assert told_clock({"x-qwenkit-clock": "0.5"}) == 0.5
    assert clock_note(1) == ""
    assert clock_note(10).startswith("clock × 10: ")
    assert (on_gpu(0.0042, 10), on_gpu(2.5, 1)) == ("4.2 ms (42 ms on the GPU)", "2.5 s")
    fast = StreamStats(0.2, 0.002, 10, 0, 0.5, "stop", clock=10)
    assert str(fast).splitlines() == [
        "TTFT 200 ms (2 s on the GPU), TPOT 2 ms (20 ms on the GPU), 10 tokens",
        clock_note(10),
    ]
    slow = StreamStats(0.2, 0.002, 10, 0, 0.5, "stop", clock=1)
    assert repr(slow) == "TTFT 200 ms, TPOT 2 ms, 10 tokens"
    assert repr(replace(slow, tokens=1)) == "TTFT 200 ms"
    assert str(LoadResult((), 1.0, 0.0, clock=10)).endswith(clock_note(10))
    assert "clock ×" not in str(LoadResult((), 1.0, 0.0))

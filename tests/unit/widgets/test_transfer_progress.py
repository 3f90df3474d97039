"""The line that follows an upload in a notebook."""

from __future__ import annotations

import pytest

from qwenkit.weights.progress import Progress
from qwenkit.widgets.transfer_progress import TransferProgress

HALF = Progress(1, 2, 50, 100, 10.0, 5.0, 0, "<b>.bin")


def test_it_shows_a_bar_and_the_numbers() -> None:
    with TransferProgress() as line:
        line(HALF)
    bundle = line._repr_mimebundle_()
    assert bundle["text/plain"].startswith("1/2 files  50 B of 100 B (50 %)")
    assert "<progress value='0.500'" in bundle["text/html"]
    assert "&lt;b&gt;.bin" in bundle["text/html"]


def interrupted(line: TransferProgress) -> None:
    with line:
        line(HALF)
        raise KeyboardInterrupt


def test_what_ends_early_says_how_to_go_on() -> None:
    line = TransferProgress()
    with pytest.raises(KeyboardInterrupt):
        interrupted(line)
    assert repr(line).startswith("stopped: 1/2 files")
    assert "run the cell again" in repr(line)

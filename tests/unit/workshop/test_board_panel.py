"""The board's buttons: what cannot be taken back asks first; an error is shown, not raised."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from qwenkit.cluster.gpu_slot import GpuSlot
from qwenkit.errors import NotFound
from qwenkit.exercises.sharing import SharedProgress
from qwenkit.workshop.bill import Bill
from qwenkit.workshop.board import Board, BoardRow, ServiceState
from qwenkit.workshop.board_panel import BoardPanel
from qwenkit.workshop.slots.state import Slots


class Hand:
    """Stands for the workshop: it notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        row = BoardRow("p01", "<b>", SharedProgress(), GpuSlot(), ServiceState(), 0.0, None)
        self.board = Board("ws", (row,), Slots(1), Bill("ws", (), None), 26)

    def __getattr__(self, name: str):
        def act(*values: object) -> object:
            self.told.append((name, *values))
            if name == "reset":
                raise NotFound("no weights", "<i>", "upload them")
            self.board = replace(self.board, slots=Slots(1, frozen=name == "freeze" and values[0]))
            return self.board.slots

        return act


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def panel(hand: Hand) -> BoardPanel:
    return BoardPanel(lambda: hand.board, hand)


def click(panel: BoardPanel, *names: str) -> None:
    for name in names:
        panel.buttons[name].click()
        for thread in threading.enumerate():
            if thread.name == "qwenkit-board-action":
                thread.join()


def test_what_cannot_be_taken_back_asks_first(panel: BoardPanel, hand: Hand) -> None:
    click(panel, "Free GPU…", "Cancel", "Confirm", "End the day…", "Send note", "Confirm")
    assert hand.told == [("note", "")]
    click(panel, "Free GPU…", "Confirm", "End the day…", "Confirm")
    assert hand.told[1:] == [("free", "p01"), ("end",)]


def test_freeze_becomes_unfreeze(panel: BoardPanel, hand: Hand) -> None:
    click(panel, "Freeze")
    assert panel.buttons["Freeze"].description == "Unfreeze"
    click(panel, "Freeze")
    assert hand.told == [("freeze", True), ("freeze", False)]


def test_an_error_stands_in_the_panel_and_is_escaped(panel: BoardPanel, hand: Hand) -> None:
    panel.chapter.value = "03"
    click(panel, "Reset…", "Confirm")
    assert hand.told == [("reset", "p01", "03")]
    page = "".join(str(getattr(one, "value", "")) for one in panel.box.children)
    assert "no weights" in page
    assert "&lt;i&gt;" in page
    assert "<i>" not in page


def test_shown_again_only_the_newest_refreshes(panel: BoardPanel, hand: Hand) -> None:
    bundle = panel._repr_mimebundle_()
    assert "workshop ws" in bundle["text/plain"]
    another = BoardPanel(lambda: hand.board, hand)
    another._repr_mimebundle_()
    assert panel._closed.is_set()
    another.close()

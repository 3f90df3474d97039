"""The board in a notebook: it refreshes itself, and has the instructor's buttons.

What cannot be taken back asks first. Buttons work in a thread, so that the kernel stays free.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from threading import Event, Thread
from typing import Any, ClassVar, Protocol

from qwenkit.errors import QwenkitError
from qwenkit.exercises.exercise import chapters
from qwenkit.language import said
from qwenkit.widgets.display import CellOutput
from qwenkit.widgets.tuner_panel import error_html
from qwenkit.workshop.board import Board
from qwenkit.workshop.board_reader import REFRESH_S

_RESET, _FREE, _NOTE, _FREEZE, _END = "Reset…", "Free GPU…", "Send note", "Freeze", "End the day…"
_CONFIRM, _CANCEL, _UNFREEZE = "Confirm", "Cancel", "Unfreeze"
_STYLES = {_END: "danger", _CONFIRM: "danger"}
_CSS = """<style>
.qwenkit-board .qwenkit-acts {flex-flow: row wrap; gap: 4px 8px; margin: 2px 0}
.qwenkit-board .qwenkit-acts > * {margin: 0}
.qwenkit-board :is(.widget-html, .widget-html-content) {height: auto; line-height: 1.4}
.qwenkit-board .widget-html-content {overflow-x: auto}
.qwenkit-board .widget-button {width: auto}
.qwenkit-board .widget-label {width: auto; min-width: 0; overflow: visible}
</style>"""


class BoardActions(Protocol):
    """What an instructor may do; each returns what came of it, for people."""

    def reset(self, participant: str, chapter: str) -> object:
        """Bring a participant to the start of a chapter."""

    def free(self, participant: str) -> object:
        """Take the GPU of a participant."""

    def note(self, text: str) -> object:
        """Show a note in all notebooks."""

    def freeze(self, frozen: bool = True) -> object:
        """Take all GPUs, or give them back."""

    def end(self) -> object:
        """End the day."""


class BoardPanel:
    """The live board. ``box`` is the widget, ``buttons`` by their English name."""

    _shown: ClassVar[BoardPanel | None] = None  # a cell that runs again shows another one

    def __init__(self, read: Callable[[], Board], actions: BoardActions) -> None:
        import ipywidgets as w

        self._read, self._actions, self._closed = read, actions, Event()
        self._sure: Callable[[], object] | None = None
        self.board = read()
        self._table, self._said = w.HTML(), w.HTML()
        names = [(f"{row.id} {row.name}".strip(), row.id) for row in self.board.rows]
        self.participant = w.Dropdown(options=names, description=said("participant"))
        self.chapter = w.Dropdown(options=chapters(), description=said("chapter"))
        self.text = w.Text(placeholder=said("a note for all notebooks"))
        self.buttons = {
            name: w.Button(description=said(name), button_style=_STYLES.get(name, ""))
            for name in (_RESET, _FREE, _NOTE, _FREEZE, _END, _CONFIRM, _CANCEL)
        }
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self.press(name))
        one = [self.participant, self.chapter, self.buttons[_RESET], self.buttons[_FREE]]
        all_ = [self.text, *(self.buttons[name] for name in (_NOTE, _FREEZE, _END))]
        self._ask = w.HBox([self.buttons[_CONFIRM], self.buttons[_CANCEL]])
        rows = [w.HBox(one), w.HBox(all_), self._ask]
        for row in rows:
            row.add_class("qwenkit-acts")
        self.box = w.VBox([w.HTML(_CSS), *rows[:2], self._said, self._ask, self._table])
        self.box.add_class("qwenkit-board")
        self._stop_asking()
        self._show()

    def start(self) -> None:
        """Refresh from now on, in place of the panel that was shown before."""
        if BoardPanel._shown is not None:
            BoardPanel._shown.close()
        BoardPanel._shown = self
        Thread(target=self._refresh, name="qwenkit-board", daemon=True).start()

    def close(self) -> None:
        """Stop refreshing."""
        self._closed.set()

    def press(self, name: str) -> None:
        """Do what a button says; what cannot be taken back waits for ``Confirm``."""
        sure, who = self._sure, self.participant.value
        self._stop_asking()
        if name == _RESET:
            chapter = self.chapter.value
            ask = f"Reset {who} to the start of chapter {chapter}? What was made since goes."
            self._asks(ask, lambda: self._actions.reset(who, chapter))
        elif name == _FREE:
            self._asks(f"Take the GPU of {who}?", lambda: self._actions.free(who))
        elif name == _END:
            self._asks("End the day? All GPUs are taken, until tomorrow.", self._actions.end)
        elif name == _NOTE:
            self._do(lambda: self._actions.note(self.text.value))
        elif name == _FREEZE:
            self._do(lambda: self._actions.freeze(not self.board.slots.frozen))
        elif name == _CONFIRM and sure is not None:
            self._do(sure)

    def _asks(self, question: str, act: Callable[[], object]) -> None:
        self._say(question)
        self._sure, self._ask.layout.display = act, ""

    def _stop_asking(self) -> None:
        self._sure, self._ask.layout.display, self._said.value = None, "none", ""

    def _do(self, act: Callable[[], object]) -> None:
        """Act in a thread, then show the board as it is after it."""

        def run() -> None:
            try:
                self._say(str(act() or "done"))
                self._look()
            except Exception as error:  # in a thread nobody else would see it
                self._said.value = error_html(error)

        self._say("working")
        Thread(target=run, name="qwenkit-board-action", daemon=True).start()

    def _say(self, text: str) -> None:
        self._said.value = f"<div role='status'>{escape(said(text))}</div>"

    def _refresh(self) -> None:
        while not self._closed.wait(REFRESH_S):
            self._look()

    def _look(self) -> None:
        try:
            self.board = self._read()
            self._show()
        except QwenkitError as error:  # the board stays as it was last seen
            self._table.value = error_html(error) + self.board.html()

    def _show(self) -> None:
        self._table.value = self.board.html()
        frozen = self.board.slots.frozen
        self.buttons[_FREEZE].description = said(_UNFREEZE if frozen else _FREEZE)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        self.start()
        final = CellOutput(self.board.html(), repr(self.board))
        return dict(self.box._repr_mimebundle_(**kwargs)) | final._repr_mimebundle_()

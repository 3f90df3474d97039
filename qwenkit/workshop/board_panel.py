"""The board in a notebook: it refreshes itself, and has the instructor's buttons.

What cannot be taken back asks first. Buttons work in a thread, so that the kernel stays free.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from threading import Event, Thread
from typing import Any, ClassVar

from qwenkit.errors import QwenkitError
from qwenkit.exercises.exercise import chapters
from qwenkit.language import said
from qwenkit.widgets.display import CellOutput
from qwenkit.widgets.tuner_panel import error_html
from qwenkit.workshop.board import Board
from qwenkit.workshop.board_reader import REFRESH_S
from qwenkit.workshop.slots.state import Slots

_Workshop = Any  # the ``Workshop``, whose module imports this one
_Act = Callable[[], object]
_RESET, _FREE, _NOTE, _FREEZE, _END = "Reset…", "Free GPU…", "Send note", "Freeze", "End the day…"
_CONFIRM, _CANCEL = "Confirm", "Cancel"
_STYLES = {_END: "danger", _CONFIRM: "danger"}
_CSS = """<style>
.qwenkit-board .qwenkit-acts {flex-flow: row wrap; gap: 4px 8px; margin: 2px 0}
.qwenkit-board .qwenkit-acts > * {margin: 0}
.qwenkit-board :is(.widget-html, .widget-html-content) {height: auto; line-height: 1.4}
.qwenkit-board .widget-html-content {overflow-x: auto}
.qwenkit-board .widget-button {width: auto}
.qwenkit-board .widget-label {width: auto; min-width: 0; overflow: visible}
</style>"""


class BoardPanel:
    """The live board. ``box`` is the widget; ``buttons`` are by their English names."""

    _shown: ClassVar[BoardPanel | None] = None  # a cell that runs again shows another one

    def __init__(self, read: Callable[[], Board], workshop: _Workshop) -> None:
        import ipywidgets as w

        self.read, self._workshop, self._closed = read, workshop, Event()
        self._sure: _Act | None = None
        self.board = read()
        self._table, self._said = w.HTML(), w.HTML()
        names = [(f"{row.id} {row.name}".strip(), row.id) for row in self.board.rows]
        self.participant = w.Dropdown(options=names, description=said("participant"))
        self.chapter = w.Dropdown(options=chapters(), description=said("chapter"))
        self.note = w.Text(placeholder=said("a note for all notebooks"))
        self.buttons = {
            name: w.Button(description=said(name), button_style=_STYLES.get(name, ""))
            for name in (_RESET, _FREE, _NOTE, _FREEZE, _END, _CONFIRM, _CANCEL)
        }
        for name, button in self.buttons.items():
            button.on_click(partial(self._pressed, name))
        one, all_, self._ask = (
            w.HBox([*fields, *(self.buttons[name] for name in names)])
            for fields, names in (
                ([self.participant, self.chapter], (_RESET, _FREE)),
                ([self.note], (_NOTE, _FREEZE, _END)),
                ([], (_CONFIRM, _CANCEL)),
            )
        )
        for row in (one, all_, self._ask):
            row.add_class("qwenkit-acts")
        self.box = w.VBox([w.HTML(_CSS), one, all_, self._said, self._ask, self._table])
        self.box.add_class("qwenkit-board")
        self._stop_asking()
        self._show()

    def close(self) -> None:
        """Stop refreshing."""
        self._closed.set()

    def _pressed(self, name: str, _button: Any) -> None:
        """Do what a button says; what cannot be taken back waits for ``Confirm``."""
        sure, who, chapter = self._sure, self.participant.value, self.chapter.value
        self._stop_asking()
        if name == _RESET:
            ask = f"Reset {who} to the start of chapter {chapter}? What was made since goes."
            self._asks(ask, partial(self._workshop.reset, who, chapter))
        elif name == _FREE:
            self._asks(f"Take the GPU of {who}?", partial(self._workshop.free, who))
        elif name == _END:
            self._asks("End the day? All GPUs are taken, until Unfreeze.", self._workshop.end)
        elif name == _NOTE:
            self._do(partial(self._workshop.note, self.note.value))
        elif name == _FREEZE:
            self._do(partial(self._workshop.freeze, not self._is_closed))
        elif name == _CONFIRM and sure is not None:
            self._do(sure)

    def _asks(self, question: str, act: _Act) -> None:
        self._say(question)
        self._sure, self._ask.layout.display = act, ""

    def _stop_asking(self) -> None:
        self._sure, self._ask.layout.display, self._said.value = None, "none", ""

    def _do(self, act: _Act) -> None:
        """Act in a thread, then show the board as it is after it."""

        def run() -> None:
            try:
                done = act()
                self._say("done" if isinstance(done, Slots) else str(done))
                self._look()
            except Exception as error:  # in a thread nobody else would see it
                self._said.value = error_html(error)

        self._say("working")
        Thread(target=run, name="qwenkit-board-action", daemon=True).start()

    def _say(self, text: str) -> None:
        self._said.value = f"<div role='status'>{escape(said(text))}</div>"

    def _refresh(self, closed: Event) -> None:
        while not closed.wait(REFRESH_S):
            self._look()

    def _look(self) -> None:
        try:
            self.board = self.read()
            self._show()
        except QwenkitError as error:  # the board stays as it was last seen
            self._table.value = error_html(error) + self.board.html()

    def _show(self) -> None:
        self._table.value = self.board.html()
        self.buttons[_FREEZE].description = said("Unfreeze" if self._is_closed else _FREEZE)

    @property
    def _is_closed(self) -> bool:
        return self.board.slots.frozen or bool(self.board.slots.ended)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        if BoardPanel._shown is not None:
            BoardPanel._shown.close()
        BoardPanel._shown, self._closed = self, Event()
        refresh = partial(self._refresh, self._closed)
        Thread(target=refresh, name="qwenkit-board", daemon=True).start()
        final = CellOutput(self.board.html(), repr(self.board))
        return dict(self.box._repr_mimebundle_(**kwargs)) | final._repr_mimebundle_()

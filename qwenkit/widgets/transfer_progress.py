"""One line that follows an upload: a bar and the numbers; the kernel's stop button ends it.

Where no front end draws widgets (papermill, a report, no ipywidgets) the line is text, and the
cell keeps its last state.
"""

from __future__ import annotations

from html import escape
from types import TracebackType
from typing import Any, Self

from qwenkit.weights.progress import Progress, format_progress

_LINE = "font-family:monospace;font-size:0.9em;white-space:pre"


class TransferProgress:
    """Give it to an upload as its ``progress``, within ``with``."""

    def __init__(self) -> None:
        self._text, self._share = "looking at what is to be sent", 0.0
        self._handle: Any = None
        self._bar: _Bar | None = None

    def __repr__(self) -> str:
        return self._text

    def __call__(self, progress: Progress) -> None:
        """Show a moment of the transfer."""
        share = progress.bytes_done / progress.bytes if progress.bytes else 1.0
        self._show(format_progress(progress), share)

    def __enter__(self) -> Self:
        try:
            from IPython.display import display
        except ModuleNotFoundError:  # then nobody looks
            return self
        self._bar = _bar()
        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        bar, self._bar = self._bar, None  # what stays in the cell is text
        end = (
            f"stopped: {self._text}\nrun the cell again: it goes on there" if error else self._text
        )
        self._show(end, self._share)
        if bar:
            bar.close()

    def _show(self, text: str, share: float) -> None:
        self._text, self._share = text, share
        if self._bar:
            self._bar.show(_html(text), share)
        elif self._handle:
            self._handle.update(self)

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, Any]:
        bar = f"<progress value='{self._share:.3f}' style='width:160px'></progress> "
        static = {"text/plain": self._text, "text/html": f"<div>{bar}{_html(self._text)}</div>"}
        live: dict[str, Any] = self._bar.view(**keywords) if self._bar else {}
        return live | static


class _Bar:
    """The live line."""

    def __init__(self, widgets: Any) -> None:
        self._bar = widgets.FloatProgress(max=1.0, layout=widgets.Layout(width="160px"))
        self._label = widgets.HTML()
        centred = widgets.Layout(align_items="center")
        self._line = widgets.HBox([self._bar, self._label], layout=centred)

    def show(self, html: str, share: float) -> None:
        self._label.value, self._bar.value = html, share

    def view(self, **keywords: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self._line._repr_mimebundle_(**keywords) or {}
        return bundle

    def close(self) -> None:
        for widget in (self._line, self._bar, self._label):
            widget.close()


def _bar() -> _Bar | None:
    try:
        import ipywidgets
    except ModuleNotFoundError:
        return None
    return _Bar(ipywidgets)


def _html(text: str) -> str:
    return f"<span style='{_LINE}'>{escape(text)}</span>"

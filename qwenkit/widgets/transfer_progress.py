"""The progress of an upload in a notebook: one line with a bar and the numbers.

The kernel's stop button ends the upload. The cell keeps the line's last state, also without a
front end (papermill, a report).
"""

from __future__ import annotations

from html import escape
from typing import Any, Self

from qwenkit.language import said
from qwenkit.weights.progress import Progress, format_progress

_LINE = "font-family:monospace;font-size:0.9em;white-space:pre"


class TransferProgress:
    """A context manager to pass to an upload as ``progress``.

    >>> from qwenkit import Settings, TransferProgress, Weights
    >>> with TransferProgress() as progress:
    ...     report = Weights.of(Settings()).upload(progress=progress)
    listing the files
    """

    def __init__(self) -> None:
        self._text, self._share = said("listing the files"), 0.0
        self._handle: Any = None

    def __repr__(self) -> str:
        return self._text

    def __call__(self, progress: Progress) -> None:
        """Show a moment of the transfer."""
        share = progress.bytes_done / progress.bytes if progress.bytes else 1.0
        self._show(said(format_progress(progress)), share)

    def __enter__(self) -> Self:
        try:
            from IPython.display import display
        except ModuleNotFoundError:  # then there is no front end
            return self
        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error:
            text = f"stopped: {self._text}\nrun the cell again: the upload resumes"
            self._show(said(text), self._share)

    def _show(self, text: str, share: float) -> None:
        self._text, self._share = text, share
        if self._handle:
            self._handle.update(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        bar = f"<progress value='{self._share:.3f}' style='width:160px'></progress>"
        words = f"<span style='{_LINE}'>{escape(self._text)}</span>"
        return {"text/plain": self._text, "text/html": f"<div>{bar} {words}</div>"}

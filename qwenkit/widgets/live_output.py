"""An output that changes while something goes on, and is plain HTML in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from html import escape
from threading import Event, Thread
from typing import Any, Self

from qwenkit.cluster.wait import Transition
from qwenkit.language import said
from qwenkit.widgets.display import CellOutput

_EVERY_S = 0.4


class LiveOutput:
    """Shows what ``look`` returns, HTML and text, again and again until it is finished.

    Where there is a front end it is a widget whose value changes, with a button if ``on_stop`` is
    given: JupyterLab serves that also while a cell runs. In the end the cell keeps plain HTML,
    which reports and papermill show too, and no widget is left.
    """

    def __init__(
        self, look: Callable[[], tuple[str, str]], *, on_stop: Callable[[], None] | None = None
    ) -> None:
        self._look, self._on_stop = look, on_stop
        self._widget: Any = None
        self._handle: Any = None
        self._finished = Event()
        self._final = CellOutput("", "")

    def show(self) -> Self:
        """Display it in the cell that runs, and change it from now on."""
        self._final = CellOutput(*self._look())
        try:
            from IPython.display import display
        except ModuleNotFoundError:  # then there is no front end
            return self
        self._widget = self._make()
        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        if self._widget is not None:
            page = self._widget.children[0]
            Thread(target=self._run, args=(page,), name="qwenkit-live", daemon=True).start()
        return self

    def finish(self) -> None:
        """Show the last state as plain HTML; call it while a cell runs, so that this keeps it."""
        if self._finished.is_set():
            return
        self._finished.set()
        self._final = CellOutput(*self._look())
        if self._handle is not None:
            self._handle.update(self._final)
        if self._widget is not None:
            box, self._widget = self._widget, None
            for widget in (*box.children, box):
                widget.close()

    def __repr__(self) -> str:
        return repr(self._final)

    def _make(self) -> Any:
        try:
            import ipywidgets
        except ModuleNotFoundError:
            return None
        shown = [ipywidgets.HTML(self._final.html, layout={"width": "100%", "margin": "0"})]
        if self._on_stop is not None:
            button = ipywidgets.Button(
                description=said("Stop"), icon="stop", tooltip=said("End it early")
            )
            button.on_click(self._stop)
            # JupyterLab sends a click to a subshell, which is free while a cell runs; ipykernel
            # 7.4 would hand it to the shell that made the button, which is not.
            vars(button.comm).pop("_reply_subshell_id", None)
            shown.append(button)
        return ipywidgets.VBox(shown, layout={"width": "100%", "overflow": "hidden"})

    def _stop(self, button: Any) -> None:
        button.disabled, button.description = True, said("Stopping")
        if self._on_stop is not None:
            self._on_stop()

    def _run(self, page: Any) -> None:
        while not self._finished.wait(_EVERY_S):
            page.value, _ = self._look()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, Any]:
        bundle = dict(self._widget._repr_mimebundle_()) if self._widget is not None else {}
        return bundle | self._final._repr_mimebundle_()


class LiveWait:
    """Shows what is waited for, and for how long: a context manager to pass as ``on_change``.

    >>> from qwenkit import LiveWait, Settings, wake
    >>> with LiveWait("one replica ready") as shown:
    ...     begin = wake(Settings(), on_change=shown)
    one replica ready: ...
    """

    def __init__(self, goal: str) -> None:
        self._goal, self._state = goal, "waiting"
        self._began, self._ended_s = time.monotonic(), 0.0
        self._output = LiveOutput(self._look)

    def __call__(self, change: Transition) -> None:
        """Take the state that the wait has come to."""
        self._state = change.state

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._output.show()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended_s = time.monotonic() - self._began
        self._output.finish()

    def _look(self) -> tuple[str, str]:
        seconds = self._ended_s or time.monotonic() - self._began
        text = said(f"{self._goal}: {self._state}, {seconds:.0f} s")
        return f"<div style='font-variant-numeric:tabular-nums'>{escape(text)}</div>", text

"""A load test while it runs: its figures and its picture, twice a second, and a button."""

from __future__ import annotations

from collections import deque
from html import escape

from qwenkit.capacity.simulation.clock import clock_note
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.inference.results import LoadRequest, LoadResult
from qwenkit.language import said
from qwenkit.loadtest.moment import Moment, spread
from qwenkit.loadtest.running import LoadTest
from qwenkit.loadtest.timeline import Timeline
from qwenkit.settings import Settings
from qwenkit.widgets.live_output import LiveOutput
from qwenkit.widgets.load_chart import draw_load, load_chart
from qwenkit.widgets.svg import Chart

_MOMENTS, _DOTS, _REDRAW_S = 600, 300, 1.0
_PAGE = "display:grid;grid-template-columns:minmax(0,720px);line-height:1.4"
_GRID = "display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:4px 16px"
# Each line keeps its place: what changes must not move what stands below it.
_VALUE = "font-variant-numeric:tabular-nums;overflow:hidden;white-space:nowrap"


class LiveLoad:
    """Shows a load test in the cell that it is displayed in, from then on to its end.

    The cell returns at once. ``settings`` say what a GPU costs. When the test's ``result`` has
    come, the cell keeps the whole picture.

    >>> from qwenkit import LiveLoad, Settings, start_test
    >>> from qwenkit.capacity.simulation.traffic import ClosedLoop
    >>> test = start_test(Settings(), ClosedLoop(((0, 2), (1, 0))))
    >>> live = LiveLoad(test, Settings())
    >>> test.result().load.summary()["errors"]
    {}
    >>> print("seen:", live)
    seen: ... requests, 0 failed, ready replicas ...
    """

    def __init__(self, test: LoadTest, settings: Settings) -> None:
        self._test, self._settings = test, settings
        self._moments: list[Moment] = []
        self._dots: deque[LoadRequest] = deque(maxlen=_DOTS)
        self._drawn: Chart | None = None
        self._timeline: Timeline | None = None
        self._output = LiveOutput(self._look, on_stop=test.stop)
        test.at_end(self._end)

    def __repr__(self) -> str:
        return self._look()[1]

    def _ipython_display_(self) -> None:
        self._output.show()

    def _end(self, timeline: Timeline | None) -> None:
        self._timeline = timeline
        self._output.finish()

    def _look(self) -> tuple[str, str]:
        """Return the present state as HTML and as text."""
        if self._timeline is not None:
            seen, end = self._timeline, self._timeline.at(self._timeline.end_s)
            told = [f"{whose}: no metrics ({why})" for whose, why in seen.unknown.items()]
            note = said("; ".join([str(seen), *_summary(seen.load), *self._notes(end), *told]))
            return f"{load_chart(seen).svg()}<div>{escape(note)}</div>", note
        now = self._test.snapshot()
        state = self._test.waits_for or f"load: {now.at_s:.0f} s"
        note = said("; ".join([state, *self._notes(now)]))
        grid = "".join(_figure(said(name), said(value)) for name, value in now.figures().items())
        html = (
            f"<div class='qwenkit-live' style='{_PAGE}'>"
            f"<div style='{_GRID}'>{grid}</div>{self._chart(now).svg()}"
            f"<div style='min-height:2.8em'>{escape(note)}</div></div>"
        )
        return html, f"{note}; {said(str(now))}"

    def _chart(self, now: Moment) -> Chart:
        """Return the picture so far, redrawn once a second."""
        if self._drawn is None or now.at_s - self._moments[-1].at_s >= _REDRAW_S:
            self._moments.append(now)
            older, newer = self._moments[: _MOMENTS // 2], self._moments[_MOMENTS // 2 :]
            self._moments = [*(older[::2] if len(self._moments) > _MOMENTS else older), *newer]
            last_s = self._dots[-1].end_s if self._dots else -1.0
            self._dots += [r for r in self._test.load.snapshot().recent if r.end_s > last_s]
            self._drawn = draw_load(self._moments, self._dots, text="load test")
        return self._drawn

    def _notes(self, now: Moment) -> list[str]:
        """Return what it cost so far, and the clock if it is not the modelled GPU's."""
        seconds = now.pod_seconds * self._settings.gpu_count
        price = example_price(self._settings)
        notes = [f"{seconds:.0f} GPU-seconds"]
        if price is not None:
            cost = seconds * now.clock / 3600 * price
            notes = [f"{notes[0]}, {cost:.2f} CNY at {price:g} an hour, an example price"]
        return [*notes, clock_note(now.clock)] if now.clock != 1 else notes


def _summary(load: LoadResult) -> list[str]:
    summary = load.summary()
    return [
        f"TTFT {spread(summary['ttft_s'])}",
        f"latency {spread(summary['latency_s'])}",
        f"{summary['tokens_per_second']:.0f} tokens/s",
        *(f"{count} × {kind}" for kind, count in summary["errors"].items()),
    ]


def _figure(name: str, value: str) -> str:
    return (
        f"<div><div style='opacity:.7;font-size:.85em'>{escape(name)}</div>"
        f"<div style='{_VALUE}' title='{escape(value)}'>{escape(value)}</div></div>"
    )

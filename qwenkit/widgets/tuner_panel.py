"""What the tuning panel shows: sliders in groups, the answer beside them, buttons that ask first.

Only ``TunerPanel`` needs ipywidgets. Buttons work in a thread, so that the kernel stays free.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from threading import Thread, get_ident
from typing import TYPE_CHECKING, Any

from qwenkit.autoscaling.annotation_reader import AnnotationReader
from qwenkit.autoscaling.annotations import RPS
from qwenkit.autoscaling.cluster_config import parse_config
from qwenkit.autoscaling.live_scaling import LiveScaling
from qwenkit.capacity.band import Band, basis
from qwenkit.capacity.search.autoscalers import HPA_GPU, KEDA_WAITING, KPA_CONCURRENCY, KPA_RPS
from qwenkit.capacity.simulation.clock import clock_note
from qwenkit.errors import QwenkitError
from qwenkit.language import said
from qwenkit.widgets.display import show_table

if TYPE_CHECKING:
    from qwenkit.cluster.change.proposal import Changed, ProposedChange
    from qwenkit.cluster.wait import OnChange

_Tuner = Any  # the ``Tuner``, whose module imports this one
_Say = Callable[[str], None]
_Make = Callable[..., "Changed"]

_COUNTED, _BOUNDS, _TRAFFIC = "What is counted", "Bounds", "Traffic"
_WINDOWS, _DOWN = "Windows and panic", "Down, and to zero"
_CHOICES = {_COUNTED: "autoscaler", _TRAFFIC: "traffic"}
# Slider: its group, its setting's name in the template, lowest and highest value, step.
_SLIDERS: Mapping[str, tuple[str, str, float, float, float]] = {
    "target": (_COUNTED, "target", 0.5, 32, 0.5),
    "utilization_percentage": (_COUNTED, "target-utilization-percentage", 10, 100, 5),
    "container_concurrency": (_COUNTED, "containerConcurrency", 0, 64, 1),
    "min_scale": (_BOUNDS, "min-scale", 0, 16, 1),
    "max_scale": (_BOUNDS, "max-scale", 0, 16, 1),
    "window_s": (_WINDOWS, "window", 6, 300, 1),
    "panic_window_percentage": (_WINDOWS, "panic-window-percentage", 1, 100, 1),
    "panic_threshold_percentage": (_WINDOWS, "panic-threshold-percentage", 110, 1000, 10),
    "target_burst_capacity": (_WINDOWS, "target-burst-capacity", -1, 300, 1),
    "scale_down_delay_s": (_DOWN, "scale-down-delay", 0, 600, 5),
    "retention_s": (_DOWN, "scale-to-zero-pod-retention-period", 0, 900, 30),
    "people": (_TRAFFIC, "people", 1, 40, 1),
}
KEYS = {name: row[1] for name, row in _SLIDERS.items()}
_UNITS = {HPA_GPU: " % of the GPU", KEDA_WAITING: " waiting"}
_ON_ITS_WAY_S = 0.2  # a slider's last move may come after the button that was pressed after it
_ZERO = {"container_concurrency": "no limit", "max_scale": "unset"}
_STYLE = """<style>
.qwenkit-tuner .qwenkit-columns {display: flex; flex-flow: row wrap; gap: 4px 28px}
.qwenkit-tuner .qwenkit-columns > * {flex: 1 1 380px; min-width: 0}
.qwenkit-tuner :is(.widget-box, .widget-html) {overflow: visible; height: auto}
.qwenkit-tuner .qwenkit-group {display: grid; gap: 4px 24px; margin: 0 4px 6px;
 grid-template-columns: repeat(auto-fit, minmax(200px, 1fr))}
.qwenkit-tuner .qwenkit-group > .widget-html {grid-column: 1 / -1; margin: 0}
.qwenkit-tuner :is(.widget-slider, .widget-dropdown) {display: grid; width: auto; height: auto;
 min-width: 0; margin: 0; grid-template: auto 24px / minmax(0, 1fr) auto; align-items: center}
.qwenkit-tuner :is(.widget-label, .widget-readout) {width: auto; max-width: none; min-width: 0;
 height: auto; text-align: left; white-space: normal; line-height: 1.3}
.qwenkit-tuner .widget-readout {min-width: 3em; text-align: right}
.qwenkit-tuner :is(.slider-container, select) {grid-area: 2 / 1 / 3 / 3; width: auto}
.qwenkit-tuner .slider-container {margin: 0 9px}
.qwenkit-tuner .noUi-handle {border: 2px solid var(--jp-ui-font-color1, #777)}
.qwenkit-tuner :is(td, th) {text-align: right; padding: 2px 12px 2px 0}
.qwenkit-tuner tr > :first-child {text-align: left; font-weight: normal}
.qwenkit-tuner .widget-html-content {line-height: 1.4}
.qwenkit-tuner pre {white-space: pre-wrap; word-break: normal; margin: 4px 0}
.qwenkit-tuner .qwenkit-bad {border-left: 4px solid var(--jp-error-color1, #d32f2f);
 padding-left: 8px}
</style>"""
# ipywidgets gives a slider's handle no name, and only a script can: the image never loads.
_NAMES = """<img hidden alt="" src="data:," onerror="setTimeout(() => {
 for (const each of this.closest('.qwenkit-tuner')?.querySelectorAll('.widget-slider') ?? [])
 for (const part of each.querySelectorAll('[role=slider], .widget-readout'))
 part.setAttribute('aria-label', each.querySelector('label').textContent)}, 300)">"""
_LIST = "line-height:1.35;margin:0 0 8px;padding-left:18px;font-size:0.92em"


@dataclass(frozen=True)
class TunerAnswer:
    """The settings, and what the simulation answers; None where no request was answered.

    ``settings`` has the sliders' names; a ``max_scale`` of 0 is unset. Times are seconds; hours
    and cost are those of the whole traffic, at an example price.
    """

    settings: Mapping[str, float]
    traffic: str
    autoscaler: str
    people: int
    effective_target: float
    peak_replicas: int
    requests: int
    ttft_p95_s: float | None
    tpot_p95_s: float | None
    tokens_per_second: float | None
    gpu_hours: float
    cost_cny: float | None


class TunerPanel:
    """The live panel. ``box`` is the widget, ``controls`` its sliders and choices by name."""

    def __init__(self, tuner: _Tuner) -> None:
        import ipywidgets as w

        self._tuner, self._turn, self._showing = tuner, 0, 0
        self._sure: Callable[[OnChange], Changed] | None = None
        self.controls: dict[str, Any] = {}
        parts: list[Any] = []
        for title in dict.fromkeys(row[0] for row in _SLIDERS.values()):
            rows = {name: row for name, row in _SLIDERS.items() if row[0] == title}
            inside = {name: _slider(w, name, *row[1:]) for name, row in rows.items()}
            if choice := _CHOICES.get(title):
                options = [(said(each), each) for each in tuner.choices[choice]]
                inside = {choice: w.Dropdown(options=options, description=said(choice))} | inside
            self.controls |= inside
            parts.append(w.Box([w.HTML(f"<b>{said(title)}</b>"), *inside.values()]))
            parts[-1].add_class("qwenkit-group")
        self._answer, self._said, self._drawn = w.HTML(), w.HTML(), w.HTML()
        styles = {"Apply…": "primary", "Undo…": "", "Confirm": "danger", "Cancel": ""}
        self.buttons = {
            name: w.Button(description=said(name), button_style=style)
            for name, style in styles.items()
        }
        for button in self.buttons.values():
            button.on_click(self._pressed)
        first, self._ask = (w.HBox(list(self.buttons.values())[i : i + 2]) for i in (0, 2))
        self._stop_asking()
        acts = [first, self._said, self._ask] if tuner.cluster else []  # else it only proposes
        right = w.VBox([self._answer, *acts, self._drawn])
        columns = w.Box([w.VBox(parts), right])
        columns.add_class("qwenkit-columns")
        self.box = w.VBox([w.HTML(_STYLE), columns])
        self.box.add_class("qwenkit-tuner")
        self.show()
        for name, control in self.controls.items():
            control.observe(partial(self._moved, name), names="value")

    def show(self, error: str = "") -> None:
        """Set the sliders to the tuner's settings, and show its answer beside them."""
        now = self._tuner.settings
        self._showing = get_ident()  # what moves in this thread now was not moved by the user
        for name, control in self.controls.items():
            if name in _ZERO and now[name] >= len(control.options):
                control.options = _options(name, now[name])
            elif hasattr(control, "max"):  # the running settings may lie outside
                control.min, control.max = min(control.min, now[name]), max(control.max, now[name])
            control.value = now[name]
        self._drawn.value = drawn_html(self._tuner)  # first: the bands of the figures take longer
        self._answer.value = error + answer_html(self._tuner) + _NAMES
        self._showing = 0

    def _moved(self, name: str, change: Mapping[str, Any]) -> None:
        """Answer a moved slider; a refused setting changes nothing, and says why.

        JupyterLab handles each widget in a thread of its own: sliders may move at the same time.
        """
        if self._showing == get_ident():
            return
        self._stop_asking()
        with self._tuner.lock:
            try:
                self._tuner.propose(**{name: change["new"]})
            except QwenkitError as error:
                self.show(error_html(error))

    def _pressed(self, button: Any) -> None:
        name = next(name for name, each in self.buttons.items() if each is button)
        sure = self._sure
        self._stop_asking()
        if name == "Apply…":
            self._work(lambda say: self._asks(say, self._tuner.proposed, self._tuner.apply))
        elif name == "Undo…":
            self._work(lambda say: self._asks(say, self._tuner.proposed_undo, self._tuner.undo))
        elif name == "Confirm" and sure is not None:
            # A revision that does not start may be taken back before its deadline.
            self._work(lambda say: _made(say, sure), free="Undo…")
        else:
            self._said.value = ""

    def _stop_asking(self) -> None:
        self._sure, self._ask.layout.display = None, "none"

    def _asks(self, say: _Say, propose: Callable[[], ProposedChange], make: _Make) -> None:
        time.sleep(_ON_ITS_WAY_S)
        seen = None
        while seen is not self._tuner.settings:  # a slider may move meanwhile
            seen, change = self._tuner.settings, propose()
        say(change_html(change))
        works = next((one.mode for one in change.modes if one.works), None)
        chosen = change.mode(works)  # says why where none works
        self._sure = lambda on_change: make(change, mode=chosen.mode, on_change=on_change)
        gap = f" {chosen.mode}" if chosen.gap_s != 0 else ""
        self.buttons["Confirm"].description = said(f"Confirm{gap}")
        self._ask.layout.display = ""

    def _work(self, work: Callable[[_Say], None], *, free: str = "") -> None:
        """Work in a thread; newer work takes the place of older. An error stays until then."""
        self._turn += 1
        turn, self._said.value = self._turn, ""

        def say(html: str) -> None:
            if turn == self._turn:
                self._said.value = html

        def run() -> None:
            try:
                work(say)
            except Exception as error:  # in a thread nobody else would see it
                say(self._said.value + error_html(error))
            finally:
                if turn == self._turn:
                    self._enable(*self.buttons)

        self._enable(free)
        Thread(target=run, name="qwenkit-tuner", daemon=True).start()

    def _enable(self, *names: str) -> None:
        for name, button in self.buttons.items():
            button.disabled = name not in names


def slider_values(running: LiveScaling) -> dict[str, Any]:
    """Return how a revision scales as the sliders' values."""
    spec = running.spec
    percent = AnnotationReader(running.annotations).number("panic-window-percentage")
    return {
        "autoscaler": KPA_RPS if spec.metric == RPS else KPA_CONCURRENCY,
        "target": spec.total,
        "utilization_percentage": round(spec.utilization * 100),
        "container_concurrency": spec.container_concurrency,
        "min_scale": spec.min_scale,
        "max_scale": spec.max_scale,
        "window_s": round(spec.stable_window_s),
        "panic_window_percentage": round(
            percent or parse_config(running.config).panic_window_percentage
        ),
        "panic_threshold_percentage": round(100 * spec.panic_threshold),
        "target_burst_capacity": round(spec.target_burst_capacity),
        "scale_down_delay_s": round(spec.scale_down_delay_s),
        "retention_s": round(spec.retention_s),
    }


def answer_html(tuner: _Tuner) -> str:
    """Return the figures of the proposed settings beside those of the settings that serve."""
    before = figures(tuner, "before")
    rows = "".join(
        f"<tr><th scope='row'>{said(name)}</th><td>{said(before[name])}</td>"
        f"<td><b>{said(now)}</b></td></tr>"
        for name, now in figures(tuner, "value").items()
    )
    gpu = f"{tuner.server.gpu.name}: speeds are {basis(tuner.server.time)}"
    gpu = "; ".join(filter(None, (gpu, clock_note(tuner.server.clock))))
    return (
        f"<table><caption style='text-align:left'>{escape(said(gpu))}</caption><thead><tr><td></td>"
        f"<th scope='col'>{escape(said(f'{tuner.running.revision}, serves'))}</th>"
        f"<th scope='col'>{said('proposed')}</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def drawn_html(tuner: _Tuner) -> str:
    """Return the picture of the proposed settings, and the rulebook's advice about them."""
    advice = "".join(
        f"<li><b>{said(each.level)}</b>: {escape(said(f'{each.message}. Fix: {each.fix}'))}</li>"
        for each in tuner.advice
    )
    return f"{tuner.picture.svg()}<ul style='{_LIST}'>{advice}</ul>"


def error_html(error: Exception) -> str:
    """Return an error as HTML: what, why, its evidence and the fix."""
    return f"<pre class='qwenkit-bad' role='alert'>{escape(str(error))}</pre>"


def change_html(change: ProposedChange) -> str:
    """Return what a change would do as HTML: the difference, the new revision and its GPUs."""
    rows = [
        (each.name, *("unset" if text is None else text for text in (each.before, each.after)))
        for each in change.diff
    ]
    settings = show_table(rows, "setting", "now", "then")._repr_mimebundle_()["text/html"]
    ways = [(one.mode, one.outcome, one.why) for one in change.modes]
    modes = show_table(ways, "mode", "outcome", "why")._repr_mimebundle_()["text/html"]
    where = f"ksvc {change.service}, {change.where}"
    new = change.next_revision or "a new revision"
    text = (
        f"{where}: {new} will follow {change.revision}. New pods: {change.pods}. "
        f"GPUs: {change.gpus_needed} needed, {change.gpus}."
    )
    shown = escape(said(text)).replace(escape(said(new)), f"<b>{escape(said(new))}</b>", 1)
    return f"<p role='status'>{shown}</p>{settings}{modes}"


def _made(say: _Say, make: Callable[[OnChange], Changed]) -> None:
    """Make a change; say each transition of the wait, and the end."""
    lines: list[str] = []

    def add(line: object) -> None:
        lines.append(said(str(line)))
        text = escape("\n".join(lines[-12:]))
        say(f"<pre role='status'>{text}</pre>")

    add(make(add))


def figures(tuner: _Tuner, which: str) -> dict[str, str]:
    """Return the figures of ``before`` or ``value`` for people, by heading."""
    value: TunerAnswer = getattr(tuner, which)
    edges: list[TunerAnswer] = tuner.edges(which)

    def band(name: str, unit: str = "") -> str:
        at, *others = (getattr(each, name) for each in (value, *edges))
        if at is None:
            return "-"
        return Band.over(at, *(math.inf if each is None else each for each in others)).text(unit)

    return {
        "effective target": f"{value.effective_target:g}{_UNITS.get(value.autoscaler, '')}",
        "max-scale": f"{value.settings['max_scale'] or _ZERO['max_scale']}",
        "replicas ready, at most": band("peak_replicas"),
        "requests answered": band("requests"),
        "TTFT p95": band("ttft_p95_s", "s"),
        "TPOT p95": band("tpot_p95_s", "s"),
        "tokens per second": band("tokens_per_second"),
        "GPU-hours": band("gpu_hours"),
        "cost, an example price": band("cost_cny", "CNY"),
    }


def _slider(w: Any, name: str, key: str, low: float, high: float, step: float) -> Any:
    label = said(f"{key}, s" if name.endswith("_s") else key)
    common = {"description": label, "continuous_update": False}
    if name in _ZERO:
        return w.SelectionSlider(options=_options(name, high), **common)
    kind = w.FloatSlider if name == "target" else w.IntSlider
    return kind(min=low, max=high, step=step, value=low, **common)


def _options(name: str, most: float) -> list[tuple[str, int]]:
    return [(said(_ZERO[name]), 0), *((str(each), each) for each in range(1, int(most) + 1))]

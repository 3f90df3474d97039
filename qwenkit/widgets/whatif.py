"""What-if panel: sliders propose scaling settings, the exact autoscaler answers.

The answer is simulated in virtual time; nothing here touches a cluster. The panel works without
a front end: ``panel.value`` holds the current answer from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.advice import ScalingContext, advise
from qwenkit.capacity.environment import Environment
from qwenkit.capacity.finding import Finding
from qwenkit.capacity.result import SimulationResult
from qwenkit.capacity.server import VllmServer
from qwenkit.capacity.simulate import simulate
from qwenkit.capacity.traffic import ClosedLoop, Lengths
from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.widgets.charts import draw_run
from qwenkit.widgets.svg import Chart

QUIET_S, BUSY_S = 20, 180
_COMPACT = "line-height:1.35;margin:0 0 8px;padding-left:18px;font-size:0.92em"
_LENGTHS = Lengths(prompt_tokens=64, output_tokens=128)


@dataclass(frozen=True)
class WhatIfAnswer:
    """The sliders' values, and what the simulation answers: seconds, cost in GPU-hours."""

    target: float
    utilization_percentage: int
    min_scale: int
    max_scale: int
    window_s: int
    clients: int
    effective_target: float
    peak_replicas: int
    ttft_p95_s: float
    requests: int
    gpu_hours: float


class WhatIf:
    """Sliders over one revision's scaling, and the simulated answer.

    Args:
        annotations: the revision's ``autoscaling.knative.dev/…`` annotations.
        gpu: the GPU whose speed the simulation assumes (modelled, ± 40 %).
        model: the model served.
        startup_s: how long a pod takes from created to ready.
        clients: the initial number of closed-loop clients.

    >>> from qwenkit import Cluster, Settings, WhatIf, live_scaling
    >>> running = live_scaling(Cluster.connect(Settings()), Settings().service)
    >>> panel = WhatIf(running.annotations, gpu="V100-16")
    >>> panel.propose(max_scale=2).peak_replicas
    2
    """

    def __init__(
        self,
        annotations: Mapping[str, str],
        *,
        gpu: str,
        model: str = "Qwen-7B-Chat-Int8",
        startup_s: float = 50.0,
        clients: int = 6,
    ) -> None:
        self._base = dict(annotations)
        self._server = VllmServer(gpu, model)
        self._context = ScalingContext(
            cold_start_s=startup_s,
            kv_sequences=self._server.kv_tokens / (_LENGTHS.prompt_tokens + _LENGTHS.output_tokens),
        )
        self._environment = Environment(startup_s=startup_s, initial_ready=1)
        spec = parse_spec(self._base)
        self._sliders: dict[str, Any] = {
            "target": spec.total,
            "utilization_percentage": round(spec.utilization * 100),
            "min_scale": spec.min_scale,
            "max_scale": spec.max_scale or 8,
            "window_s": round(spec.stable_window_s),
            "clients": clients,
        }
        self._box: _Box | None = None
        self.value, self.picture, self.advice = self._answer(self._sliders)

    def __repr__(self) -> str:
        return _sentence(self.value)

    def propose(self, **sliders: float) -> WhatIfAnswer:
        """Move sliders from Python; return the new answer.

        Raises:
            InvalidValue: no such slider, or a value that the autoscaler refuses.
        """
        moved = self._sliders | {name: self._number(name, sliders[name]) for name in sliders}
        self.value, self.picture, self.advice = self._answer(moved)
        self._sliders = moved
        if self._box is not None:
            self._box.show(self._sliders, self._html())
        return self.value

    @property
    def controls(self) -> Mapping[str, Any]:
        """The live sliders by name; none where ipywidgets is not installed."""
        box = self._live()
        return box.controls if box else {}

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, Any]:
        static = {"text/plain": repr(self), "text/html": self._html()}
        box = self._live()
        live: dict[str, Any] = box.panel._repr_mimebundle_(**keywords) if box else {}
        return (live or {}) | static

    def _live(self) -> _Box | None:
        if self._box is None:
            try:
                self._box = _Box(self._sliders, self._moved)
            except ModuleNotFoundError:  # the static chart is enough
                return None
            self._box.show(self._sliders, self._html())
        return self._box

    def _answer(self, now: Mapping[str, Any]) -> tuple[WhatIfAnswer, Chart, list[Finding]]:
        annotations = self._base | {
            f"{PREFIX}target": f"{now['target']:g}",
            f"{PREFIX}target-utilization-percentage": f"{now['utilization_percentage']:g}",
            f"{PREFIX}min-scale": str(now["min_scale"]),
            f"{PREFIX}max-scale": str(now["max_scale"]),
            f"{PREFIX}window": f"{now['window_s']}s",
        }
        spec = parse_spec(annotations)
        schedule = ((0, 0), (QUIET_S, now["clients"]), (QUIET_S + BUSY_S, 0))
        result = simulate(
            spec,
            ClosedLoop(schedule, _LENGTHS),
            self._server,
            environment=self._environment,
            duration_s=QUIET_S + BUSY_S + 2 * spec.stable_window_s,
        )
        advice = advise(spec, annotations=annotations, context=self._context)
        return _answer(now, spec.target, result), draw_run(result), advice

    def _moved(self, sliders: dict[str, Any]) -> None:
        """Answer moved sliders of the live panel; a refused setting changes nothing."""
        try:
            self.propose(**sliders)
        except QwenkitError as error:
            problem = f"<p style='color:#cf222e'>{escape(str(error))}</p>"
            if self._box is not None:
                self._box.show(self._sliders, problem + self._html())

    def _number(self, name: str, value: float) -> float:
        if name not in self._sliders:
            raise InvalidValue("slider", name, f"one of {', '.join(self._sliders)}")
        if name == "target":
            return value
        if not float(value).is_integer():
            raise InvalidValue(name, value, "a whole number")
        return int(value)

    def _html(self) -> str:
        advice = "".join(
            f"<li><b>{escape(finding.level)}</b>: {escape(finding.message)}. "
            f"Fix: {escape(finding.fix)}</li>"
            for finding in self.advice
        )
        sentence = f"<p>{escape(_sentence(self.value))}</p>"
        return f"{sentence}<ul style='{_COMPACT}'>{advice}</ul>{self.picture.svg()}"


class _Box:
    """The live panel; only this needs ipywidgets.

    ``panel`` is the widget, ``controls`` its sliders by name. ``moved`` is called with all values
    when the user has moved one.
    """

    def __init__(self, sliders: Mapping[str, Any], moved: Callable[[dict[str, Any]], None]) -> None:
        import ipywidgets as w

        # As wide as its column, so that sliders fit a narrow page.
        wide = {
            "style": {"description_width": "initial"},
            "layout": w.Layout(width="auto"),
            "continuous_update": False,
        }
        self._moved = moved
        self.controls = {
            "target": w.FloatSlider(min=0.5, max=16, step=0.5, description="target", **wide),
            "utilization_percentage": w.IntSlider(
                min=10, max=100, step=5, description="utilisation %", **wide
            ),
            "min_scale": w.IntSlider(min=0, max=8, description="min-scale", **wide),
            "max_scale": w.IntSlider(min=1, max=8, description="max-scale", **wide),
            "window_s": w.IntSlider(min=6, max=300, description="window, s", **wide),
            "clients": w.IntSlider(min=0, max=40, description="clients", **wide),
        }
        self._answer = w.HTML()
        grid = w.GridBox(
            list(self.controls.values()),
            layout=w.Layout(
                grid_template_columns="repeat(auto-fit, minmax(220px, 1fr))",
                width="100%",
                max_width="720px",
            ),
        )
        self.panel = w.VBox([grid, self._answer])
        self.show(sliders, "")
        for control in self.controls.values():
            control.observe(self._changed, names="value")

    def show(self, sliders: Mapping[str, Any], html: str) -> None:
        """Set the sliders, and show the answer below them."""
        self._showing = True  # the program moves the sliders now, not the user
        for name, control in self.controls.items():
            control.min = min(control.min, sliders[name])
            control.max = max(control.max, sliders[name])
            control.value = sliders[name]
        self._answer.value = html
        self._showing = False

    def _changed(self, _: Any) -> None:
        if not self._showing:
            self._moved({name: control.value for name, control in self.controls.items()})


def _answer(sliders: Mapping[str, Any], effective: float, result: SimulationResult) -> WhatIfAnswer:
    requests = result.requests
    return WhatIfAnswer(
        **sliders,
        effective_target=round(effective, 4),
        peak_replicas=max(result.ready, default=0),
        ttft_p95_s=round(requests.ttft(95), 2) if requests.answered else 0.0,
        requests=requests.answered,
        gpu_hours=round(result.gpu_seconds / 3600, 3),
    )


def _sentence(value: WhatIfAnswer) -> str:
    return (
        f"{value.clients} client{'s' * (value.clients != 1)}, effective target "
        f"{value.effective_target:g}: at most {value.peak_replicas} replicas ready, "
        f"TTFT p95 {value.ttft_p95_s:g} s, {value.requests} answers, "
        f"{value.gpu_hours:g} GPU-hours (modelled, ± 40 %)"
    )

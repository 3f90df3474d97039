"""The what-if panel: sliders propose a scaling, the exact autoscaler answers in virtual time.

Nothing here touches a cluster. The panel works without a front end: its first answer is there
when it is made, and ``panel.value`` holds the current one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.autoscaling.environment import Environment
from qwenkit.autoscaling.fleet import Startup
from qwenkit.autoscaling.result import Result
from qwenkit.autoscaling.server import VllmServer
from qwenkit.autoscaling.simulate import simulate
from qwenkit.autoscaling.traffic import ClosedLoop, Lengths
from qwenkit.errors import QwenkitError
from qwenkit.widgets.charts import Chart, whatif_chart

PREFIX = "autoscaling.knative.dev/"
QUIET_S, BUSY_S = 20, 180


@dataclass(frozen=True)
class Choice:
    """What the sliders say and what the simulation answers. Seconds; cost in GPU-hours."""

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
        clients: closed-loop clients at the start.
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
        self._environment = Environment(
            startup=Startup(schedule_s=0, mount_s=0, load_s=startup_s, ready_s=0), initial_ready=1
        )
        spec = parse_spec(self._base)
        self._sliders: dict[str, Any] = {
            "target": spec.total,
            "utilization_percentage": round(spec.utilization * 100),
            "min_scale": spec.min_scale,
            "max_scale": spec.max_scale or 8,
            "window_s": round(spec.stable_window_s),
            "clients": clients,
        }
        self.value, self.chart = self._answer()

    def __repr__(self) -> str:
        return _sentence(self.value)

    def propose(self, **sliders: float) -> Choice:
        """Move sliders from Python; return the new answer.

        Raises:
            InvalidValue: the autoscaler does not know such a setting.
        """
        before = dict(self._sliders)
        self._sliders |= sliders
        try:
            self.value, self.chart = self._answer()
        except QwenkitError:
            self._sliders = before
            raise
        return self.value

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, Any]:
        static = {
            "text/plain": repr(self),
            "text/html": f"<p>{escape(repr(self))}</p>{self.chart.svg()}",
        }
        live: dict[str, Any] = self._box._repr_mimebundle_(**keywords) or {}
        return live | static

    def _answer(self) -> tuple[Choice, Chart]:
        now = self._sliders
        spec = parse_spec(
            self._base
            | {
                f"{PREFIX}target": f"{now['target']:g}",
                f"{PREFIX}target-utilization-percentage": f"{now['utilization_percentage']:g}",
                f"{PREFIX}min-scale": str(now["min_scale"]),
                f"{PREFIX}max-scale": str(now["max_scale"]),
                f"{PREFIX}window": f"{now['window_s']}s",
            }
        )
        schedule = ((0, 0), (QUIET_S, now["clients"]), (QUIET_S + BUSY_S, 0))
        result = simulate(
            spec,
            ClosedLoop(schedule, Lengths(prompt_tokens=64, output_tokens=128)),
            self._server,
            environment=self._environment,
            duration_s=QUIET_S + BUSY_S + 2 * spec.stable_window_s,
        )
        return _choice(now, spec.target, result), whatif_chart(result)

    @cached_property
    def _box(self) -> Any:
        """The live panel; made when first shown, so that nothing else needs ipywidgets."""
        import ipywidgets as w

        wide = {"style": {"description_width": "initial"}, "continuous_update": False}
        controls = {
            "target": w.FloatSlider(min=0.5, max=16, step=0.5, description="target", **wide),
            "utilization_percentage": w.IntSlider(
                min=10, max=100, step=5, description="utilisation %", **wide
            ),
            "min_scale": w.IntSlider(min=0, max=8, description="min-scale", **wide),
            "max_scale": w.IntSlider(min=1, max=8, description="max-scale", **wide),
            "window_s": w.IntSlider(min=6, max=300, description="window, s", **wide),
            "clients": w.IntSlider(min=0, max=40, description="clients", **wide),
        }
        answer = w.HTML(self._html())

        def moved(_: Any) -> None:
            try:
                self.propose(**{name: control.value for name, control in controls.items()})
                answer.value = self._html()
            except QwenkitError as error:
                answer.value = f"<p style='color:#cf222e'>{escape(str(error))}</p>"

        for name, control in controls.items():
            control.value = self._sliders[name]
            control.observe(moved, names="value")
        grid = w.GridBox(
            list(controls.values()),
            layout=w.Layout(grid_template_columns="repeat(3, 1fr)", width="680px"),
        )
        return w.VBox([grid, answer])

    def _html(self) -> str:
        return f"<p>{escape(_sentence(self.value))}</p>{self.chart.svg()}"


def _choice(sliders: Mapping[str, Any], effective: float, result: Result) -> Choice:
    requests = result.requests
    return Choice(
        **sliders,
        effective_target=round(effective, 4),
        peak_replicas=max(result.ready, default=0),
        ttft_p95_s=round(requests.ttft(95), 2) if requests.answered else 0.0,
        requests=requests.answered,
        gpu_hours=round(result.gpu_seconds / 3600, 3),
    )


def _sentence(value: Choice) -> str:
    return (
        f"{value.clients} clients, effective target {value.effective_target:g}: "
        f"at most {value.peak_replicas} replicas ready, TTFT p95 {value.ttft_p95_s:g} s, "
        f"{value.requests} answers, {value.gpu_hours:g} GPU-hours (modelled, ± 40 %)"
    )

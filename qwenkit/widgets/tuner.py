"""The tuning panel: sliders propose scaling settings, the exact autoscaler answers, buttons act.

The answer is simulated in virtual time; nothing touches a cluster but ``apply`` and ``undo``. The
panel works without a front end: ``tuner.value`` holds the current answer from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any

from qwenkit.autoscaling.annotation_keys import ALIASES, PREFIX
from qwenkit.autoscaling.annotations import CONCURRENCY, RPS, ScalingSpec, parse_spec
from qwenkit.autoscaling.live_scaling import LiveScaling
from qwenkit.capacity.advice import ScalingContext, advise
from qwenkit.capacity.band import basis
from qwenkit.capacity.search.autoscalers import (
    HPA_GPU,
    KEDA_WAITING,
    KPA_CONCURRENCY,
    KPA_RPS,
    scaling_by,
)
from qwenkit.capacity.simulation.arrivals import night_and_day
from qwenkit.capacity.simulation.control import Scaling
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traces import read_trace
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths, Traffic, bursts
from qwenkit.errors import InvalidValue, PreflightError, QwenkitError
from qwenkit.language import said
from qwenkit.widgets.charts import draw_run
from qwenkit.widgets.tuner_panel import (
    KEYS,
    TunerAnswer,
    TunerPanel,
    answer_html,
    drawn_html,
    figures,
    slider_values,
)

if TYPE_CHECKING:  # the panel itself needs no client of a cluster
    from qwenkit.cluster.change.proposal import Changed, ProposedChange
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.wait import OnChange

_METRICS = {KPA_CONCURRENCY: CONCURRENCY, KPA_RPS: RPS}
# To compare with: no annotation chooses these. Each takes its target from another slider.
_OTHERS = {HPA_GPU: "utilization_percentage", KEDA_WAITING: "target"}
_MOST_PODS = 8  # of a simulated autoscaler that must have a limit, where none is set
_LONGEST_CHAT_S = 3600.0
_LENGTHS = Lengths(prompt_tokens=64, output_tokens=128)
# By name: people, the lengths of their requests, and how long people chat, to traffic.
_TRAFFIC: Mapping[str, Callable[[int, Lengths, float], Traffic]] = {
    "people in a chat": lambda n, each, s: ClosedLoop(((0, 0), (20, n), (20 + s, 0)), each),
    "a burst every 5 minutes": lambda n, each, _: bursts(
        n / 40, n / 5, 900, every_s=300, burst_s=60, lengths=each
    ),
    "night and day in 20 minutes": lambda n, each, _: night_and_day(
        0, n / 10, 1200, every_s=1200, lengths=each
    ),
    # The schedule of a run recorded on a real cluster with the documentation's setting.
    "the documentation's, as recorded": lambda _n, each, _: ClosedLoop(
        ((0, 0), (10, 1), (60, 5), (150, 0)), each
    ),
}


class Tuner:
    """Sliders over one revision's scaling, the simulated answer, and buttons that apply it.

    Args:
        running: how the revision scales that serves now.
        server: what runs in a pod: GPU, model, and the target's clock.
        startup_s: a pod's measured time from created to ready; None for an estimate.
        gpus: pods that get a GPU; None for no limit.
        people: how many send requests at first.
        lengths: tokens of each request.
        trace: arrivals of your own, or a trace's text; offered as "your trace".
        cluster: where ``apply`` acts; without it the panel only proposes.
        timeout_s: how long an applied revision may take to become ready.

    >>> from qwenkit import Cluster, Settings, Tuner, live_scaling
    >>> from qwenkit.capacity.simulation.server import VllmServer
    >>> running = live_scaling(Cluster.connect(Settings()), Settings().service)
    >>> tuner = Tuner(running, server=VllmServer("V100-16", "Qwen-7B-Chat-Int8"))
    >>> tuner.propose(max_scale=2).peak_replicas
    2
    """

    def __init__(
        self,
        running: LiveScaling,
        *,
        server: VllmServer,
        startup_s: float | None = None,
        gpus: int | None = None,
        people: int = 6,
        lengths: Lengths = _LENGTHS,
        trace: Traffic | str | None = None,
        cluster: Cluster | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self.server, self.cluster, self._timeout_s = server, cluster, timeout_s
        self._lengths = lengths
        self._trace = read_trace(trace, lengths=lengths).load if isinstance(trace, str) else trace
        self.choices = {
            "autoscaler": [*_METRICS, *_OTHERS],
            "traffic": [*_TRAFFIC, *(["your trace"] if trace else [])],
        }
        kv = server.kv_tokens / (lengths.prompt_tokens + lengths.output_tokens)
        price = server.gpu.example_price_cny or 0.0
        there = Environment.of(server, startup_s=startup_s, gpus=gpus, price_per_gpu_hour=price)
        self._environment = there
        self._context = ScalingContext(cold_start_s=there.startup_s, gpus=gpus, kv_sequences=kv)
        self._asked: dict[str, tuple[Mapping[str, Any], ScalingSpec]] = {}
        self._edges: dict[str, list[TunerAnswer]] = {}
        self._applied: list[ProposedChange] = []
        self._panel: TunerPanel | None = None
        self.lock = RLock()  # a button's thread may end while a slider moves
        self._now: dict[str, Any] = {"traffic": self.choices["traffic"][0], "people": people}
        self._checked("people", people)
        self._start_from(running)

    def __repr__(self) -> str:
        value, shown = self.value, figures(self, "value")
        return said(
            f"{value.traffic}, effective target {value.effective_target:g}: at most "
            f"{shown['replicas ready, at most']} replicas ready, TTFT p95 {shown['TTFT p95']}, "
            f"{shown['requests answered']} answers, {shown['GPU-hours']} GPU-hours; speeds are "
            f"{basis(self.server.time)}"
        )

    def edges(self, name: str) -> list[TunerAnswer]:
        """Return ``before`` or ``value`` as slow, and as fast, as the model may be wrong."""
        with self.lock:
            if name not in self._edges:
                now, spec = self._asked[name]
                servers = self.server.edges()
                self._edges[name] = [self._simulated(now, spec, each)[0] for each in servers]
            return self._edges[name]

    def propose(self, **sliders: Any) -> TunerAnswer:
        """Move sliders from Python; return the new answer. It changes no cluster.

        Raises:
            InvalidValue: no such slider, or a value that the autoscaler refuses.
        """
        with self.lock:
            moved = self._now | {name: self._checked(name, sliders[name]) for name in sliders}
            self._answer(moved)
            self._now = moved
            if self._panel is not None:
                self._panel.show()
            return self.value

    @property
    def settings(self) -> Mapping[str, Any]:
        """The value of each slider and choice by name."""
        return self._now

    @property
    def controls(self) -> Mapping[str, Any]:
        """The live sliders and choices by name; none where ipywidgets is not installed."""
        panel = self._live()
        return panel.controls if panel else {}

    def proposed(self) -> ProposedChange:
        """Return what ``apply`` would do: difference, revision, GPUs; change nothing.

        Raises:
            PreflightError: the panel has no cluster, or nothing was moved.
            Rejected: the webhook refuses a value.
        """
        from qwenkit.cluster.change.proposal import propose_change

        cluster = self._named_cluster()
        with self.lock:  # a slider that moved may not have its answer yet
            now, changes = self._now, self._changes(self._now)
        if (chosen := now["autoscaler"]) in _OTHERS:
            why, fix = "it is simulated to compare with", "choose one that is a KPA"
            raise PreflightError(f"no annotation gives a Service {chosen}", why, fix)
        change = propose_change(
            cluster,
            self.running.service,
            changes,
            container_concurrency=now["container_concurrency"],
            clock=self.server.clock,
            cold_start_s=self._environment.startup_s,
        )
        if not change.diff:
            why = "the sliders stand at the settings that serve"
            raise PreflightError("there is nothing to apply", why, "move a slider first")
        return change

    def proposed_undo(self) -> ProposedChange:
        """Return what ``undo`` would do; change nothing.

        Raises:
            PreflightError: nothing was applied that could be taken back.
            Conflict: somebody has changed the settings since.
        """
        from qwenkit.cluster.change.proposal import propose_undo

        if not self._applied:
            why = "this panel has applied no change that is left"
            raise PreflightError("there is nothing to undo", why, "apply a change first")
        return propose_undo(self._applied[-1])

    def apply(
        self,
        change: ProposedChange | None = None,
        *,
        mode: str | None = None,
        on_change: OnChange | None = None,
    ) -> Changed:
        """Apply the proposal, which makes a new revision; wait until it is ready.

        Raises:
            NotReady: the mode does not work, as without a free GPU; or the new revision fails,
                and was taken back.
            QwenkitError: as ``proposed``.
        """
        change = change or self.proposed()
        return self._make(change, mode, on_change, [*self._applied, change])

    def undo(
        self,
        change: ProposedChange | None = None,
        *,
        mode: str | None = None,
        on_change: OnChange | None = None,
    ) -> Changed:
        """Take the last applied change back, in a new revision; errors as ``apply``'s."""
        change = change or self.proposed_undo()
        return self._make(change, mode, on_change, self._applied[:-1])

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, Any]:
        static = {"text/plain": repr(self), "text/html": answer_html(self) + drawn_html(self)}
        panel = self._live()
        live: dict[str, Any] = panel.box._repr_mimebundle_(**keywords) if panel else {}
        return (live or {}) | static

    def _live(self) -> TunerPanel | None:
        if self._panel is None:
            try:
                self._panel = TunerPanel(self)
            except ModuleNotFoundError:  # the static answer is enough
                return None
        return self._panel

    def _named_cluster(self) -> Cluster:
        if self.cluster is None:
            fix = "Tuner(…, cluster=Cluster.connect(settings)), with the context's name in them"
            raise PreflightError("the panel acts on no cluster", "none was named for it", fix)
        return self.cluster

    def _make(
        self,
        change: ProposedChange,
        mode: str | None,
        on_change: OnChange | None,
        applied: list[ProposedChange],
    ) -> Changed:
        """Make a change; ``applied`` are then those that can be taken back, also while it waits."""
        from qwenkit.cluster.live_scaling import live_scaling

        before, self._applied = self._applied, applied
        try:
            done = change.apply(mode, timeout_s=self._timeout_s, on_change=on_change)
        except QwenkitError:
            self._applied = before  # it was refused, or rolled back
            raise
        self._start_from(live_scaling(change.cluster, self.running.service))
        return done

    def _start_from(self, running: LiveScaling) -> None:
        """Take a revision's settings as those that serve; the sliders go there."""
        with self.lock:
            self.running, self._base = running, slider_values(running)
            self._now |= self._base
            self._load: tuple[str, int] | None = None  # what ``before`` was simulated for
            self._answer(self._now)
            if self._panel is not None:
                self._panel.show()

    def _changes(self, now: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the annotations that the sliders have moved; None for one to remove."""
        changes: dict[str, str | None] = {}
        for name in self._base.keys() - {"autoscaler", "container_concurrency"}:
            key = KEYS[name]
            if now[name] != self._base[name]:
                text = f"{now[name]}" + ("s" if name.endswith("_s") else "")
                changes[PREFIX + key] = None if (name, now[name]) == ("max_scale", 0) else text
        if now["autoscaler"] in _METRICS and now["autoscaler"] != self._base["autoscaler"]:
            changes[PREFIX + "metric"] = _METRICS[now["autoscaler"]]
        old = [PREFIX + alias for key, alias in ALIASES.items() if PREFIX + key in changes]
        return {name: None for name in old if name in self.running.annotations} | changes

    def _answer(self, now: Mapping[str, Any]) -> None:
        """Simulate the running and the proposed settings under the same traffic."""
        merged = {**self.running.annotations, **self._changes(now)}
        annotations = {name: text for name, text in merged.items() if text is not None}
        spec = parse_spec(
            annotations,
            container_concurrency=now["container_concurrency"],
            config=self.running.config,
        )
        if self._load != (load := (now["traffic"], now["people"])):
            self._asked["before"] = {**now, **self._base}, self.running.spec
            self.before, _ = self._simulated(*self._asked["before"], self.server)
            self._load = load
            self._edges.clear()
        self._asked["value"] = now, spec
        self._edges.pop("value", None)
        self.value, result = self._simulated(now, spec, self.server)
        self.picture = draw_run(result)
        self.advice = []
        if now["autoscaler"] in _METRICS:
            self.advice = advise(spec, annotations=annotations, context=self._context)

    def _simulated(
        self, now: Mapping[str, Any], spec: ScalingSpec, server: VllmServer
    ) -> tuple[TunerAnswer, SimulationResult]:
        traffic = self._trace
        if traffic is None or now["traffic"] != "your trace":
            # Long enough to see what the new pods do; a fast server answers much in that time.
            chat_s = min(max(60.0, 3 * self._environment.startup_s), _LONGEST_CHAT_S)
            traffic = _TRAFFIC[now["traffic"]](now["people"], self._lengths, chat_s)
        first, gpus = max(1, spec.min_scale), self._environment.gpus
        around = replace(self._environment, initial_ready=min(first, gpus or first))
        seconds, effective = traffic.end_s + 2 * spec.stable_window_s, spec.target
        scaling: Scaling = spec
        if slider := _OTHERS.get(now["autoscaler"]):
            effective, most = now[slider], spec.max_scale or gpus or _MOST_PODS
            scaling = scaling_by(
                now["autoscaler"], effective, max_replicas=max(first, most), min_replicas=first
            )
        result = simulate(scaling, traffic, server, environment=around, duration_s=seconds)
        requests, some = result.requests, result.requests.answered > 0
        streamed = some and max(requests.output_tokens) > 1
        return TunerAnswer(
            settings={name: now[name] for name in self._base if name != "autoscaler"},
            **{name: now[name] for name in ("traffic", "autoscaler", "people")},
            effective_target=round(effective, 4),
            peak_replicas=max(result.ready, default=0),
            requests=requests.answered,
            ttft_p95_s=round(requests.ttft(95), 3) if some else None,
            tpot_p95_s=round(requests.tpot(95), 4) if streamed else None,
            tokens_per_second=round(requests.tokens / max(traffic.end_s, 1), 1) if some else None,
            gpu_hours=round(result.gpu_seconds / 3600, 3),
            cost_cny=round(result.cost, 2) if self.server.gpu.example_price_cny else None,
        ), result

    def _checked(self, name: str, value: Any) -> Any:
        if name not in self._now:
            raise InvalidValue("slider", name, f"one of {', '.join(self._now)}")
        allowed = self.choices.get(name)
        if allowed and value not in allowed:
            raise InvalidValue(name, value, f"one of {', '.join(allowed)}")
        if allowed:
            return value
        rule = "a number" if name == "target" else "a whole number"
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InvalidValue(name, value, rule)
        if float(value).is_integer():
            value = int(value)
        elif name != "target":
            raise InvalidValue(name, value, rule)
        if name == "people" and value < 1:
            raise InvalidValue(name, value, "at least 1")
        return value

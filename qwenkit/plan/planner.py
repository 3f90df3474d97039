"""What these settings do under given traffic, what would be better, and what it costs.

    plan = make_plan(settings, Question(clients=6, ttft_p95_s=2.0))

The annotations are those that ``render`` writes, so the simulation is of what would be deployed.
Nothing here touches a cluster; ``plan.report`` shows the answer as text and charts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qwenkit.autoscaling.annotations import CONCURRENCY, ScalingSpec
from qwenkit.capacity.advice import ScalingContext, advise
from qwenkit.capacity.catalogue import find_model
from qwenkit.capacity.environment import Environment
from qwenkit.capacity.finding import Finding
from qwenkit.capacity.gpu import Band, Gpu, Model, band, find_gpu
from qwenkit.capacity.gpu import prefill_seconds as prefill
from qwenkit.capacity.gpu import tpot_seconds as tpot
from qwenkit.capacity.memory import Fit, fit, suggested_load
from qwenkit.capacity.result import SimulationResult
from qwenkit.capacity.search.autoscalers import AutoscalerComparison, compare_autoscalers
from qwenkit.capacity.search.candidates import Candidate, Objective, ScalingChoice, judge
from qwenkit.capacity.search.recommend import Recommendation, recommend
from qwenkit.capacity.search.windows import MOST_WORK, replay
from qwenkit.capacity.server import VllmServer
from qwenkit.capacity.traffic import Traffic
from qwenkit.errors import InvalidValue
from qwenkit.manifests.scaling import SETTING_OF, scaling_annotations, scaling_spec
from qwenkit.plan.question import NamedTraffic, Question, find_environment, find_traffic
from qwenkit.settings import Settings

_GPUS_IF_UNKNOWN = 8
_ONCE = 25 * MOST_WORK  # what is simulated once may be more than what is searched
_TAIL_S = 60.0  # beyond window and retention: the grace before zero, and the drain
# What a recommendation calls a setting -> the parameter of that meaning.
_PARAMETERS = {key.rpartition("/")[2]: parameter for key, parameter in SETTING_OF.items()} | {
    "containerConcurrency": "container_concurrency",
    "timeoutSeconds, responseStartTimeoutSeconds": "request_timeout_s",
}


@dataclass(frozen=True, slots=True)
class BatchSpeed:
    """One stream's time per token in a batch, and the tokens per second of the batch."""

    batch: int
    tpot_s: Band
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class SimulatedOutcome:
    """A simulation, its figures, which of the objective's limits it misses, and its ``basis``."""

    result: SimulationResult
    verdict: Candidate
    misses: tuple[str, ...]
    basis: str


@dataclass(frozen=True, slots=True)
class AdvisedParameter:
    """A recommended parameter and its present value; ``now`` is empty if it is not set."""

    parameter: str
    value: str
    now: str
    why: str


@dataclass(frozen=True, slots=True)
class BetterSettings:
    """The recommendation as parameters, and its simulation under the same traffic."""

    recommendation: Recommendation
    parameters: tuple[AdvisedParameter, ...]
    outcome: SimulatedOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPlan:
    """The whole answer.

    ``outcome`` is None if the model does not fit; ``better`` is None if no recommendation was
    asked for or found, and ``why_not_better`` is the reason; ``autoscalers`` is None if they were
    not asked for. ``sequences`` is how many requests
    of the traffic's length the KV cache holds, ``ttft_s`` the time to read one prompt alone.
    """

    gpu: Gpu
    model: Model
    traffic: NamedTraffic
    objective: Objective
    environment: Environment
    price_is_example: bool
    fit: Fit
    sequences: float
    ttft_s: Band
    speeds: tuple[BatchSpeed, ...]
    spec: ScalingSpec
    annotations: Mapping[str, str]
    advice: list[Finding]
    outcome: SimulatedOutcome | None
    better: BetterSettings | None
    why_not_better: str
    autoscalers: AutoscalerComparison | None

    @property
    def currency(self) -> str:
        """The currency of the example prices; a price of one's own has none that is known."""
        return "CNY" if self.price_is_example else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the figures stand on where that is not the whole traffic as it was recorded."""
        basis = self.outcome.basis if self.outcome else ""
        return (*self.traffic.notes, *([basis] if basis else []))


def make_plan(settings: Settings, question: Question) -> ScalingPlan:
    """Answer a question about the settings.

    Raises:
        InvalidValue: names the traffic, objective, GPU, model or annotation that is invalid.
    """
    gpu, model = _hardware(settings)
    traffic, environment = find_traffic(settings, question), find_environment(settings, question)
    spec, annotations = scaling_spec(settings), scaling_annotations(settings)
    once = not (question.recommend or question.compare)
    run = _Run(
        settings=settings,
        gpu=gpu,
        model=model,
        traffic=traffic.load,
        environment=environment,
        objective=question.objective,
        duration_s=_end(traffic, spec),
        most_work=_ONCE if once else MOST_WORK,
    )
    memory = fit(gpu, model, **run.limits)
    outcome, better, why_not, autoscalers = None, None, "the model does not fit", None
    if memory.fits:
        outcome = run.outcome(spec)
        better, why_not = run.better(outcome) if question.recommend else (None, "not asked for")
        autoscalers = run.autoscalers(outcome) if question.compare else None
    sequences = memory.kv_tokens / (
        traffic.load.lengths.prompt_tokens + traffic.load.lengths.output_tokens
    )
    return ScalingPlan(
        gpu=gpu,
        model=model,
        traffic=traffic,
        objective=question.objective,
        environment=environment,
        price_is_example=question.price_per_gpu_hour is None,
        fit=memory,
        sequences=sequences,
        ttft_s=band(gpu, prefill(gpu, model, tokens=traffic.load.lengths.prompt_tokens)),
        speeds=tuple(_speeds(gpu, model, memory, traffic, spec)),
        spec=spec,
        annotations=annotations,
        advice=_advice(spec, annotations, environment, sequences if memory.fits else None),
        outcome=outcome,
        better=better,
        why_not_better=why_not,
        autoscalers=autoscalers,
    )


def _hardware(settings: Settings) -> tuple[Gpu, Model]:
    if settings.gpu_count > 1:
        rule = "at most 1: tensor parallelism is not modelled"
        raise InvalidValue("gpu_count", settings.gpu_count, rule)
    source = settings.model_source.rstrip("/").rpartition("/")[2]
    return find_gpu(settings.gpu), find_model(source.partition("@")[0])


def _end(traffic: NamedTraffic, spec: ScalingSpec) -> float:
    """Return how long to simulate: until the scale to zero is over, which costs GPU time too."""
    idle = spec.stable_window_s + max(spec.retention_s, spec.scale_down_delay_s)
    return traffic.load.end_s + idle + _TAIL_S


def _speeds(
    gpu: Gpu, model: Model, memory: Fit, traffic: NamedTraffic, spec: ScalingSpec
) -> Iterator[BatchSpeed]:
    """Return the speed of one stream, at the target and at the suggested load."""
    live = traffic.load.lengths.prompt_tokens + traffic.load.lengths.output_tokens / 2
    batches = {1}
    if memory.fits:
        batches.add(suggested_load(gpu, model, live_tokens=live).total)
        if spec.metric == CONCURRENCY:
            batches.add(max(1, min(math.ceil(spec.total), math.floor(memory.kv_tokens / live))))
    for batch in sorted(batches):
        each = tpot(gpu, model, batch=batch, context_tokens=live)
        yield BatchSpeed(batch, band(gpu, each), batch / each)


def _advice(
    spec: ScalingSpec,
    annotations: Mapping[str, str],
    environment: Environment,
    sequences: float | None,
) -> list[Finding]:
    context = ScalingContext(
        cold_start_s=environment.startup_s,
        gpus=environment.gpus,
        kv_sequences=sequences,
        timeout_s=environment.timeout_s,
        response_start_timeout_s=environment.response_start_timeout_s,
    )
    return advise(spec, annotations=annotations, context=context)


@dataclass(frozen=True, slots=True)
class _Run:
    """One traffic on one kind of server; only the scaling varies."""

    settings: Settings
    gpu: Gpu
    model: Model
    traffic: Traffic
    environment: Environment
    objective: Objective
    duration_s: float
    most_work: float

    @property
    def limits(self) -> dict[str, Any]:
        """How vLLM may use the GPU's memory."""
        names = ("max_model_len", "gpu_memory_utilization")
        return {name: getattr(self.settings, name) for name in names}

    def gpus(self, now: SimulatedOutcome) -> int:
        """Return the most pods that other settings may use."""
        known = self.environment.gpus or self.settings.max_scale
        return known or max(_GPUS_IF_UNKNOWN, *now.result.ready)

    def autoscalers(self, now: SimulatedOutcome) -> AutoscalerComparison:
        """Compare other autoscalers under the same traffic."""
        server, gpus = VllmServer(self.gpu, self.model, **self.limits), self.gpus(now)
        wanted, there = self.objective, self.environment
        return compare_autoscalers(
            server, self.traffic, objective=wanted, gpus=gpus, environment=there
        )

    def outcome(self, spec: ScalingSpec) -> SimulatedOutcome:
        """Simulate a spec and judge it."""
        server, around = VllmServer(self.gpu, self.model, **self.limits), self.environment
        part = replay(self.traffic, server, around.startup_s, most_work=self.most_work)
        result = part.run(spec, server, around, duration_s=self.duration_s)
        verdict = judge(_choice(spec), result)
        misses = tuple(verdict.misses(self.objective))
        return SimulatedOutcome(result, verdict, misses, part.basis)

    def better(self, now: SimulatedOutcome) -> tuple[BetterSettings | None, str]:
        """Search for better settings; return them, or None and the reason."""
        settings = self.settings
        gpus = self.gpus(now)
        try:
            found = recommend(
                self.gpu,
                self.model,
                traffic=self.traffic,
                objective=self.objective,
                environment=self.environment,
                gpus=gpus,
                duration_s=self.duration_s,
                **self.limits,
            )
        except InvalidValue as error:
            named = self.objective.ttft_p95_s or self.objective.tpot_p95_s
            # Without an objective the question is a forecast, and an overload is an answer.
            if named or error.name != "objective":
                raise
            return None, f"{error.value}: {error.rule}; {error.fix}"
        limits = replace(self.environment, gpus=gpus)
        outcome = replace(self, environment=limits).outcome(found.spec)
        return BetterSettings(found, tuple(_advised(found, settings)), outcome), ""


def _choice(spec: ScalingSpec) -> ScalingChoice:
    """Return the spec in the recommender's terms, as nearly as they allow."""
    return ScalingChoice(
        max(1, round(spec.total)),
        spec.container_concurrency,
        spec.min_scale,
        spec.max_scale,
        round(spec.stable_window_s),
        round(spec.retention_s),
    )


def _advised(found: Recommendation, settings: Settings) -> Iterator[AdvisedParameter]:
    for reason in found.reasons:
        parameter = _PARAMETERS[reason.setting]
        now = getattr(settings, parameter)
        text = "" if now is None else f"{now:g}" if isinstance(now, float) else str(now)
        yield AdvisedParameter(parameter, reason.value, text, reason.why)

"""What these settings do under given traffic, what would be better, and what it costs.

    plan = make_plan(settings, Question(clients=6, ttft_p95_s=2.0))

The annotations are those that ``render`` writes, so the simulation is of what would be deployed.
Nothing here touches a cluster; ``plan.report`` shows the answer as text and charts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from qwenkit.autoscaling.annotations import CONCURRENCY, ScalingSpec
from qwenkit.capacity.advice import ScalingContext, advise
from qwenkit.capacity.alternatives import what_would_fit
from qwenkit.capacity.band import Band
from qwenkit.capacity.finding import Finding
from qwenkit.capacity.gpu import Gpu, Model
from qwenkit.capacity.loading import EstimatedStart
from qwenkit.capacity.memory import Fit, fit
from qwenkit.capacity.search.autoscalers import AutoscalerComparison, compare_autoscalers
from qwenkit.capacity.search.candidates import Candidate, Objective, ScalingChoice, judge
from qwenkit.capacity.search.load import suggested_load
from qwenkit.capacity.search.recommend import Recommendation, recommend
from qwenkit.capacity.search.windows import MOST_WORK, PARTS, replay
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.traffic import Lengths, Traffic
from qwenkit.capacity.step_time import StepTime
from qwenkit.errors import InvalidValue
from qwenkit.manifests.scaling import SETTING_OF, scaling_annotations, scaling_spec
from qwenkit.plan.question import NamedTraffic, Question, find_environment, find_traffic
from qwenkit.settings import Settings
from qwenkit.weights.model_config import read_model_config

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
    tokens_per_s: Band


@dataclass(frozen=True, slots=True)
class SimulatedOutcome:
    """A simulation, its figures by name, which of the objective's limits it misses, its ``basis``.

    It was run at the slow and the fast edge too, of the model's error and of an estimated cold
    start; ``slow_misses`` and ``fast_misses`` are what is missed there.
    """

    result: SimulationResult
    verdict: Candidate
    bands: Mapping[str, Band]
    misses: tuple[str, ...]
    slow_misses: tuple[str, ...]
    fast_misses: tuple[str, ...]
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

    ``outcome`` is None if the model does not fit; ``alternatives`` are then settings of which each
    would; ``better`` is None if no recommendation was
    asked for or found, and ``why_not_better`` is the reason; ``autoscalers`` is None if they were
    not asked for; ``cold_start`` is None if the question named one. ``sequences`` is how many
    requests of the traffic's length the KV cache holds, ``ttft_s`` the time to read one prompt
    alone.
    """

    gpu: Gpu
    model: Model
    time: StepTime
    traffic: NamedTraffic
    objective: Objective
    environment: Environment
    cold_start: EstimatedStart | None
    price_is_example: bool
    fit: Fit
    gpus_each: int
    alternatives: tuple[str, ...]
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
    def price_is_unknown(self) -> bool:
        """Whether costs are GPU-hours: no price was given, and no example is known."""
        return self.environment.price_per_gpu_hour == 1 and not self.gpu.example_price_cny

    @property
    def currency(self) -> str:
        """The currency of the example prices; a price of one's own has none that is known."""
        return "CNY" if self.price_is_example else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the figures stand on where that is not the whole traffic as it was recorded."""
        basis = self.outcome.basis if self.outcome else ""
        price = f"no price of {self.gpu.name} is known: costs are GPU-hours"
        return (*self.traffic.notes, *filter(None, (basis, price if self.price_is_unknown else "")))


def make_plan(
    settings: Settings, question: Question, *, on_step: Callable[[str], None] = lambda step: None
) -> ScalingPlan:
    """Answer a question about the settings; ``on_step`` is told what is being simulated.

    Raises:
        InvalidValue: names the traffic, objective, GPU, model or annotation that is invalid.
    """
    settings = settings.described_by(read_model_config(settings))
    traffic, environment = find_traffic(settings, question), find_environment(settings, question)
    spec, annotations = scaling_spec(settings), scaling_annotations(settings)
    sizes, lengths = settings.sizes(), traffic.load.lengths
    gpu, model, memory = sizes["gpu"], sizes["model"].split(sizes["gpus"]), fit(**sizes)
    alternatives = () if memory.fits else what_would_fit(**sizes)
    server, outcome, better, why_not, autoscalers = None, None, None, "the model does not fit", None
    if memory.fits:
        server = VllmServer(**sizes)
        run = _Run(
            settings=settings,
            server=server,
            traffic=traffic.load,
            environment=environment,
            cold_start=settings.cold_start if question.startup_s is None else None,
            objective=question.objective,
            duration_s=_end(traffic, spec),
            most_work=MOST_WORK if question.recommend or question.compare else _ONCE,
        )
        on_step("these settings")
        outcome, why_not = run.outcome(spec), "not asked for"
        if question.recommend:
            on_step("settings that may be better")
            better, why_not = run.better(outcome)
        if question.compare:
            on_step("other autoscalers")
            autoscalers = run.autoscalers(outcome)
    time = StepTime(gpu, model, sizes["eager"], v1=sizes["batched_tokens"] is not None)
    sequences = memory.kv_tokens / (lengths.prompt_tokens + lengths.output_tokens)
    return ScalingPlan(
        gpu=gpu,
        model=model,
        time=time,
        traffic=traffic,
        objective=question.objective,
        environment=environment,
        cold_start=settings.cold_start if question.startup_s is None else None,
        price_is_example=question.price_per_gpu_hour is None and bool(gpu.example_price_cny),
        fit=memory,
        gpus_each=sizes["gpus"],
        alternatives=alternatives,
        sequences=sequences,
        ttft_s=Band.around(time.prefill(lengths.prompt_tokens), time.error),
        speeds=tuple(_speeds(time, server, lengths, spec)),
        spec=spec,
        annotations=annotations,
        advice=_advice(spec, annotations, environment, sequences if memory.fits else None),
        outcome=outcome,
        better=better,
        why_not_better=why_not,
        autoscalers=autoscalers,
    )


def _end(traffic: NamedTraffic, spec: ScalingSpec) -> float:
    """Return how long to simulate: until the scale to zero is over, which costs GPU time too."""
    idle = spec.stable_window_s + max(spec.retention_s, spec.scale_down_delay_s)
    return traffic.load.end_s + idle + _TAIL_S


def _speeds(
    time: StepTime, server: VllmServer | None, lengths: Lengths, spec: ScalingSpec
) -> Iterator[BatchSpeed]:
    """Return the speed of one stream, at the target and at the suggested load."""
    live = lengths.prompt_tokens + lengths.output_tokens / 2
    batches = {1}
    if server:
        batches.add(suggested_load(server, lengths).total)
        if spec.metric == CONCURRENCY:
            batches.add(max(1, min(math.ceil(spec.total), math.floor(server.kv_tokens / live))))
    for batch in sorted(batches):
        each = Band.around(time.decode(batch, live), time.error)
        rate = Band(batch / each.high, batch / each.value, batch / each.low)
        yield BatchSpeed(batch, each, rate)


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
    server: VllmServer
    traffic: Traffic
    environment: Environment
    cold_start: EstimatedStart | None
    objective: Objective
    duration_s: float
    most_work: float

    def gpus(self, now: SimulatedOutcome) -> int:
        """Return the most pods that other settings may use."""
        known = self.environment.gpus or self.settings.max_scale
        return known or max(_GPUS_IF_UNKNOWN, *now.result.ready)

    def autoscalers(self, now: SimulatedOutcome) -> AutoscalerComparison:
        """Compare other autoscalers under the same traffic."""
        wanted, there, gpus = self.objective, self.environment, self.gpus(now)
        return compare_autoscalers(
            self.server, self.traffic, objective=wanted, gpus=gpus, environment=there
        )

    def outcome(self, spec: ScalingSpec) -> SimulatedOutcome:
        """Simulate a spec and judge it."""
        server, around = self.server, self.environment
        part = replay(self.traffic, server, around.startup_s, most_work=self.most_work, parts=PARTS)
        start_s = self.cold_start.seconds if self.cold_start else Band.over(around.startup_s)
        starts = (start_s.value, start_s.high, start_s.low)
        results = [
            part.run(spec, each, replace(around, startup_s=start), duration_s=self.duration_s)
            for each, start in zip((server, *server.edges()), starts, strict=True)
        ]
        verdicts = [judge(_choice(spec), result) for result in results]
        now, *edges = (
            result.summary()
            | {"tpot_p95_s": verdict.tpot_p95_s, "cost_per_hour": verdict.cost_per_hour}
            for result, verdict in zip(results, verdicts, strict=True)
        )
        bands = {
            name: Band.over(value, *(edge.get(name, math.inf) for edge in edges))
            for name, value in now.items()
        }
        middle, slow, fast = (tuple(verdict.misses(self.objective)) for verdict in verdicts)
        return SimulatedOutcome(results[0], verdicts[0], bands, middle, slow, fast, part.basis)

    def better(self, now: SimulatedOutcome) -> tuple[BetterSettings | None, str]:
        """Search for better settings; return them, or None and the reason."""
        settings = self.settings
        gpus = self.gpus(now)
        try:
            found = recommend(
                self.server,
                traffic=self.traffic,
                objective=self.objective,
                environment=self.environment,
                gpus=gpus,
                duration_s=self.duration_s,
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

"""What the exact autoscaler and the capacity model say of a load, before it is sent.

Measured and not assumed are the settings of the revision that serves, its ready replicas, the
GPUs, a cold start, and what a request takes alone. What requests take together is modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median

from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.live_scaling import LiveScaling
from qwenkit.capacity.advice import ScalingContext, advise
from qwenkit.capacity.band import Band, basis
from qwenkit.capacity.finding import Finding
from qwenkit.capacity.gpu import CPU
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.search.recommend import Recommendation, recommend
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.cold_start import build, start_of_log
from qwenkit.cluster.diagnosis.reading import read_or
from qwenkit.cluster.kinds import (
    EVENT,
    POD,
    REVISION_LABEL,
    Obj,
    condition,
    is_terminating,
    moment,
)
from qwenkit.cluster.live_scaling import live_scaling
from qwenkit.cluster.pods import is_serving, node_of, restarts
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.cluster.preflight.free_gpus import free_gpus
from qwenkit.errors import NotReady
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadResult
from qwenkit.language import Shown
from qwenkit.loadtest.figures import FIGURES, Answered, Yardstick, show, simulated
from qwenkit.settings import Settings
from qwenkit.steps import load_request, resolve

_DRAIN_S = 30.0  # a queue-proxy lets its pod go after this long without a request
_SHORTEST_LOAD_S, _COLD_STARTS = 16.0, 2.5
_LONGEST_ALONE_S = 10.0
_QUIET = 0.8
# The settings that say how much a replica carries. Windows and bounds stay as they are: of two
# measurements, one thing differs.
_OF_A_REPLICA = ("/target", "/target-utilization-percentage", "/panic-threshold-percentage")


@dataclass(frozen=True)
class Alone:
    """What a request takes when no other runs: medians in seconds; and how long it is."""

    lengths: Lengths
    ttft_s: float
    latency_s: float
    clock: float

    @property
    def tpot_s(self) -> float:
        """Seconds a token after the first."""
        return (self.latency_s - self.ttft_s) / max(1, self.lengths.output_tokens - 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class Prediction(Shown):
    """A load on this cluster, in virtual time.

    ``modelled`` is the model on its GPU, ``server`` the same at the speed that was measured, which
    is simulated. ``more_s`` is what each request takes beyond that; ``note`` says what the
    prediction rests on.
    """

    running: LiveScaling
    spec: ScalingSpec
    traffic: ClosedLoop
    modelled: VllmServer
    server: VllmServer
    environment: Environment
    alone: Alone
    by: Yardstick
    more_s: float
    note: str

    def result(self, until_s: float | None = None) -> SimulationResult:
        """Simulate until a second; by default until the service is down again."""
        idle = self.spec.stable_window_s + self.spec.grace_period_s + self.environment.drain_s
        end = self.traffic.end_s + idle + 30 if until_s is None else max(1.0, until_s)
        return simulate(
            self.spec, self.traffic, self.server, environment=self.environment, duration_s=end
        )

    def figures(self, until_s: float | None = None) -> dict[str, float]:
        """Return what the load will give and cost; see ``Yardstick.figures``."""
        result = self.result(until_s)
        answers = self.answers(result)
        pairs = zip(result.requests.at, result.requests.latency_s, strict=True)
        return self.by.figures(
            answers,
            sent=len(result.requests),
            seconds=max((at + latency for at, latency in pairs), default=0.0),
            replica_seconds=result.gpu_seconds / self.server.gpus,
            max_ready=max(result.ready),
        )

    def bands(self, until_s: float | None = None) -> dict[str, Band]:
        """Return the same figures, with what they are where the model is wrong."""
        edges = [replace(self, server=each).figures(until_s) for each in self.server.edges()]
        return {
            name: Band.over(value, *(edge.get(name, value) for edge in edges))
            for name, value in self.figures(until_s).items()
        }

    def shown(self) -> dict[str, str]:
        """Return the figures for people, by heading."""
        bands = self.bands()
        return {name: show(bands.get(key), unit) for key, name, unit, _ in FIGURES}

    def answers(self, result: SimulationResult) -> list[Answered]:
        """Return the requests that a result answers, as a client would see them."""
        return simulated(result, more_s=self.more_s)

    def under(self, annotations: Mapping[str, str]) -> Prediction:
        """Return the same under other settings, on a revision that has just become ready."""
        running = replace(self.running, annotations={**self.running.annotations, **annotations})
        spec = parse_spec(
            running.annotations,
            container_concurrency=self.spec.container_concurrency,
            config=running.config,
            strict=False,
        )
        ready = max(1, spec.min_scale)
        fresh = replace(self.environment, initial_ready=ready, active_for_s=0.0)
        return replace(self, running=running, spec=spec, environment=fresh)

    def advice(self) -> list[Finding]:
        """Return what the rulebook says of the settings, on this cluster."""
        around = self.environment
        known = ScalingContext(gpus=around.gpus, cold_start_s=around.startup_s)
        return advise(self.spec, annotations=self.running.annotations, context=known)

    def recommended(self) -> tuple[Recommendation, dict[str, str]]:
        """Search the cheapest setting that meets the objective with this traffic.

        Returns it, and those of its annotations that say how much a replica carries.

        Raises:
            InvalidValue: no setting meets the objective.
        """
        around, clock = self.environment, self.by.clock
        clients = tuple((at * clock, count) for at, count in self.traffic.schedule)
        found = recommend(
            self.modelled.at(1),
            traffic=ClosedLoop(clients, self.traffic.lengths),
            objective=Objective(ttft_p95_s=self.by.ttft_p95_s),
            environment=replace(
                around, startup_s=around.startup_s * clock, drain_s=around.drain_s * clock
            ),
            gpus=around.gpus or max(1, self.spec.max_scale),
        )
        wanted = {n: v for n, v in found.annotations.items() if n.endswith(_OF_A_REPLICA)}
        return found, wanted

    def __str__(self) -> str:
        around, alone = self.environment, self.alone
        places = "any number of" if around.gpus is None else f"at most {around.gpus}"
        lines = [
            f"{self.traffic.clients(0)} clients for {self.traffic.end_s:g} s, from "
            f"{around.initial_ready} ready; {places} replicas can run",
            f"a cold start takes {around.startup_s:.1f} s; alone, a request's first token comes "
            f"after {alone.ttft_s:.3f} s, then one every {alone.tpot_s * 1e3:.1f} ms",
            self.note,
        ]
        known = (f"{name}: {text}" for name, text in self.shown().items())
        if self.traffic.end_s <= around.startup_s:
            lines.append("the load is shorter than a cold start: new replicas will not answer it")
        return "\n".join([*lines, *known])


def predict(settings: Settings, cluster: Cluster, server: Server) -> Prediction:
    """Predict the load of the settings for the revision that serves now.

    A few requests are sent, one after another, to measure what one takes; they start a replica if
    there is none. Nothing is changed.

    Raises:
        InvalidValue: the model or the GPU is not known, or the one does not fit the other.
        NotFound: there is no such Service.
        NotReady: no pod of the serving revision is ready, or the requests failed.

    >>> from qwenkit import Cluster, Settings, find_server, predict
    >>> s = Settings()
    >>> predict(s, Cluster.connect(s), find_server(s)).figures()["max_ready"] >= 1
    True
    """
    settings = resolve(settings)
    alone = _measure_alone(settings, server)
    running = live_scaling(cluster, settings.service)
    around = _environment(settings, cluster, running, alone.clock)
    modelled = VllmServer(**settings.sizes(), clock=alone.clock)
    measured, more_s, note = _as_measured(modelled, alone)
    seconds = settings.load_seconds or load_seconds(around.startup_s)
    return Prediction(
        running=running,
        spec=running.spec,
        traffic=ClosedLoop(((0.0, settings.load_clients), (seconds, 0)), alone.lengths),
        modelled=modelled,
        server=measured,
        environment=around,
        alone=alone,
        by=Yardstick(
            ttft_p95_s=settings.ttft_objective_s,
            cny_per_gpu_hour=example_price(settings) or 0.0,
            gpus=settings.gpu_count,
            clock=alone.clock,
        ),
        more_s=more_s,
        note=note,
    )


def _environment(
    settings: Settings, cluster: Cluster, running: LiveScaling, clock: float
) -> Environment:
    pods = cluster.list(POD, labels={REVISION_LABEL: running.revision})
    ready = list(filter(is_serving, pods))
    if not ready:
        raise NotReady(
            f"revision {running.revision} has no ready pod",
            "other pods answered, or it has just been scaled down",
            f"qwenkit explain {settings.service}; then try again",
        )
    newest = max(ready, key=_ready_at)
    events, log = read_or([], cluster.list, EVENT), read_or(None, start_of_log, cluster, newest)
    places = None
    if settings.gpu_count:
        free = free_gpus(cluster, newest["spec"], settings.gpu_resource)
        # What ends is counted as free already.
        own = sum(bool(node_of(pod)) and not is_terminating(pod) for pod in pods)
        places = None if free.unknown else free.places + own
    startup_s = build(newest, events, log).total_s
    # A pod that was Ready before it failed has two starts and its service between them.
    if not startup_s or restarts(newest) or startup_s > settings.seconds("ready"):
        startup_s = settings.cold_start.seconds.value / clock
    since = (datetime.now(UTC) - min(map(_ready_at, ready))).total_seconds()
    # The requests of just now are in the window still: it is not idle from end to end.
    quiet = min(max(0.0, since), _QUIET * running.spec.stable_window_s)
    return Environment(
        gpus=places,
        startup_s=startup_s,
        drain_s=_DRAIN_S / clock,
        initial_ready=len(ready),
        active_for_s=quiet,
    )


def load_seconds(cold_start_s: float) -> float:
    """Return how long a load lasts at least, so that new replicas answer most of it."""
    return round(max(_SHORTEST_LOAD_S, _COLD_STARTS * cold_start_s), 1)


def _measure_alone(settings: Settings, server: Server) -> Alone:
    def send(seconds: float, warm_up: int) -> LoadResult:
        one = ClosedLoop(((0.0, 1), (seconds, 0)))
        return start_load(server, one, warm_up=warm_up, **load_request(settings)).result()

    first = send(0.01, 1)
    good = [r for r in first.requests if r.outcome == "ok"]
    if good:
        more = send(min(_LONGEST_ALONE_S, 5 * good[0].latency_s), 0)
        good += [r for r in more.requests if r.outcome == "ok"]
    if not good:
        raise NotReady(
            "the service did not answer", str(first), f"qwenkit explain {settings.service}"
        )
    lengths = Lengths(
        round(median(r.prompt_tokens for r in good)) or settings.load_prompt_tokens,
        max(1, round(median(r.tokens for r in good))),
    )
    ttft = median(r.latency_s if r.ttft_s is None else r.ttft_s for r in good)
    return Alone(lengths, ttft, median(r.latency_s for r in good), first.clock)


def _ready_at(pod: Obj) -> datetime:
    return moment(str(condition(pod, "Ready").get("lastTransitionTime")))


def _as_measured(modelled: VllmServer, alone: Alone) -> tuple[VllmServer, float, str]:
    """Return the server to simulate, what to add to its times, and a note."""
    ttft, latency = modelled.alone(alone.lengths)
    factor = (latency - ttft) / max(1e-9, alone.latency_s - alone.ttft_s)
    time, gpu = modelled.time, modelled.gpu
    note = f"{modelled.model.name} on {gpu.name}: speeds are {basis(time)}"
    if gpu is CPU:
        note += "; here each replica has its own, on one node they share its cores"
    # A server that is further from the model than the model may be wrong is another one.
    if alone.lengths.output_tokens > 1 and not 1 - time.error <= 1 / factor <= 1 + time.error:
        note += f"; it answers {factor:.2g} × as fast, and the prediction is scaled to that"
        modelled = modelled.at(modelled.clock * factor)
        ttft, latency = modelled.alone(alone.lengths)
    return modelled, max(0.0, alone.ttft_s - ttft), f"{note}; clock × {alone.clock:g}"

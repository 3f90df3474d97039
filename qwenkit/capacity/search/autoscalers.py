"""The same requests under Kubernetes' HPA, Knative's KPA and KEDA: GPU time against goodput.

    result = simulate(scaling_by(HPA_GPU, 60, max_replicas=3), traffic, server)

simulates one of them. All keep at least one pod, because an HPA cannot do less and KEDA on vLLM's
metrics cannot wake from zero: without a pod nothing reports them. Above zero KEDA is the HPA that
it makes, with the metric's total over all pods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.autoscaling.hpa import HpaSpec
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.search.windows import replay
from qwenkit.capacity.simulation.control import GPU_UTILIZATION, WAITING, Scaling
from qwenkit.capacity.simulation.dataplane import ANSWERED
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.result import SimulationResult, nearest_rank
from qwenkit.capacity.simulation.server import SimulatedServer
from qwenkit.capacity.simulation.traffic import Traffic
from qwenkit.errors import InvalidValue

HPA_GPU, KEDA_WAITING = "HPA on GPU utilization", "KEDA on waiting requests"
KPA_CONCURRENCY, KPA_RPS, FIXED = "KPA on concurrency", "KPA on rps", "fixed fleet"

# The targets of each one's curve, and the usual one. Utilisation: 60 to 80 % is usual, and
# kubernetes/examples (AI/vllm-deployment/hpa) has 20. Concurrency: the ACK page has 2. Waiting
# requests: vLLM's production stack has 5. For rps no page gives a target.
TARGETS: dict[str, tuple[float, ...]] = {
    HPA_GPU: (20, 40, 60, 80, 90, 95),
    KPA_CONCURRENCY: (1, 2, 4, 8, 16, 32),
    KPA_RPS: (0.5, 1, 2, 3),
    KEDA_WAITING: (1, 2, 5, 10),
}
_WAY_DOWN_S = 360.0
_HEADINGS = {"gpu_hours": "GPU-hours", "within_percent": "within, %", "ttft_p95_s": "TTFT p95, s"}
USUAL = {HPA_GPU: 60, KPA_CONCURRENCY: 2, KEDA_WAITING: 5}


def scaling_by(
    autoscaler: str, target: float, *, max_replicas: int, min_replicas: int = 1
) -> Scaling:
    """Return the settings of an autoscaler, by its name in ``TARGETS``, for ``simulate``.

    ``target`` is what a pod should carry: percent of GPU utilisation, requests in flight or per
    second (of which the KPA aims at 70 %), or requests that wait in vLLM. A fixed fleet has
    ``target`` pods.

    Raises:
        InvalidValue: an unknown name, or a target or bounds that the autoscaler refuses.
    """
    if metric := {HPA_GPU: GPU_UTILIZATION, KEDA_WAITING: WAITING}.get(autoscaler):
        return HpaSpec(metric, target, max_replicas, min_replicas)
    settings = {"target": f"{target:g}", "min-scale": min_replicas, "max-scale": max_replicas}
    if autoscaler == FIXED:
        settings |= {"min-scale": int(target), "max-scale": int(target)}
    elif autoscaler in (KPA_CONCURRENCY, KPA_RPS):
        settings["metric"] = autoscaler.rpartition(" ")[2]
    else:
        raise InvalidValue("autoscaler", autoscaler, f"one of {', '.join((*TARGETS, FIXED))}")
    return parse_spec({PREFIX + key: str(value) for key, value in settings.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerOutcome:
    """One autoscaler at one target: means of a run over all seeds, and the first one's ``result``.

    ``within`` is the share (0 to 1) of the requests that met the objective's times;
    ``ttft_p95_s`` is infinite if none was answered.
    """

    autoscaler: str
    target: float
    gpu_hours: float
    cost: float
    within: float
    ttft_p95_s: float
    failed: float
    peak: int
    result: SimulationResult

    @property
    def setting(self) -> str:
        """The target with its unit."""
        return f"{self.target:g} %" if self.autoscaler == HPA_GPU else f"{self.target:g}"

    def row(self) -> dict[str, Any]:
        """Return the figures by name, rounded; JSON-ready, None for a time that there is not."""
        ttft_p95_s = round(self.ttft_p95_s, 2) if math.isfinite(self.ttft_p95_s) else None
        return {
            "autoscaler": self.autoscaler,
            "target": self.setting,
            "gpu_hours": round(self.gpu_hours, 3),
            "cost": round(self.cost, 2),
            "within_percent": round(100 * self.within, 1),
            "ttft_p95_s": ttft_p95_s,
            "failed": round(self.failed, 1),
            "peak": self.peak,
        }

    def shown(self, currency: str = "") -> dict[str, Any]:
        """Return the same by headings, for a table."""
        headings = _HEADINGS | {"cost": f"cost, {currency}" if currency else "cost"}
        return {headings.get(name, name): value for name, value in self.row().items()}


@dataclass(frozen=True, slots=True)
class AutoscalerComparison:
    """Every autoscaler at every target, in the order of ``TARGETS``, a fixed fleet last."""

    outcomes: tuple[AutoscalerOutcome, ...]

    def of(self, autoscaler: str) -> list[AutoscalerOutcome]:
        """Return one autoscaler's outcomes by rising target."""
        return [each for each in self.outcomes if each.autoscaler == autoscaler]

    def best(self, share: float = 0.95) -> list[AutoscalerOutcome]:
        """Return for each autoscaler the cheapest target with that share within, else the best."""
        return [
            min(self.of(name), key=lambda each: (max(share - each.within, 0.0), each.gpu_hours))
            for name in (*TARGETS, FIXED)
        ]

    def named(self) -> list[AutoscalerOutcome]:
        """Return for each autoscaler the usual target, or the best where there is none."""
        found = {each.autoscaler: each for each in self.best()}
        usual = (each for each in self.outcomes if each.target == USUAL.get(each.autoscaler))
        return list((found | {each.autoscaler: each for each in usual}).values())

    def changes(self) -> list[tuple[str, str, int, int, int, str]]:
        """Return who of the named scaled when and why, for a table.

        (autoscaler, target, second, replicas before, replicas after, reason)
        """
        return [
            (each.autoscaler, each.setting, round(one.t), one.before, one.after, one.reason)
            for each in self.named()
            for one in each.result.changes
        ]


def compare_autoscalers(
    server: SimulatedServer,
    traffic: Traffic | Callable[[int], Traffic],
    *,
    objective: Objective,
    gpus: int,
    environment: Environment | None = None,
    seeds: Sequence[int] = (0,),
) -> AutoscalerComparison:
    """Simulate the same requests under each autoscaler at each of its targets.

    Six minutes after the traffic count too: an HPA keeps its pods for five.

    ``traffic`` may be a function of a seed, so that ``seeds`` give several arrivals; ``gpus`` is
    the most pods. Of the objective the times count: a request is within if its own time to the
    first token and its own time per token are.

    Raises:
        InvalidValue: no GPU or no seed.

    >>> from qwenkit import Objective, bursts, compare_autoscalers
    >>> from qwenkit.capacity.simulation.server import VllmServer
    >>> server = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
    >>> few = bursts(0.1, 3, 300, every_s=150, burst_s=30)
    >>> found = compare_autoscalers(server, few, objective=Objective(ttft_p95_s=5), gpus=2)
    >>> {each.autoscaler for each in found.outcomes} >= {"HPA on GPU utilization", "fixed fleet"}
    True
    """
    if gpus < 1 or not seeds:
        raise InvalidValue("gpus, seeds", (gpus, seeds), "at least one GPU and one seed")
    around = replace(environment or Environment(), gpus=gpus, initial_ready=None)
    loads = [traffic(seed) if callable(traffic) else traffic for seed in seeds]
    parts = [replay(load, server, around.startup_s) for load in loads]
    outcomes = []
    for name, targets in (*TARGETS.items(), (FIXED, range(1, gpus + 1))):
        for target in targets:
            scaling = scaling_by(name, target, max_replicas=gpus)
            results = [
                part.run(scaling, server, around, duration_s=load.end_s + _WAY_DOWN_S, seed=seed)
                for load, part, seed in zip(loads, parts, seeds, strict=True)
            ]
            outcomes.append(_outcome(name, target, results, objective))
    return AutoscalerComparison(tuple(outcomes))


def _outcome(
    name: str, target: float, results: Sequence[SimulationResult], objective: Objective
) -> AutoscalerOutcome:
    first = objective.ttft_p95_s or math.inf
    each_token = objective.tpot_p95_s or math.inf
    within, waits = 0, list[float]()
    for result in results:
        done = result.requests
        columns = zip(done.status, done.ttft_s, done.latency_s, done.output_tokens, strict=True)
        for status, ttft, latency, tokens in columns:
            if status == ANSWERED:
                waits.append(ttft)
                tpot = (latency - ttft) / max(tokens - 1, 1)
                within += ttft <= first and tpot <= each_token
    runs = len(results)
    sent = sum(len(result.requests) + result.unfinished for result in results)
    return AutoscalerOutcome(
        autoscaler=name,
        target=target,
        gpu_hours=sum(result.gpu_seconds for result in results) / 3600 / runs,
        cost=sum(result.cost for result in results) / runs,
        within=within / sent if sent else 0.0,
        ttft_p95_s=nearest_rank(sorted(waits), 95) if waits else math.inf,
        failed=sum(result.requests.failed() for result in results) / runs,
        peak=max(max(result.ready) for result in results),
        result=results[0],
    )

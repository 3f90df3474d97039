"""What happened in a simulation: series by second, decisions, requests and the cost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qwenkit.autoscaling.kpa import Decision
from qwenkit.autoscaling.reasons import explain
from qwenkit.autoscaling.scale_to_zero import ScalerStep
from qwenkit.capacity.simulation.dataplane import ANSWERED
from qwenkit.errors import InvalidValue


class Tick(NamedTuple):
    """One decision of the autoscaler, the reconciler's last step after it, and the pods then."""

    t: float
    decision: Decision
    step: ScalerStep
    ready: int
    starting: int

    @property
    def replicas(self) -> int:
        """The Deployment's replicas after the step."""
        return self.step.replicas

    @property
    def reason(self) -> str:
        """Why there are this many replicas, in words."""
        return "; ".join(part for part in (explain(self.decision), self.step.reason) if part)


class HpaTick(NamedTuple):
    """One sync of an HPA, the replicas after it, and why."""

    t: float
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaChange:
    """A moment at which the number of replicas changed, and why."""

    t: float
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Requests:
    """Every request that has ended, as columns in the order of their ends.

    ``ttft_s`` is the time to the first token, or to the end if there is none; ``status`` is
    200, 503 (a queue was full) or 504 (timed out).
    """

    at: Sequence[float]
    latency_s: Sequence[float]
    ttft_s: Sequence[float]
    output_tokens: Sequence[int]
    status: Sequence[int]

    def __len__(self) -> int:
        return len(self.at)

    @property
    def answered(self) -> int:
        """How many were answered."""
        return sum(status == ANSWERED for status in self.status)

    def failed(self, status: int | None = None) -> int:
        """Count the failures, or those with one status."""
        if status is not None:
            return sum(each == status for each in self.status)
        return len(self.status) - self.answered

    def ttft(self, percentile: float) -> float:
        """Return a percentile of the time to the first token of answered requests."""
        return _percentile(self._good(self.ttft_s), percentile)

    def latency(self, percentile: float) -> float:
        """Return a percentile of the latency of answered requests."""
        return _percentile(self._good(self.latency_s), percentile)

    def tpot(self, percentile: float) -> float:
        """Return a percentile of the time per output token after the first."""
        columns = zip(self.latency_s, self.ttft_s, self.output_tokens, self.status, strict=True)
        times = [
            (latency - ttft) / (tokens - 1)
            for latency, ttft, tokens, status in columns
            if status == ANSWERED and tokens > 1
        ]
        return _percentile(times, percentile)

    @property
    def tokens(self) -> int:
        """Tokens of all answers."""
        return sum(self._good(self.output_tokens))

    def _good(self, column: Sequence[Any]) -> list[Any]:
        return [
            value for value, status in zip(column, self.status, strict=True) if status == ANSWERED
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """A simulated period; every series has one value for each second of ``t``.

    ``clients`` are closed-loop clients, ``arrivals`` the requests of the second before,
    ``concurrency`` requests in flight, ``queue`` those of them that wait, ``desired`` the scale
    that the PodAutoscaler shows, ``starting`` pods that are not ready yet.
    """

    t: Sequence[int]
    clients: Sequence[int]
    arrivals: Sequence[int]
    concurrency: Sequence[int]
    queue: Sequence[int]
    desired: Sequence[int]
    ready: Sequence[int]
    starting: Sequence[int]
    decisions: Sequence[Tick | HpaTick]
    requests: Requests
    unfinished: int
    gpu_seconds: float
    price_per_gpu_hour: float

    @property
    def cost(self) -> float:
        """GPU time times price, in the price's currency."""
        return self.gpu_seconds / 3600 * self.price_per_gpu_hour

    @property
    def cost_per_1k_tokens(self) -> float:
        """Cost of a thousand output tokens; infinite if there were none."""
        tokens = self.requests.tokens
        return self.cost / tokens * 1000 if tokens else math.inf

    @property
    def changes(self) -> list[ReplicaChange]:
        """The moments at which the number of replicas changed."""
        return list(self._changes(self.ready[0] + self.starting[0]))

    def _changes(self, replicas: int) -> Iterator[ReplicaChange]:
        ticks = deque(self.decisions)
        empty = 0
        for second, ready, starting in zip(self.t, self.ready, self.starting, strict=True):
            while ticks and ticks[0].t <= second:
                tick = ticks.popleft()
                if tick.replicas != replicas:
                    yield ReplicaChange(tick.t, replicas, tick.replicas, tick.reason)
                    replicas, empty = tick.replicas, 0
            # The last pod may go between decisions, when the reconciler checks again. One empty
            # second is not enough: a decision at its end comes after the sample.
            empty = 0 if ready + starting or not replicas else empty + 1
            if empty == 2:
                reason = "idle to the end of grace and retention: scaled to zero"
                yield ReplicaChange(second - 1, replicas, 0, reason)
                replicas = 0

    def summary(self) -> dict[str, float]:
        """Return the main figures by name, JSON-ready, without those that do not exist."""
        requests = self.requests
        figures = {
            "requests": len(requests),
            "answered": requests.answered,
            "failed": requests.failed(),
            "unfinished": self.unfinished,
            "max_ready": max(self.ready, default=0),
            "max_queue": max(self.queue, default=0),
            "gpu_seconds": self.gpu_seconds,
            "cost": self.cost,
            "cost_per_1k_tokens": self.cost_per_1k_tokens,
        }
        if requests.answered:
            for name, percentile in (("p50", 50), ("p95", 95), ("p99", 99)):
                figures[f"ttft_{name}_s"] = requests.ttft(percentile)
                figures[f"latency_{name}_s"] = requests.latency(percentile)
        return {name: value for name, value in figures.items() if math.isfinite(value)}


def _percentile(values: list[float], percentile: float) -> float:
    """Return the nearest-rank percentile.

    Raises:
        InvalidValue: a percentile outside 0 to 100, or there is nothing to rank.
    """
    if not 0 <= percentile <= 100:
        raise InvalidValue("percentile", percentile, "0 to 100")
    if not values:
        raise InvalidValue("percentile", percentile, "needs at least one answered request")
    return nearest_rank(sorted(values), percentile)


def nearest_rank(ordered: Sequence[float], percentile: float) -> float:
    """Return the smallest value that at least ``percentile`` percent do not exceed."""
    return ordered[max(math.ceil(len(ordered) * percentile / 100) - 1, 0)]

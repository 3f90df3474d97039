"""The settings that a recommendation compares, and how well each meets an objective."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.errors import InvalidValue

UTILIZATION = 70  # percent of a pod's total load that the KPA aims at


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The limits that the service must meet; None for no limit.

    ``failed_share`` is the share of requests that may fail or get no answer.

    >>> from qwenkit import Objective
    >>> Objective(ttft_p95_s=5).ttft_p95_s
    5
    """

    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    cost_per_hour: float | None = None
    failed_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("ttft_p95_s", "tpot_p95_s", "cost_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InvalidValue(name, value, "more than 0, finite")
        if not 0 <= self.failed_share < 1:
            raise InvalidValue("failed_share", self.failed_share, "at least 0, less than 1")


@dataclass(frozen=True, slots=True)
class ScalingChoice:
    """One set of settings; ``hard_limit`` is the revision's containerConcurrency, 0 for none."""

    target: int
    hard_limit: int
    min_scale: int
    max_scale: int
    window_s: int = 60
    retention_s: int = 0

    def __str__(self) -> str:
        return (
            f"target {self.target}, hard limit {self.hard_limit}, {self.min_scale} to "
            f"{self.max_scale} pods, window {self.window_s} s, retention {self.retention_s} s"
        )

    @property
    def panic_threshold(self) -> int:
        """The panic threshold in percent: with few pods, 200 panics too easily."""
        return 400 if self.max_scale <= 3 else 200

    def annotations(self) -> dict[str, str]:
        """Return the settings as annotations of the revision template."""
        settings = {
            "metric": "concurrency",
            "target": str(self.target),
            "target-utilization-percentage": str(UTILIZATION),
            "min-scale": str(self.min_scale),
            "max-scale": str(self.max_scale),
            "window": f"{self.window_s}s",
            "panic-threshold-percentage": str(self.panic_threshold),
            "target-burst-capacity": "0",
            "scale-to-zero-pod-retention-period": f"{self.retention_s}s",
        }
        return {PREFIX + key: value for key, value in settings.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One set of settings and the figures of its simulation."""

    choice: ScalingChoice
    ttft_p95_s: float
    tpot_p95_s: float
    cost_per_hour: float
    failed_share: float

    def misses(self, objective: Objective) -> list[str]:
        """Describe the limits that this candidate exceeds."""
        return [
            f"{name} {value:.3g}{unit} instead of {limit:g}{unit}"
            for name, unit, value, limit in self._against(objective)
            if value > limit
        ]

    def excess(self, objective: Objective) -> float:
        """Return the sum of the relative excesses over the limits; 0 if all are met."""
        return sum(
            value / limit - 1 if limit else value
            for *_, value, limit in self._against(objective)
            if value > limit
        )

    def _against(self, objective: Objective) -> Iterator[tuple[str, str, float, float]]:
        pairs = (
            ("TTFT p95", " s", self.ttft_p95_s, objective.ttft_p95_s),
            ("TPOT p95", " s", self.tpot_p95_s, objective.tpot_p95_s),
            ("cost per hour", "", self.cost_per_hour, objective.cost_per_hour),
            ("share of failed requests", "", self.failed_share, objective.failed_share),
        )
        for name, unit, value, limit in pairs:
            if limit is not None:
                yield name, unit, value, limit


def judge(choice: ScalingChoice, result: SimulationResult) -> Candidate:
    """Return the figures of a choice's simulation."""
    requests = result.requests
    some = requests.answered > 0
    streamed = some and max(requests.output_tokens) > 1
    seen = len(requests) + result.unfinished
    return Candidate(
        choice=choice,
        ttft_p95_s=requests.ttft(95) if some else math.inf,
        tpot_p95_s=requests.tpot(95) if streamed else 0.0,
        cost_per_hour=result.cost / (result.t[-1] / 3600),
        failed_share=requests.failed() / seen if seen else 0.0,
    )


def pareto(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates that no other beats in both cost and TTFT, cheapest first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda each: (each.cost_per_hour, each.ttft_p95_s)):
        if not front or candidate.ttft_p95_s < front[-1].ttft_p95_s:
            front.append(candidate)
    return tuple(front)

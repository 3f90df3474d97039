"""What a load gave and what it cost: the same figures of a prediction and of a measurement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qwenkit.capacity.band import Band
from qwenkit.capacity.simulation.result import SimulationResult, nearest_rank
from qwenkit.inference.results import LoadRequest

FIGURES = (  # key, name, unit, and whether less (-1) or more (1) is better
    ("ttft_p50_s", "TTFT p50", "s", -1),
    ("ttft_p95_s", "TTFT p95", "s", -1),
    ("latency_p95_s", "latency p95", "s", -1),
    ("goodput_per_s", "goodput", "requests/s", 1),
    ("goodput_share", "within the objective", "%", 1),
    ("tokens_per_second", "throughput", "tokens/s", 1),
    ("max_ready", "replicas, at most", "", 0),
    ("gpu_seconds", "GPU time", "s", -1),
    ("cost_cny", "cost of the load", "CNY", -1),
    ("cny_per_million_tokens", "cost per million tokens", "CNY", -1),
)


def show(value: float | Band | None, unit: str = "") -> str:
    """Write a figure for people: three digits and its unit; shares in percent; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, Band):
        return value.times(100 if unit == "%" else 1).text(unit)
    scaled = value * 100 if unit == "%" else value
    return f"{scaled:,.0f} {unit}".strip() if abs(scaled) >= 100 else f"{scaled:.3g} {unit}".strip()


class Answered(NamedTuple):
    """One answered request; seconds, and its tokens."""

    ttft_s: float
    latency_s: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What figures are measured by. Objective and price are those of the GPU's own time.

    ``clock`` is how much faster than the modelled GPU the service runs, ``gpus`` a replica's.
    """

    ttft_p95_s: float = math.inf
    cny_per_gpu_hour: float = 0.0
    gpus: int = 1
    clock: float = 1.0

    def figures(
        self,
        answers: Sequence[Answered],
        *,
        sent: int,
        seconds: float,
        replica_seconds: float,
        max_ready: int,
    ) -> dict[str, float]:
        """Return figures by name; times as they were measured, without those that do not exist."""
        tokens = sum(answer.tokens for answer in answers)
        met = sum(answer.ttft_s * self.clock <= self.ttft_p95_s for answer in answers)
        gpu_seconds = replica_seconds * self.gpus
        cost = gpu_seconds * self.clock / 3600 * self.cny_per_gpu_hour
        found: dict[str, float] = {}
        if answers:
            ttft, latency, _ = (sorted(column) for column in zip(*answers, strict=True))
            found["ttft_p50_s"] = nearest_rank(ttft, 50)
            found["ttft_p95_s"] = nearest_rank(ttft, 95)
            found["latency_p95_s"] = nearest_rank(latency, 95)
        found |= {
            "goodput_per_s": met / max(seconds, 1e-9),
            "goodput_share": met / max(sent, 1),
            "tokens_per_second": tokens / max(seconds, 1e-9),
            "max_ready": max_ready,
            "gpu_seconds": gpu_seconds,
            "cost_cny": cost,
        }
        if tokens:
            found["cny_per_million_tokens"] = cost / tokens * 1e6
        return {name: round(value, 4) for name, value in found.items()}


def measured(requests: Iterable[LoadRequest]) -> list[Answered]:
    """Return the answered requests of a load."""
    good = (request for request in requests if request.outcome == "ok")
    return [
        Answered(r.latency_s if r.ttft_s is None else r.ttft_s, r.latency_s, r.tokens) for r in good
    ]


def simulated(result: SimulationResult, *, more_s: float = 0.0) -> list[Answered]:
    """Return the answered requests of a simulation, with what lies between client and server."""
    requests = result.requests
    columns = (requests.ttft_s, requests.latency_s, requests.output_tokens, requests.status)
    return [
        Answered(ttft + more_s, latency + more_s, tokens)
        for ttft, latency, tokens, status in zip(*columns, strict=True)
        if status == 200
    ]

"""A load test at one moment, and in words: the same figures for notebook, terminal and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qwenkit.cluster.watching import ClusterSample, Replicas

RECENT_S = 10.0
"""Percentiles and rates of a moment are those of the seconds before it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A load test ``at_s`` seconds after its start; rates and percentiles are of the last ten.

    ``waiting`` requests have no token yet, None while the load runs; ``errors`` counts failures by
    kind since the start. ``replicas`` are those of the revision that serves, ``others`` the pods of
    all others that hold GPUs; both are None where the cluster could not be read. ``pod_seconds`` is
    how long pods of any revision held a node's GPUs. ``queued`` requests wait in vLLM; ``stable``
    and ``panic`` are the averages of the autoscaler's windows; None where they cannot be read.
    ``clock`` is how much faster than the modelled GPU the server runs.
    """

    at_s: float
    sent: int = 0
    ok: int = 0
    in_flight: int = 0
    waiting: int | None = None
    offered_per_s: float = 0.0
    tokens_per_s: float = 0.0
    ttft_s: Mapping[str, float] = field(default_factory=dict)
    latency_s: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    replicas: Replicas | None = None
    others: int | None = None
    pod_seconds: float = 0.0
    queued: float | None = None
    stable: float | None = None
    panic: float | None = None
    clock: float = 1.0

    def __str__(self) -> str:
        return "; ".join(f"{name}: {value}" for name, value in self.figures().items())

    def figures(self) -> dict[str, str]:
        """Return the figures in words, always the same ones; "–" is what is not known."""
        pods = self.replicas
        replicas = f"{pods.ready} ready of {pods.desired} desired" if pods else "no answer"
        if self.others:
            replicas += f", {self.others} of other revisions"
        return {
            "in flight": f"{self.in_flight}, {self.offered_per_s:.1f}/s offered",
            "TTFT": spread(self.ttft_s),
            "replicas": replicas,
            "waiting in vLLM": "–" if self.queued is None else f"{self.queued:.0f}",
            "latency": spread(self.latency_s),
            "starting": f"{pods.starting}" if pods else "–",
            "answers": f"{self.ok} of {self.sent} sent",
            "tokens": f"{self.tokens_per_s:.0f}/s",
            "errors": ", ".join(f"{n} × {kind}" for kind, n in self.errors.items()) or "none",
        }


def cluster_figures(sample: ClusterSample | None) -> dict[str, Any]:
    """Return the fields of a moment that a sample of the cluster tells."""
    if sample is None or sample.error:
        return {}
    metrics = sample.metrics
    others = sum(pod.revision != sample.serving and bool(pod.node) for pod in sample.pods)
    figures: dict[str, Any] = {"replicas": sample.served, "others": others}
    if metrics.engines:
        figures["queued"] = sum(engine.waiting for engine in metrics.engines.values())
    if scaler := metrics.scalers.get(sample.serving):
        figures |= {"stable": scaler.stable, "panic": scaler.panic}
    return figures


def spread(percentiles: Mapping[str, float]) -> str:
    """Return p50 and p95 in words."""
    if not percentiles:
        return "–"
    return f"p50 {percentiles['p50']:.2f} s, p95 {percentiles['p95']:.2f} s"

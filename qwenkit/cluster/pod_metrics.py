"""The metrics of vLLM's pods and of Knative's autoscaler, read through the API server.

There need be no Prometheus: ``pods/proxy`` asks each pod, ``services/proxy`` the autoscaler.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from qwenkit.cluster.api.retries import within
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import CORE_SERVICE, KNATIVE_NAMESPACE, POD, Kind
from qwenkit.errors import Forbidden, QwenkitError
from qwenkit.inference.metrics import parse

_READ_S, _PAUSE_S = 1.0, 15.0
_AUTOSCALER, _AUTOSCALER_PORT = "autoscaler", 9090
# What is read, by its names: those of vLLM 0.4.1 and 0.32 ...
_ENGINE = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:gpu_cache_usage_perc": "cache_share",
    "vllm:kv_cache_usage_perc": "cache_share",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "tokens",
    "vllm:request_success_total": "answers",
}
# ... and of Knative before 1.19 and since, on concurrency and on requests a second.
_SCALER = {
    "autoscaler_stable_request_concurrency": "stable",
    "autoscaler_stable_requests_per_second": "stable",
    "autoscaler_panic_request_concurrency": "panic",
    "autoscaler_panic_requests_per_second": "panic",
    "kn_revision_concurrency_stable": "stable",
    "kn_revision_rps_stable": "stable",
    "kn_revision_concurrency_panic": "panic",
    "kn_revision_rps_panic": "panic",
}
# ``kn_`` and ``k8s_`` since 1.19.
_LABEL = re.compile(r'(?:^|,)(?:kn_|k8s_)?(namespace_name|revision_name)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """One vLLM server at one moment; tokens and answers are counted since it started."""

    running: float = 0
    waiting: float = 0
    cache_share: float = 0
    prompt_tokens: float = 0
    tokens: float = 0
    answers: float = 0


@dataclass(frozen=True, slots=True)
class ScalerMetrics:
    """The load of a revision as its autoscaler sees it: the averages of its two windows."""

    stable: float = 0
    panic: float = 0


@dataclass(frozen=True, slots=True)
class PodMetrics:
    """The metrics by pod and by revision, and of which they could not be read, and why."""

    engines: Mapping[str, EngineMetrics] = field(default_factory=dict)
    scalers: Mapping[str, ScalerMetrics] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


class MetricsReader:
    """Reads metrics again and again.

    What is forbidden once is not asked for again; what does not answer, after a pause, because a
    try to read it takes a second.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pauses: dict[str, tuple[float, str]] = {}  # until when, and why

    def read(self, ports: Mapping[str, int]) -> PodMetrics:
        """Read the metrics of pods, by name and port, and those of the autoscaler."""
        unknown: dict[str, str] = {}
        engines: dict[str, dict[str, float]] = {}
        for pod, port in ports.items():
            for field_, _, value in self._samples("vLLM", POD, pod, port, _ENGINE, unknown):
                engine = engines.setdefault(pod, {})
                engine[field_] = engine.get(field_, 0) + value  # over reasons and ranks
        scalers: dict[str, dict[str, float]] = {}
        at = CORE_SERVICE, _AUTOSCALER, _AUTOSCALER_PORT
        for field_, labels, value in self._samples(_AUTOSCALER, *at, _SCALER, unknown):
            names = dict(_LABEL.findall(labels))
            if names.get("namespace_name") == self._cluster.namespace:
                scalers.setdefault(names.get("revision_name", ""), {})[field_] = value
        return PodMetrics(
            {pod: EngineMetrics(**values) for pod, values in engines.items()},
            {revision: ScalerMetrics(**values) for revision, values in scalers.items()},
            unknown,
        )

    def _samples(
        self,
        whose: str,
        kind: Kind,
        name: str,
        port: int,
        fields: Mapping[str, str],
        unknown: dict[str, str],
    ) -> Iterator[tuple[str, str, float]]:
        """Yield field, labels and value; nothing if it cannot be read, ``unknown`` says why."""
        for paused in (whose, name):
            until, why = self._pauses.get(paused, (0.0, ""))
            if time.monotonic() < until:
                unknown[whose] = why
                return
        space = KNATIVE_NAMESPACE if kind == CORE_SERVICE else None
        try:
            with within(_READ_S):
                text = self._cluster.proxied(kind, name, port, "/metrics", namespace=space)
            lines = [line for line in text.splitlines() if line.startswith(tuple(fields))]
            found = parse("\n".join([*lines, ""]))
        except QwenkitError as error:
            unknown[whose] = error.why
            forbidden = isinstance(error, Forbidden)
            until = math.inf if forbidden else time.monotonic() + _PAUSE_S
            self._pauses[whose if forbidden else name] = until, error.why
            return
        for sample, value in found.items():
            metric, _, labels = sample.partition("{")
            if metric in fields and math.isfinite(value):
                yield fields[metric], labels, value

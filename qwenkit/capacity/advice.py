"""Advice on scaling settings: what is allowed and still goes wrong, most often on expensive GPUs.

``advise`` looks at a spec and at what is known about the cluster and the model; every finding
says which setting, what will happen and what to do. Rules come from the behaviour that the
decider has (``kpa.py``), not from taste.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches

from qwenkit.autoscaling.annotation_keys import ALIASES, KEYS, KPA, PREFIX
from qwenkit.autoscaling.annotations import RPS, ScalingSpec

ERROR, WARNING, INFO = "error", "warning", "info"
_BOUNDARY_PODS = 20


@dataclass(frozen=True, slots=True)
class Advice:
    """One finding. ``level`` is error (it will fail), warning (it will surprise) or info."""

    level: str
    rule: str
    setting: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known about cluster and model; None where it is not.

    ``cold_start_s`` is from pod created to ready, ``gpus`` pods' worth of GPUs,
    ``kv_sequences`` how many requests of usual length one pod's KV cache holds.
    """

    cold_start_s: float | None = None
    gpus: int | None = None
    kv_sequences: float | None = None
    timeout_s: float | None = None
    response_start_timeout_s: float | None = None


def advise(
    spec: ScalingSpec,
    *,
    annotations: Mapping[str, str] | None = None,
    surroundings: Surroundings | None = None,
) -> tuple[Advice, ...]:
    """Return what is worth knowing about these settings, worst first."""
    around = surroundings or Surroundings()
    found = [
        *_spelling(annotations or {}),
        *_metric(spec),
        *_panic(spec),
        *_boundary(spec),
        *_burst(spec),
        *_bounds(spec, around),
        *_cold_start(spec, around),
        *_capacity(spec, around),
    ]
    order = {ERROR: 0, WARNING: 1, INFO: 2}
    return tuple(sorted(found, key=lambda advice: order[advice.level]))


def panic_above(spec: ScalingSpec, ready: int) -> float:
    """Return the load of the panic window above which that many ready pods panic."""
    return (math.ceil(spec.panic_threshold * max(1, ready)) - 1) * spec.target


def _spelling(annotations: Mapping[str, str]) -> Iterator[Advice]:
    old = {camel: kebab for kebab, camel in ALIASES.items()}
    for full in annotations:
        if not full.startswith(PREFIX):
            continue
        key = full.removeprefix(PREFIX)
        if key not in KEYS:
            close = get_close_matches(key, KEYS, n=1)
            fix = f"write {PREFIX}{close[0]}" if close else "remove it"
            message = f"{full} is no key that Knative knows; it is silently ignored"
            yield Advice(WARNING, "unknown-key", full, message, fix)
        elif key in old and PREFIX + old[key] in annotations:
            message = f"{full} has no effect: {old[key]} is there too and wins"
            yield Advice(WARNING, "both-spellings", full, message, "remove it")
        elif key in old:
            message = f"{full} is the old spelling"
            yield Advice(INFO, "old-spelling", full, message, f"write {PREFIX}{old[key]}")


def _metric(spec: ScalingSpec) -> Iterator[Advice]:
    if spec.autoscaler_class != KPA:
        message = f"class {spec.autoscaler_class} is not the KPA: nothing predicted here applies"
        yield Advice(WARNING, "other-class", "class", message, f"remove it, or use {KPA}")
    if spec.metric == RPS:
        message = "queued requests do not raise rps: overload is never seen, nor corrected"
        yield Advice(WARNING, "rps-for-llm", "metric", message, "use concurrency for LLMs")


def _panic(spec: ScalingSpec) -> Iterator[Advice]:
    unit = spec.metric
    if math.ceil(spec.panic_threshold) <= 2:
        message = (
            f"one pod panics as soon as the {spec.panic_window_s:g} s mean {unit} exceeds "
            f"{panic_above(spec, 1):g}, and then keeps its peak for at least "
            f"{spec.stable_window_s:g} s"
        )
        fix = "raise panic-threshold-percentage to 400 for one or two pods"
        yield Advice(WARNING, "hair-trigger-panic", "panic-threshold-percentage", message, fix)
    if spec.max_scale:
        above = panic_above(spec, spec.max_scale)
        message = (
            f"with all {spec.max_scale} pods ready, a {unit} above {above:g} never ends the panic: "
            f"nothing scales down until {spec.stable_window_s:g} s after it"
        )
        fix = "raise max-scale, panic-threshold-percentage or the target"
        yield Advice(INFO, "endless-panic", "max-scale", message, fix)


def _boundary(spec: ScalingSpec) -> Iterator[Advice]:
    """Find loads that need k pods on paper and k + 1 in floating point."""
    exact = Decimal(repr(spec.total)) * Decimal(repr(spec.utilization))
    if float(exact) <= 0.01:
        return
    off = [k for k in range(1, _BOUNDARY_PODS + 1) if math.ceil(float(exact * k) / spec.target) > k]
    if off:
        message = (
            f"target {spec.target:.17g}: a load of exactly k × {exact.normalize():f} asks for "
            f"k + 1 pods at k = {', '.join(map(str, off))}"
        )
        yield Advice(INFO, "float-boundary", "target", message, "totals of 5, 10, 15, 20 do not")


def _burst(spec: ScalingSpec) -> Iterator[Advice]:
    burst = spec.target_burst_capacity
    if burst == -1:
        message = (
            "the activator is always in the path and pods are not scraped: when load stops, the "
            f"average does not decay, all pods stay for nearly {spec.stable_window_s:g} s"
        )
        yield Advice(INFO, "no-decay", "target-burst-capacity", message, "0 if that costs too much")
    elif burst > 0 and spec.max_scale and spec.max_scale * spec.total < burst:
        message = (
            f"{spec.max_scale} pods × {spec.total:g} never reach the burst capacity of {burst:g}: "
            "the activator stays in the path"
        )
        fix = "0 to leave the path once pods are up, -1 to say that it shall stay"
        yield Advice(INFO, "always-proxy", "target-burst-capacity", message, fix)


def _bounds(spec: ScalingSpec, around: Surroundings) -> Iterator[Advice]:
    first = max(spec.min_scale, spec.initial_scale)
    if spec.max_scale and spec.initial_scale > spec.max_scale:
        message = f"starts {spec.initial_scale} pods although max-scale is {spec.max_scale}"
        yield Advice(WARNING, "initial-above-max", "initial-scale", message, "lower initial-scale")
    if around.gpus is None:
        return
    if first > around.gpus:
        message = f"{first} pods must be ready at first, and there are {around.gpus} GPUs"
        fix = "lower min-scale or initial-scale"
        yield Advice(ERROR, "never-ready", "min-scale", message, fix)
    if not spec.max_scale:
        message = f"no limit: a backlog asks for far more than {around.gpus} GPUs"
        yield Advice(WARNING, "no-max-scale", "max-scale", message, f"set {around.gpus}")
    elif spec.max_scale > around.gpus:
        message = f"{spec.max_scale - around.gpus} pods will stay pending on {around.gpus} GPUs"
        yield Advice(WARNING, "beyond-gpus", "max-scale", message, f"set {around.gpus}")
    elif spec.max_scale + max(1, first) > around.gpus:
        message = (
            f"a rollout at full load needs {spec.max_scale} + {max(1, first)} GPUs, there are "
            f"{around.gpus}: the new revision waits for one"
        )
        yield Advice(WARNING, "no-spare-gpu", "max-scale", message, "roll out at low load")


def _cold_start(spec: ScalingSpec, around: Surroundings) -> Iterator[Advice]:
    start = around.cold_start_s
    if start is None:
        return
    if start > spec.progress_deadline_s:
        message = f"a cold start of {start:g} s misses the deadline of {spec.progress_deadline_s:g}"
        fix = "raise serving.knative.dev/progress-deadline"
        yield Advice(ERROR, "deadline-too-short", "progress-deadline", message, fix)
    if start > spec.stable_window_s:
        message = (
            f"a cold start of {start:g} s outlasts the stable window of {spec.stable_window_s:g} "
            "s: the load that asked for a pod may be forgotten when it is ready"
        )
        yield Advice(WARNING, "window-too-short", "window", message, "use 120s to 180s")
    limits = (
        ("timeoutSeconds", around.timeout_s),
        ("responseStartTimeoutSeconds", around.response_start_timeout_s),
    )
    for name, limit in limits:
        if spec.min_scale == 0 and limit is not None and start > limit:
            message = f"from zero, the first request gets 504 after {limit:g} s of {start:g}"
            yield Advice(ERROR, "cold-start-timeout", name, message, "raise it, or min-scale 1")


def _capacity(spec: ScalingSpec, around: Surroundings) -> Iterator[Advice]:
    room = around.kv_sequences
    if room is None or spec.metric == RPS:
        return
    if spec.total > room:
        message = f"a pod is given {spec.total:g} requests, its KV cache holds about {room:.1f}"
        fix = f"set {max(1, math.floor(room))}, or shorten max-model-len"
        yield Advice(WARNING, "beyond-kv-cache", "target", message, fix)
    if spec.container_concurrency > room:
        message = (
            f"the hard limit of {spec.container_concurrency} exceeds the KV cache's {room:.1f} "
            "requests: vLLM queues or preempts the rest"
        )
        fix = f"set {max(1, math.floor(room))}"
        yield Advice(INFO, "limit-beyond-kv-cache", "containerConcurrency", message, fix)

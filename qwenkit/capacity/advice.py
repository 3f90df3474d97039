"""Scaling settings that the cluster accepts and that still cause trouble.

The only set of such rules: the linter, ``qwenkit plan``, the panel and the notebook show these
findings. A finding's ``where`` is an annotation's full key or a field of the revision's spec. The
rules follow from how the autoscaler decides (``kpa.py``, ``scale_to_zero.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches

from qwenkit.autoscaling.annotation_keys import (
    ALIASES,
    GROUP,
    KEYS,
    KPA,
    PREFIX,
    PROGRESS_DEADLINE,
    find_annotation,
)
from qwenkit.autoscaling.annotation_reader import AnnotationReader
from qwenkit.autoscaling.annotations import ALGORITHMS, CONCURRENCY, RPS, ScalingSpec
from qwenkit.autoscaling.golang import parse_float
from qwenkit.capacity.finding import Finding, Level, worst_first

_BOUNDARY_PODS, _OFTEN = 20, 10
_LONG_COLD_START_S = 600.0  # new node, image of several GB, 9 GB of weights: 2 to 10 minutes
_LONG_ENOUGH_S = 300.0
_NUMBERS = (
    "target",
    "target-utilization-percentage",
    "panic-window-percentage",
    "panic-threshold-percentage",
    "target-burst-capacity",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingContext:
    """What is known about cluster, model and timeouts; None where it is not.

    ``cold_start_s`` is from pod created to ready, ``gpus`` pods' worth of GPUs,
    ``kv_sequences`` how many requests of usual length one pod's KV cache holds. Where
    ``timeout_s`` is known, a ``response_start_timeout_s`` of None is one that is not set.
    """

    cold_start_s: float | None = None
    gpus: int | None = None
    kv_sequences: float | None = None
    timeout_s: float | None = None
    response_start_timeout_s: float | None = None
    idle_timeout_s: float | None = None


def advise(
    spec: ScalingSpec,
    *,
    annotations: Mapping[str, str] | None = None,
    context: ScalingContext | None = None,
) -> list[Finding]:
    """Return the findings about these settings, errors first.

    ``annotations`` are those of ``spec``, to check their spelling too.
    """
    annotations, context = annotations or {}, context or ScalingContext()
    return worst_first(
        [
            *advise_annotations(annotations),
            *_metric(spec),
            *_target(spec, annotations),
            *_panic(spec),
            *_burst(spec),
            *_bounds(spec, context),
            *_cold_start(spec, context),
            *_timeouts(spec, context),
            *_kv_cache(spec, context),
        ]
    )


def advise_annotations(annotations: Mapping[str, str]) -> list[Finding]:
    """Return the findings about annotations that need no parsed values."""
    return worst_first([*_spelling(annotations), *_unchecked(annotations)])


def panic_above(spec: ScalingSpec, ready: int) -> float:
    """Return the mean load of the panic window above which this many ready pods panic."""
    return (math.ceil(spec.panic_threshold * max(1, ready)) - 1) * spec.target


def _spelling(annotations: Mapping[str, str]) -> Iterator[Finding]:
    known = {PREFIX + key for key in KEYS}
    for key in annotations:
        if GROUP in key.lower() and key not in known:
            close = get_close_matches(key.strip(), known, n=1)
            fix = f"did you mean {close[0]}?" if close else "remove it"
            message = f"{key!r} is not an annotation of Knative and is ignored silently"
            yield Finding("warning", "annotation-unknown", key, message, fix)
    for name, alias in ALIASES.items():
        new, old = PREFIX + name, PREFIX + alias
        if new in annotations and old in annotations:
            message = f"{new} wins, {old} is ignored"
            yield Finding("warning", "annotation-twice", new, message, "keep one spelling")
        elif old in annotations:
            message = "this is the old spelling"
            yield Finding("advice", "annotation-old", old, message, f"write {new}")


def _unchecked(annotations: Mapping[str, str]) -> Iterator[Finding]:
    """Find values that the webhook accepts and the autoscaler cannot use."""
    for name in _NUMBERS:
        key, text = find_annotation(annotations, name) or ("", "0")
        if not _is_usable(text):
            message = f"{text} passes the webhook, and the autoscaler cannot use it"
            fix = "write a finite number"
            yield Finding("error", "annotation-not-finite", key, message, fix)
    key, text = find_annotation(annotations, "metric-aggregation-algorithm") or ("", "")
    named = find_annotation(annotations, "class")
    if text not in ALGORITHMS and (named is None or named[1] != KPA):
        message = f"{text!r} is not an algorithm; the webhook checks it only if the class is {KPA}"
        fix = "use linear or weighted-exponential"
        yield Finding("warning", "algorithm-unknown", key, message, fix)


def _is_usable(text: str) -> bool:
    try:
        return math.isfinite(parse_float(text))
    except ValueError:
        return True  # not a number: the webhook refuses it


def _metric(spec: ScalingSpec) -> Iterator[Finding]:
    if spec.autoscaler_class != KPA:
        message = f"class {spec.autoscaler_class} is not the KPA: the predictions do not apply"
        yield Finding("warning", "other-class", f"{PREFIX}class", message, f"use {KPA}")
    if spec.metric == RPS:
        message = "waiting requests do not raise requests per second: a backlog is invisible"
        fix = "use concurrency: an LLM's service time varies with the length of the answer"
        yield Finding("warning", "metric-rps", f"{PREFIX}metric", message, fix)


def _target(spec: ScalingSpec, annotations: Mapping[str, str]) -> Iterator[Finding]:
    asked, limit = AnnotationReader(annotations).number("target"), spec.container_concurrency
    if asked and spec.metric == CONCURRENCY and 0 < limit < asked:
        message = f"containerConcurrency {limit} caps the target {asked:g}"
        fix = "make them equal, or leave containerConcurrency at 0"
        yield Finding("warning", "target-over-limit", f"{PREFIX}target", message, fix)
    # Loads that need k pods on paper and k + 1 in floating point.
    exact = Decimal(repr(spec.total)) * Decimal(repr(spec.utilization))
    steps = range(1, _BOUNDARY_PODS + 1) if float(exact) > 0.01 else ()
    off = sum(math.ceil(float(exact * k) / spec.target) > k for k in steps)
    if off >= _OFTEN:
        message = (
            f"at {off} of the first {_BOUNDARY_PODS} multiples of {exact.normalize():f} "
            "floating-point rounding adds one replica"
        )
        fix = "targets of 5, 10, 15 and 20 never round up at 70 %; 1, 2, 4 and 8 seldom"
        yield Finding("advice", "target-boundary", f"{PREFIX}target", message, fix)


def _panic(spec: ScalingSpec) -> Iterator[Finding]:
    if spec.panic_threshold > 2:
        return
    key = f"{PREFIX}panic-threshold-percentage"
    message = (
        f"one pod panics when the {spec.panic_window_s:g} s mean {spec.metric} exceeds "
        f"{panic_above(spec, 1):g}, and then keeps its peak for at least {spec.stable_window_s:g} s"
    )
    fix = "raise panic-threshold-percentage to 400 for one or two pods"
    yield Finding("advice", "hair-trigger-panic", key, message, fix)
    if spec.max_scale:
        message = (
            f"with all {spec.max_scale} pods ready, a {spec.metric} above "
            f"{panic_above(spec, spec.max_scale):g} keeps the autoscaler in panic: it does not "
            f"scale down until {spec.stable_window_s:g} s after that"
        )
        fix = "raise max-scale, panic-threshold-percentage or the target"
        yield Finding("advice", "endless-panic", f"{PREFIX}max-scale", message, fix)


def _burst(spec: ScalingSpec) -> Iterator[Finding]:
    key, burst = f"{PREFIX}target-burst-capacity", spec.target_burst_capacity
    if burst == -1:
        message = (
            "the activator stays in the path and pods are not scraped: when the load stops, the "
            f"average does not decay, and all pods stay for nearly {spec.stable_window_s:g} s"
        )
        yield Finding("advice", "no-decay", key, message, "use 0 if that costs too much")
    elif burst > 0 and spec.max_scale and spec.max_scale * spec.total < burst:
        message = (
            f"{spec.max_scale} pods × {spec.total:g} never reach the burst capacity of {burst:g}: "
            "the activator stays in the path"
        )
        fix = "use 0 to take it out of the path once pods are ready, -1 to keep it there"
        yield Finding("advice", "always-proxy", key, message, fix)


def _bounds(spec: ScalingSpec, context: ScalingContext) -> Iterator[Finding]:
    key, gpus = f"{PREFIX}max-scale", context.gpus
    first = max(spec.min_scale, spec.initial_scale)
    if not spec.max_scale:
        message = "the replicas have no limit; the backlog of a cold start asks for dozens of GPUs"
        fix = f"set it to {gpus or 'the number of GPUs that you have'}"
        yield Finding("warning", "max-scale-unset", key, message, fix)
    elif spec.initial_scale > spec.max_scale:
        message = f"a revision starts with {spec.initial_scale} pods in spite of max-scale"
        where = f"{PREFIX}initial-scale"
        yield Finding("warning", "initial-over-max", where, message, "lower initial-scale")
    if gpus is None:
        return
    if first > gpus:
        message = f"a new revision needs {first} ready pods, and there are only {gpus} GPUs"
        fix = "lower min-scale or initial-scale"
        yield Finding("error", "never-ready", f"{PREFIX}min-scale", message, fix)
    if spec.max_scale > gpus:
        message = f"{spec.max_scale - gpus} pods will stay pending on {gpus} GPUs"
        yield Finding("warning", "beyond-gpus", key, message, f"set it to {gpus}")
    elif spec.max_scale and spec.max_scale + max(1, first) > gpus:
        message = (
            f"a rollout at full load needs {spec.max_scale} + {max(1, first)} GPUs, and there are "
            f"only {gpus}: the new revision waits"
        )
        fix = "roll out at low load, or in mode replace"
        yield Finding("warning", "no-spare-gpu", key, message, fix)


def _cold_start(spec: ScalingSpec, context: ScalingContext) -> Iterator[Finding]:
    start, deadline = context.cold_start_s, spec.progress_deadline_s
    fix = "set it to 1800s"
    if start is None and deadline <= _LONG_COLD_START_S:
        # 600 s is Knative's default, and perhaps not a choice.
        level: Level = "advice" if deadline == _LONG_COLD_START_S else "warning"
        message = f"{deadline:g} s is short for a new node, a large image and the weights"
        yield Finding(level, "progress-deadline", PROGRESS_DEADLINE, message, fix)
    elif start is not None and start > deadline:
        message = f"a cold start of {start:g} s misses the deadline of {deadline:g} s"
        fix = fix if start < 1800 else f"set it to {2 * start:.0f}s"
        yield Finding("error", "progress-deadline", PROGRESS_DEADLINE, message, fix)
    if start is not None and start > spec.stable_window_s:
        message = (
            f"a cold start of {start:g} s outlasts the stable window of {spec.stable_window_s:g} "
            "s: the load that asked for a pod may have left the window when it is ready"
        )
        fix = "use 120s to 180s, and scale-down-delay for more"
        yield Finding("warning", "window-too-short", f"{PREFIX}window", message, fix)


def _timeouts(spec: ScalingSpec, context: ScalingContext) -> Iterator[Finding]:
    start, total, idle = context.cold_start_s, context.timeout_s, context.idle_timeout_s
    first = context.response_start_timeout_s
    for name, limit in (("timeoutSeconds", total), ("responseStartTimeoutSeconds", first)):
        if spec.min_scale == 0 and start is not None and limit is not None and start > limit:
            message = f"from zero, the first request gets 504 after {limit:g} s of {start:g} s"
            yield Finding("error", "cold-start-timeout", name, message, "raise it, or min-scale 1")
    if total is None:
        return
    name, fix = "responseStartTimeoutSeconds", f"set it to {total:g} too"
    if first is None and total > _LONG_ENOUGH_S:
        message = f"the default is 300 although timeoutSeconds is {total:g}: it cuts a cold start"
        yield Finding("warning", "response-start", name, message, fix)
    elif first is not None and 0 < first < total:
        message = f"no first byte in {first:g} s is a 504, although timeoutSeconds is {total:g}"
        yield Finding("advice", "response-start", name, message, fix)
    elif start is None and total <= _LONG_ENOUGH_S:
        message = f"a request that waits for a cold start of over {total:g} s fails"
        fix = "set timeoutSeconds and responseStartTimeoutSeconds to 600"
        yield Finding("advice", "timeout-short", "timeoutSeconds", message, fix)
    if idle is not None and 0 < idle < total:
        message = f"it counts before the first byte too: a cold start is cut at {idle:g} s"
        yield Finding("warning", "idle-timeout", "idleTimeoutSeconds", message, "leave it at 0")


def _kv_cache(spec: ScalingSpec, context: ScalingContext) -> Iterator[Finding]:
    room = context.kv_sequences
    if room is None or spec.metric == RPS:
        return
    fix = f"set it to {max(1, math.floor(room))}, or shorten max-model-len"
    if spec.total > room:
        message = f"a pod may get {spec.total:g} requests, its KV cache holds about {room:.1f}"
        yield Finding("warning", "beyond-kv-cache", f"{PREFIX}target", message, fix)
    if spec.container_concurrency > room:
        message = (
            f"the hard limit of {spec.container_concurrency} exceeds the {room:.1f} requests of "
            "the KV cache: vLLM queues or preempts the rest"
        )
        yield Finding("advice", "limit-beyond-kv-cache", "containerConcurrency", message, fix)

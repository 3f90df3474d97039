"""Advice about scaling annotations and timeouts: what the webhook accepts and is still a trap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from qwenkit.autoscaling.annotation_keys import ALIASES, GROUP, KEYS, KPA, PREFIX, SERVING
from qwenkit.autoscaling.annotation_keys import find_annotation as read
from qwenkit.autoscaling.golang import parse_duration_s, parse_float
from qwenkit.manifests.finding import Finding, at, place, table

Doc = dict[str, Any]
_TEMPLATE = "spec.template.metadata"
_NUMBERS = (
    "target",
    "target-utilization-percentage",
    "panic-window-percentage",
    "panic-threshold-percentage",
    "target-burst-capacity",
)
_ALGORITHMS = ("", "linear", "weighted-exponential", "weightedExponential")
_COLD_START_S = 600  # node, image of several GB, 9 GB of weights


def findings(doc: Doc) -> list[Finding]:
    """Examine one Knative Service."""
    raw = table(doc, "spec", "template", "metadata", "annotations")
    annotations = {str(key): str(value) for key, value in raw.items()}
    return [
        *_keys(doc, annotations),
        *_values(doc, annotations),
        *_bounds(doc, annotations),
        *_target(doc, annotations),
        *_timeouts(doc),
        *_progress_deadline(doc, annotations),
    ]


def _where(doc: Doc, key: str) -> str:
    return place(doc, f"{_TEMPLATE}.annotations.{key}")


def _keys(doc: Doc, annotations: dict[str, str]) -> Iterator[Finding]:
    known = {PREFIX + name for name in KEYS}
    for key in annotations:
        if GROUP in key.lower() and key not in known:
            close = get_close_matches(key.strip(), known, n=1)
            message = f"Knative does not know {key!r} and ignores it silently"
            fix = f"did you mean {close[0]}?" if close else "remove it"
            yield Finding("warning", "annotation-unknown", _where(doc, key), message, fix)
    for name, alias in ALIASES.items():
        spellings = [PREFIX + name, PREFIX + alias]
        if all(key in annotations for key in spellings):
            message = f"{spellings[0]} wins, {spellings[1]} is ignored"
            fix = "keep one spelling"
            yield Finding("warning", "annotation-twice", _where(doc, name), message, fix)
    yield from _misplaced(doc, annotations)


def _misplaced(doc: Doc, annotations: dict[str, str]) -> Iterator[Finding]:
    for path in (("metadata", "labels"), ("spec", "template", "metadata", "labels")):
        for key in table(doc, *path):
            if str(key).startswith(f"{GROUP}/"):
                where = place(doc, ".".join(path))
                message = f"{key} is a label here; the autoscaler reads annotations"
                fix = f"move it to {_TEMPLATE}.annotations"
                yield Finding("warning", "annotation-as-label", where, message, fix)
    for key in (f"{SERVING}/rollout-duration", f"{SERVING}/rolloutDuration"):
        if key in annotations:
            message = f"{key} on the template does nothing"
            fix = "move it to the Service's own metadata.annotations"
            yield Finding("warning", "annotation-misplaced", _where(doc, key), message, fix)
    deadline = f"{SERVING}/progress-deadline"
    if deadline in table(doc, "metadata", "annotations"):
        message = f"{deadline} on the Service does nothing"
        where = place(doc, "metadata.annotations")
        fix = f"move it to {_TEMPLATE}.annotations"
        yield Finding("warning", "annotation-misplaced", where, message, fix)


def _values(doc: Doc, annotations: dict[str, str]) -> Iterator[Finding]:
    for name in _NUMBERS:
        number = _number(annotations, name)
        if number is not None and not math.isfinite(number):
            message = f"{name} is {number}; the webhook lets it pass, the autoscaler cannot use it"
            fix = "write a finite number"
            yield Finding("error", "annotation-not-finite", _where(doc, name), message, fix)
    algorithm, named = read(annotations, "metric-aggregation-algorithm"), read(annotations, "class")
    unchecked = named is None or named[1] != KPA
    if algorithm and algorithm[1] not in _ALGORITHMS and unchecked:
        message = f"{algorithm[1]!r} is no algorithm; unless the class is {KPA} nobody checks"
        fix = "use linear or weighted-exponential"
        yield Finding("warning", "algorithm-unknown", _where(doc, algorithm[0]), message, fix)
    metric = read(annotations, "metric")
    if metric and metric[1] == "rps":
        message = "waiting requests do not raise requests per second, so a backlog is not seen"
        fix = "use concurrency: an LLM's service time varies with the length of the answer"
        yield Finding("advice", "metric-rps", _where(doc, "metric"), message, fix)


def _bounds(doc: Doc, annotations: dict[str, str]) -> Iterator[Finding]:
    most, first = _number(annotations, "max-scale"), _number(annotations, "initial-scale")
    least = _number(annotations, "min-scale")
    if not most:
        message = "nothing bounds the replicas; the backlog of a cold start asks for dozens of GPUs"
        fix = "set max-scale to the number of GPUs that you have"
        yield Finding("warning", "max-scale-unset", _where(doc, "max-scale"), message, fix)
    if most and first and first > most:
        message = f"initial-scale {first:g} wins over max-scale {most:g} when a revision starts"
        fix = "lower initial-scale"
        yield Finding("warning", "initial-over-max", _where(doc, "initial-scale"), message, fix)
    if most and least and least > most:
        message = f"min-scale {least:g} exceeds max-scale {most:g}"
        yield Finding("error", "min-over-max", _where(doc, "min-scale"), message, "raise max-scale")


def _target(doc: Doc, annotations: dict[str, str]) -> Iterator[Finding]:
    target = _number(annotations, "target")
    limit = at(doc, "spec", "template", "spec", "containerConcurrency")
    metric = read(annotations, "metric")
    counts_requests = metric is None or metric[1] == "concurrency"
    if target and isinstance(limit, int) and counts_requests and 0 < limit < target:
        message = f"containerConcurrency {limit} caps the target {target:g}"
        fix = "make them equal, or leave containerConcurrency at 0"
        yield Finding("warning", "target-over-limit", _where(doc, "target"), message, fix)
    share = _number(annotations, "target-utilization-percentage") or 70
    if target and math.isfinite(target) and math.isfinite(share):
        wrong = _rounded_up(target, share)
        if wrong >= 10:
            message = (
                f"at {wrong} of the first 20 loads that are a multiple of {target:g} x {share:g} % "
                "floating-point rounding asks for one replica more"
            )
            fix = "totals 5, 10, 15 and 20 never round up at 70 %; 1, 2, 4 and 8 seldom"
            yield Finding("advice", "target-boundary", _where(doc, "target"), message, fix)


def _rounded_up(total: float, percent: float) -> int:
    target = total * (percent / 100)
    loads = (float(f"{k * total * percent / 100:.10g}") for k in range(1, 21))
    return sum(math.ceil(load / target) > k for k, load in enumerate(loads, start=1))


def _timeouts(doc: Doc) -> Iterator[Finding]:
    spec = table(doc, "spec", "template", "spec")
    total, first = spec.get("timeoutSeconds") or 300, spec.get("responseStartTimeoutSeconds")
    idle = spec.get("idleTimeoutSeconds") or 0
    where = place(doc, "spec.template.spec.responseStartTimeoutSeconds")
    if total > 300 and first is None:
        message = f"defaults to 300 though timeoutSeconds is {total}: a cold start is cut at 300 s"
        yield Finding("warning", "response-start", where, message, f"set it to {total} too")
    elif isinstance(first, int) and 0 < first < total:
        message = f"a first byte after {first} s is a 504 though timeoutSeconds is {total}"
        yield Finding("advice", "response-start", where, message, f"set it to {total} too")
    elif total <= 300:
        place_ = place(doc, "spec.template.spec.timeoutSeconds")
        message = f"a request that waits for a cold start of over {total} s fails"
        fix = "set timeoutSeconds and responseStartTimeoutSeconds to 600"
        yield Finding("advice", "timeout-short", place_, message, fix)
    if 0 < idle < total:
        place_ = place(doc, "spec.template.spec.idleTimeoutSeconds")
        message = f"it counts before the first byte too: a cold start is cut at {idle} s"
        yield Finding("warning", "idle-timeout", place_, message, "leave it at 0")


def _progress_deadline(doc: Doc, annotations: dict[str, str]) -> Iterator[Finding]:
    key = f"{SERVING}/progress-deadline"
    fix = f'set {key}: "1800s"'
    if key not in annotations:
        message = "the default of 600 s is short for a new node, a large image and the weights"
        yield Finding("advice", "progress-deadline", _where(doc, key), message, fix)
        return
    try:
        deadline = parse_duration_s(annotations[key])
    except ValueError:
        return
    if deadline < _COLD_START_S:
        message = f"{annotations[key]} is shorter than a new node, a large image and the weights"
        yield Finding("warning", "progress-deadline", _where(doc, key), message, fix)


def _number(annotations: dict[str, str], name: str) -> float | None:
    found = read(annotations, name)
    try:
        return None if found is None else parse_float(found[1])
    except (ValueError, OverflowError):
        return None

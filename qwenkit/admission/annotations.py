"""What Knative's webhook refuses in annotations."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import (
    HERE,
    Fault,
    Faults,
    go_float,
    invalid,
    invalid_key,
    out_of_bounds,
)
from qwenkit.admission.schema import quantities
from qwenkit.autoscaling.annotation_keys import GROUP, HPA, KPA, SERVING, find_annotation
from qwenkit.autoscaling.golang import parse_duration_ns, parse_float, parse_int

_SECOND = 10**9
_HOUR = 3600 * _SECOND
_QUEUE_RESOURCES = [
    f"queue.sidecar.{SERVING}/{resource}-resource-{side}"
    for resource in ("cpu", "memory", "ephemeral-storage")
    for side in ("request", "limit")
]
_NETWORKING = {
    f"networking.knative.dev/{name}"
    for name in (
        "ingress.class",
        "ingress-class",
        "certificate.class",
        "certificate-class",
        "disableAutoTLS",
        "disable-auto-tls",
        "disable-external-domain-tls",
        "httpOption",
        "http-protocol",
    )
}
Annotations = Mapping[str, str]


def template(annotations: Annotations, cluster: ClusterConfigMaps) -> Faults:
    """Check all annotations of a revision template."""
    yield from autoscaling(annotations, cluster)
    for key in annotations:
        if key.startswith("networking.knative.dev") and key not in _NETWORKING:
            yield invalid_key(key, HERE)
    yield from _queue(annotations)
    yield from _whole_seconds(annotations, "progress-deadline")


def autoscaling(annotations: Annotations, cluster: ClusterConfigMaps) -> Faults:
    """Check the annotations of the autoscaler."""
    yield from _class(annotations)
    yield from _scale_bounds(annotations, cluster)
    yield from _floats(annotations)
    yield from _durations(annotations)
    yield from _metric(annotations, cluster)
    yield from _algorithm(annotations)
    yield from _initial_scale(annotations, cluster)


def misplaced(annotations: Annotations) -> Faults:
    """Refuse autoscaling annotations anywhere but on the template."""
    rule = 'autoscaling annotations must be put under "spec.template.metadata.annotations" to work'
    yield from (invalid_key(key, HERE, rule) for key in annotations if key.startswith(GROUP))


def rollout(annotations: Annotations) -> Faults:
    """Check the rollout duration of a Service or Route."""
    yield from _whole_seconds(annotations, "rollout-duration", "rolloutDuration")


def _class(annotations: Annotations) -> Faults:
    found = find_annotation(annotations, "class")
    if found and found[1].endswith(".knative.dev") and found[1] not in (KPA, HPA):
        yield invalid(found[1], found[0])


def _scale(annotations: Annotations, name: str) -> int | Fault:
    found = find_annotation(annotations, name)
    if found is None:
        return 0
    key, value = found
    # A scale that is negative or does not fit 32 bits is shown as it was written.
    out_of_int32 = out_of_bounds(value, 0, 2**31 - 1, key)
    try:
        number = parse_int(value)
    except ValueError:
        return out_of_int32 if re.fullmatch("[+-]?[0-9]+", value) else invalid(value, key)
    return number if number >= 0 else out_of_int32


def _scale_bounds(annotations: Annotations, cluster: ClusterConfigMaps) -> Faults:
    least, most = (_scale(annotations, name) for name in ("min-scale", "max-scale"))
    if isinstance(least, Fault):
        yield least
        least = 0
    if isinstance(most, Fault):
        yield most
        most = 0
    if 0 != most < least:
        paths = (f"{GROUP}/max-scale", f"{GROUP}/min-scale")
        yield Fault(f"max-scale={most} is less than min-scale={least}", paths)
    found, limit = find_annotation(annotations, "max-scale"), cluster.max_scale_limit
    if found and limit:
        if most > limit:
            yield out_of_bounds(most, 1, limit, found[0])
        if most == 0:
            yield Fault(f"max-scale=0 (unlimited), must be less than {limit}", (found[0],))
    yield from _activation_scale(annotations, least, most)


def _activation_scale(annotations: Annotations, least: int, most: int) -> Faults:
    found = find_annotation(annotations, "activation-scale")
    if found is None:
        return
    key, value = found
    try:
        number = parse_int(value)
    except ValueError:
        yield invalid(value, key)
        return
    if least > number:
        yield Fault(f"min-scale={least} is greater than activation-scale={number}", (key,))
    elif 0 != most < number:
        yield Fault(f"max-scale={most} is less than activation-scale={number}", (key,))
    elif number < 2:
        yield Fault(f"activation-scale={number} must be greater than 1", (key,))


def _floats(annotations: Annotations) -> Faults:
    for name, low, high in (
        ("panic-window-percentage", 1, 100),
        ("panic-threshold-percentage", 110, 1000),
        ("target-utilization-percentage", 1, 100),
        ("target", 0.01, None),
        ("target-burst-capacity", 0, None),
    ):
        found = find_annotation(annotations, name)
        if found is None:
            continue
        key, value = found
        number = _float(value)
        if number is None:
            yield invalid(value, key)
        elif high is not None and not low <= number <= high and not math.isnan(number):
            yield out_of_bounds(value, low, high, key)
        elif name == "target" and number < low:
            yield Fault(f"target {value} should be at least 0.01", (key,))
        elif name == "target-burst-capacity" and number < low and number != -1:
            yield invalid(value, key)


def _float(text: str) -> float | None:
    """Parse as Go does: ``NaN`` and ``Inf`` are numbers, ``1e999`` is not."""
    try:
        number = parse_float(text)
    except (ValueError, OverflowError):
        return None
    overflowed = math.isinf(number) and "inf" not in text.lower()
    return None if overflowed else number


def _durations(annotations: Annotations) -> Faults:
    for name, low, shown, whole in (
        ("window", 6 * _SECOND, "6s", True),
        ("scale-to-zero-pod-retention-period", 0, "0s", False),
        ("scale-down-delay", 0, "0s", True),
    ):
        found = find_annotation(annotations, name)
        if found is None:
            continue
        key, value = found
        try:
            duration = parse_duration_ns(value)
        except ValueError:
            yield invalid(value, key)
            continue
        if not low <= duration <= _HOUR:
            yield out_of_bounds(value, shown, "1h0m0s", key)
        elif whole and duration % _SECOND:
            yield Fault("must be specified with at most second precision", (key,))


def _metric(annotations: Annotations, cluster: ClusterConfigMaps) -> Faults:
    found, named = (find_annotation(annotations, name) for name in ("metric", "class"))
    scaler = named[1] if named else cluster.autoscaler_class
    if found and (
        (scaler == KPA and found[1] not in ("concurrency", "rps"))
        or (scaler == HPA and not found[1])
    ):
        yield invalid(found[1], found[0])


def _algorithm(annotations: Annotations) -> Faults:
    found = find_annotation(annotations, "metric-aggregation-algorithm")
    named = find_annotation(annotations, "class")
    known = ("", "linear", "weighted-exponential", "weightedExponential")
    if found and named and named[1] == KPA and found[1] not in known:
        yield invalid(found[1], found[0])


def _initial_scale(annotations: Annotations, cluster: ClusterConfigMaps) -> Faults:
    found = find_annotation(annotations, "initial-scale")
    if found is None:
        return
    key, value = found
    try:
        number = parse_int(value, bits=64)
    except ValueError:
        yield invalid(value, key)
        return
    if number < 0:
        yield invalid(value, f"{key} must be greater than 0")
    elif number == 0 and not cluster.allows_zero_initial_scale:
        yield invalid(value, f"{key}=0 not allowed by cluster")


def _whole_seconds(annotations: Annotations, name: str, *aliases: str) -> Faults:
    keys = (f"{SERVING}/{spelling}" for spelling in (name, *aliases))
    key = next((key for key in keys if key in annotations), "")
    value = annotations.get(key)
    if not value:
        return
    try:
        duration = parse_duration_ns(value)
    except ValueError:
        yield invalid(value, key)
        return
    if duration % _SECOND:
        yield Fault(f"{name}={value} is not at second precision", (key,))
    elif duration < 0:
        yield Fault(f"{name}={value} must be positive", (key,))


def _queue(annotations: Annotations) -> Faults:
    prefix = f"queue.sidecar.{SERVING}"
    names = (f"{prefix}/resource-percentage", f"{prefix}/resourcePercentage")
    key = next((key for key in names if key in annotations), None)
    if key is not None:
        number = _float(annotations[key])
        if number is None:
            yield invalid(annotations[key], f"[{key}]")
        elif number < 0.1 or number > 100:
            yield out_of_bounds(go_float(number), 0.1, 100, f"[{key}]")
    for key in _QUEUE_RESOURCES:
        if key in annotations and not _is_quantity(annotations[key]):
            yield invalid(annotations[key], f"[{key}]")


def _is_quantity(text: str) -> bool:
    try:
        quantities.parse(text)
    except ValueError:
        return False
    return True

"""The annotations that Knative's webhook checks, and what it says about them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import (
    HERE,
    Fault,
    go_float,
    invalid,
    invalid_key,
    out_of_bounds,
    via,
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


def template(annotations: Annotations, cluster: ClusterConfigMaps) -> list[Fault]:
    """Check all annotations of a revision template."""
    return [
        *autoscaling(annotations, cluster),
        *(
            invalid_key(key, HERE)
            for key in annotations
            if key.startswith("networking.knative.dev") and key not in _NETWORKING
        ),
        *_queue(annotations),
        *_whole_seconds(annotations, "progress-deadline"),
    ]


def autoscaling(annotations: Annotations, cluster: ClusterConfigMaps) -> list[Fault]:
    """Check the annotations of the autoscaler."""
    return [
        *_class(annotations),
        *_scale_bounds(annotations, cluster),
        *_floats(annotations),
        *_durations(annotations),
        *_metric(annotations, cluster),
        *_algorithm(annotations),
        *_initial_scale(annotations, cluster),
    ]


def misplaced(annotations: Annotations) -> list[Fault]:
    """Refuse autoscaling annotations anywhere but on the template."""
    rule = 'autoscaling annotations must be put under "spec.template.metadata.annotations" to work'
    return [invalid_key(key, HERE, rule) for key in annotations if key.startswith(GROUP)]


def rollout(annotations: Annotations) -> list[Fault]:
    """Check the rollout duration of a Service or Route."""
    return _whole_seconds(annotations, "rollout-duration", "rolloutDuration")


def _class(annotations: Annotations) -> list[Fault]:
    found = find_annotation(annotations, "class")
    if found and found[1].endswith(".knative.dev") and found[1] not in (KPA, HPA):
        return [invalid(found[1], found[0])]
    return []


def _integer(annotations: Annotations, name: str) -> tuple[int, list[Fault]]:
    found = find_annotation(annotations, name)
    if found is None:
        return 0, []
    key, value = found
    try:
        number = parse_int(value)
    except ValueError:
        too_large = re.fullmatch("[+-]?[0-9]+", value) is not None
        return 0, [_out_of_int32(value, key) if too_large else invalid(value, key)]
    return (number, []) if number >= 0 else (0, [_out_of_int32(value, key)])


def _out_of_int32(value: str, key: str) -> Fault:
    """A scale is negative or does not fit 32 bits; it is shown as it was written."""
    return out_of_bounds(value, 0, 2**31 - 1, key)


def _scale_bounds(annotations: Annotations, cluster: ClusterConfigMaps) -> list[Fault]:
    least, faults = _integer(annotations, "min-scale")
    most, more = _integer(annotations, "max-scale")
    faults += more
    if 0 != most < least:
        paths = (f"{GROUP}/max-scale", f"{GROUP}/min-scale")
        faults.append(Fault(f"max-scale={most} is less than min-scale={least}", paths))
    found = find_annotation(annotations, "max-scale")
    limit = cluster.max_scale_limit
    if found and limit:
        if most > limit:
            faults.append(out_of_bounds(most, 1, limit, found[0]))
        if most == 0:
            message = f"max-scale=0 (unlimited), must be less than {limit}"
            faults.append(Fault(message, (found[0],)))
    return faults + _activation_scale(annotations, least, most)


def _activation_scale(annotations: Annotations, least: int, most: int) -> list[Fault]:
    found = find_annotation(annotations, "activation-scale")
    if found is None:
        return []
    key, value = found
    try:
        number = parse_int(value)
    except ValueError:
        return [invalid(value, key)]
    if least > number:
        return [Fault(f"min-scale={least} is greater than activation-scale={number}", (key,))]
    if 0 != most < number:
        return [Fault(f"max-scale={most} is less than activation-scale={number}", (key,))]
    if number < 2:
        return [Fault(f"activation-scale={number} must be greater than 1", (key,))]
    return []


def _floats(annotations: Annotations) -> list[Fault]:
    faults = []
    for name, low, high in (
        ("panic-window-percentage", 1, 100),
        ("panic-threshold-percentage", 110, 1000),
        ("target-utilization-percentage", 1, 100),
    ):
        found = find_annotation(annotations, name)
        number = _float(found)
        if found and number is None:
            faults.append(invalid(found[1], found[0]))
        elif found and number is not None and (number < low or number > high):
            faults.append(out_of_bounds(found[1], low, high, found[0]))
    return faults + _target(annotations) + _burst(annotations)


def _target(annotations: Annotations) -> list[Fault]:
    found = find_annotation(annotations, "target")
    number = _float(found)
    if found and number is None:
        return [invalid(found[1], found[0])]
    if found and number is not None and number < 0.01:
        return [Fault(f"target {found[1]} should be at least 0.01", (found[0],))]
    return []


def _burst(annotations: Annotations) -> list[Fault]:
    found = find_annotation(annotations, "target-burst-capacity")
    number = _float(found)
    if found and (number is None or (number < 0 and number != -1)):
        return [invalid(found[1], found[0])]
    return []


def _float(found: tuple[str, str] | None) -> float | None:
    """Parse as Go does: ``NaN`` and ``Inf`` are numbers, ``1e999`` is none."""
    if found is None:
        return None
    try:
        number = parse_float(found[1])
    except (ValueError, OverflowError):
        return None
    overflowed = math.isinf(number) and "inf" not in found[1].lower()
    return None if overflowed else number


def _durations(annotations: Annotations) -> list[Fault]:
    faults = []
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
            faults.append(invalid(value, key))
            continue
        if not low <= duration <= _HOUR:
            faults.append(out_of_bounds(value, shown, "1h0m0s", key))
        elif whole and duration % _SECOND:
            faults.append(Fault("must be specified with at most second precision", (key,)))
    return faults


def _metric(annotations: Annotations, cluster: ClusterConfigMaps) -> list[Fault]:
    found = find_annotation(annotations, "metric")
    if found is None:
        return []
    named = find_annotation(annotations, "class")
    scaler = named[1] if named else cluster.autoscaler_class
    wrong = (scaler == KPA and found[1] not in ("concurrency", "rps")) or (
        scaler == HPA and found[1] == ""
    )
    return [invalid(found[1], found[0])] if wrong else []


def _algorithm(annotations: Annotations) -> list[Fault]:
    found, named = (
        find_annotation(annotations, "metric-aggregation-algorithm"),
        find_annotation(annotations, "class"),
    )
    known = ("", "linear", "weighted-exponential", "weightedExponential")
    if found and named and named[1] == KPA and found[1] not in known:
        return [invalid(found[1], found[0])]
    return []


def _initial_scale(annotations: Annotations, cluster: ClusterConfigMaps) -> list[Fault]:
    found = find_annotation(annotations, "initial-scale")
    if found is None:
        return []
    key, value = found
    try:
        number = parse_int(value, bits=64)
    except ValueError:
        return [invalid(value, key)]
    if number < 0:
        return [invalid(value, f"{key} must be greater than 0")]
    if number == 0 and not cluster.allows_zero_initial_scale:
        return [invalid(value, f"{key}=0 not allowed by cluster")]
    return []


def _whole_seconds(annotations: Annotations, name: str, *aliases: str) -> list[Fault]:
    keys = (f"{SERVING}/{spelling}" for spelling in (name, *aliases))
    key = next((key for key in keys if key in annotations), None)
    if key is None or not annotations[key]:
        return []
    value = annotations[key]
    try:
        duration = parse_duration_ns(value)
    except ValueError:
        return [invalid(value, key)]
    if duration % _SECOND:
        return [Fault(f"{name}={value} is not at second precision", (key,))]
    if duration < 0:
        return [Fault(f"{name}={value} must be positive", (key,))]
    return []


def _queue(annotations: Annotations) -> list[Fault]:
    faults = []
    prefix = f"queue.sidecar.{SERVING}"
    names = (f"{prefix}/resource-percentage", f"{prefix}/resourcePercentage")
    key = next((key for key in names if key in annotations), None)
    if key is not None:
        number = _float((key, annotations[key]))
        if number is None:
            faults += via([invalid(annotations[key], HERE)], f"[{key}]")
        elif number < 0.1 or number > 100:
            faults += via([out_of_bounds(go_float(number), 0.1, 100, HERE)], f"[{key}]")
    for key in _QUEUE_RESOURCES:
        if key in annotations and not _is_quantity(annotations[key]):
            faults += via([invalid(annotations[key], HERE)], f"[{key}]")
    return faults


def _is_quantity(text: str) -> bool:
    try:
        quantities.parse(text)
    except ValueError:
        return False
    return True

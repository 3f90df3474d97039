"""What does the ConfigMap ``config-autoscaler`` set, parsed and checked as Knative does.

Source: Knative Serving ``pkg/autoscaler/config/config.go``, restated. Unknown keys are ignored,
as Knative ignores them (``_example`` is one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qwenkit.autoscaling.annotation_keys import KPA
from qwenkit.autoscaling.golang import parse_duration_ns, parse_float, parse_int
from qwenkit.errors import InvalidValue

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """``config-autoscaler`` with every key present; durations in nanoseconds."""

    pod_autoscaler_class: str = KPA
    enable_scale_to_zero: bool = True
    allow_zero_initial_scale: bool = False
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    concurrency_target_fraction: float = 0.7
    concurrency_target_default: float = 100.0
    rps_target_default: float = 200.0
    target_burst_capacity: float = 211.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    activator_capacity: float = 100.0
    initial_scale: int = 1
    min_scale: int = 0
    max_scale: int = 0
    max_scale_limit: int = 0
    stable_window_ns: int = 60 * _SECOND_NS
    scale_down_delay_ns: int = 0
    grace_period_ns: int = 30 * _SECOND_NS
    retention_ns: int = 0


def _bool(text: str) -> bool:
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f"{text!r} is not true or false")


def _finite(text: str) -> float:
    value = parse_float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} must be finite: NaN and infinities are refused")
    return value


def _fraction(text: str) -> float:
    value = _finite(text)
    return value / 100.0 if value > 1.0 else value  # old clusters wrote 0.7 for 70


_READ: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "pod-autoscaler-class": ("pod_autoscaler_class", str.strip),
    "enable-scale-to-zero": ("enable_scale_to_zero", _bool),
    "allow-zero-initial-scale": ("allow_zero_initial_scale", _bool),
    "max-scale-up-rate": ("max_scale_up_rate", _finite),
    "max-scale-down-rate": ("max_scale_down_rate", _finite),
    "container-concurrency-target-percentage": ("concurrency_target_fraction", _fraction),
    "container-concurrency-target-default": ("concurrency_target_default", _finite),
    "requests-per-second-target-default": ("rps_target_default", _finite),
    "target-burst-capacity": ("target_burst_capacity", _finite),
    "panic-window-percentage": ("panic_window_percentage", _finite),
    "panic-threshold-percentage": ("panic_threshold_percentage", _finite),
    "activator-capacity": ("activator_capacity", _finite),
    "initial-scale": ("initial_scale", parse_int),
    "min-scale": ("min_scale", parse_int),
    "max-scale": ("max_scale", parse_int),
    "max-scale-limit": ("max_scale_limit", parse_int),
    "stable-window": ("stable_window_ns", parse_duration_ns),
    "scale-down-delay": ("scale_down_delay_ns", parse_duration_ns),
    "scale-to-zero-grace-period": ("grace_period_ns", parse_duration_ns),
    "scale-to-zero-pod-retention-period": ("retention_ns", parse_duration_ns),
}

_Rule = tuple[str, str, Callable[[ClusterConfig], bool]]
_RULES: tuple[_Rule, ...] = (
    ("scale-to-zero-grace-period", "more than 0", lambda c: c.grace_period_ns > 0),
    (
        "scale-down-delay",
        "whole seconds, not negative",
        lambda c: c.scale_down_delay_ns >= 0 and c.scale_down_delay_ns % _SECOND_NS == 0,
    ),
    ("scale-to-zero-pod-retention-period", "not negative", lambda c: c.retention_ns >= 0),
    (
        "target-burst-capacity",
        "at least 0, or exactly -1",
        lambda c: c.target_burst_capacity >= 0 or c.target_burst_capacity == -1,
    ),
    (
        "container-concurrency-target-percentage",
        "more than 0, at most 100",
        lambda c: 0 < c.concurrency_target_fraction <= 1,
    ),
    (
        "container-concurrency-target-default",
        "times the target percentage at least 0.01",
        lambda c: c.concurrency_target_fraction * c.concurrency_target_default >= 0.01,
    ),
    ("requests-per-second-target-default", "at least 0.01", lambda c: c.rps_target_default >= 0.01),
    ("activator-capacity", "at least 1", lambda c: c.activator_capacity >= 1),
    ("max-scale-up-rate", "more than 1", lambda c: c.max_scale_up_rate > 1),
    ("max-scale-down-rate", "more than 1", lambda c: c.max_scale_down_rate > 1),
    (
        "stable-window",
        "6s to 1h, whole seconds",
        lambda c: 6 <= c.stable_window_ns / 1e9 <= 3600 and c.stable_window_ns % _SECOND_NS == 0,
    ),
    ("panic-window-percentage", "1 to 100", lambda c: 1 <= c.panic_window_percentage <= 100),
    (
        "initial-scale",
        "at least 1, or 0 with allow-zero-initial-scale",
        lambda c: c.initial_scale >= (0 if c.allow_zero_initial_scale else 1),
    ),
    ("min-scale", "at least 0", lambda c: c.min_scale >= 0),
    ("max-scale-limit", "at least 0", lambda c: c.max_scale_limit >= 0),
    (
        "max-scale",
        "at least 0; with max-scale-limit 1 to that limit",
        lambda c: (
            1 <= c.max_scale <= c.max_scale_limit if c.max_scale_limit > 0 else c.max_scale >= 0
        ),
    ),
    (
        "min-scale",
        "at most max-scale",
        lambda c: c.max_scale == 0 or c.min_scale <= c.max_scale,
    ),
)


def parse_config(data: Mapping[str, str]) -> ClusterConfig:
    """Parse the ConfigMap's data.

    Raises:
        InvalidValue: names the key, its value and the rule.
    """
    values: dict[str, object] = {}
    for key, (field, parse) in _READ.items():
        if key not in data:
            continue
        text = data[key]
        if not isinstance(text, str):
            raise InvalidValue(f"config-autoscaler {key}", text, "values are strings", "quote it")
        try:
            values[field] = parse(text)
        except ValueError as error:
            rule = f"as Go parses it, {error}"
            raise InvalidValue(f"config-autoscaler {key}", text, rule) from error
    config = ClusterConfig(**values)  # type: ignore[arg-type]
    for key, rule, holds in _RULES:
        if not holds(config):
            raise InvalidValue(f"config-autoscaler {key}", data.get(key, "(default)"), rule)
    return config

"""The ConfigMap ``config-autoscaler``, parsed and checked as Knative does.

Source: Knative Serving ``pkg/autoscaler/config/config.go``, restated. Unknown keys are ignored,
as Knative ignores them (``_example`` is one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from qwenkit.autoscaling.annotation_keys import KPA
from qwenkit.autoscaling.annotation_reader import SECOND_NS
from qwenkit.autoscaling.golang import parse_duration_ns, parse_float, parse_int
from qwenkit.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """``config-autoscaler`` with every key present; the target percentage is kept as a share."""

    pod_autoscaler_class: str = KPA
    enable_scale_to_zero: bool = True
    allow_zero_initial_scale: bool = False
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    container_concurrency_target_percentage: float = 0.7
    container_concurrency_target_default: float = 100.0
    requests_per_second_target_default: float = 200.0
    target_burst_capacity: float = 211.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    activator_capacity: float = 100.0
    initial_scale: int = 1
    min_scale: int = 0
    max_scale: int = 0
    max_scale_limit: int = 0
    stable_window_ns: int = 60 * SECOND_NS
    scale_down_delay_ns: int = 0
    scale_to_zero_grace_period_ns: int = 30 * SECOND_NS
    scale_to_zero_pod_retention_period_ns: int = 0


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


# A field holds the key of its name, a duration with the suffix "_ns". Its default's type decides
# how it is parsed, unless it is listed here.
_PARSERS: Mapping[str, Callable[[str], object]] = {
    "container_concurrency_target_percentage": _fraction,
    "bool": _bool,
    "float": _finite,
    "int": parse_int,
    "str": str.strip,
}


def _parser(field: Field[Any]) -> Callable[[str], object]:
    if field.name.endswith("_ns"):
        return parse_duration_ns
    return _PARSERS.get(field.name) or _PARSERS[type(field.default).__name__]


def _broken_rules(c: ClusterConfig) -> Iterator[tuple[str, str]]:
    """Return the keys whose values Knative refuses, each with its rule."""
    if c.scale_to_zero_grace_period_ns <= 0:
        yield "scale-to-zero-grace-period", "more than 0"
    if c.scale_down_delay_ns < 0 or c.scale_down_delay_ns % SECOND_NS:
        yield "scale-down-delay", "whole seconds, not negative"
    if c.scale_to_zero_pod_retention_period_ns < 0:
        yield "scale-to-zero-pod-retention-period", "not negative"
    if c.target_burst_capacity < 0 and c.target_burst_capacity != -1:
        yield "target-burst-capacity", "at least 0, or exactly -1"
    share = c.container_concurrency_target_percentage
    if not 0 < share <= 1:
        yield "container-concurrency-target-percentage", "more than 0, at most 100"
    if share * c.container_concurrency_target_default < 0.01:
        key = "container-concurrency-target-default"
        yield key, "times the target percentage at least 0.01"
    if c.requests_per_second_target_default < 0.01:
        yield "requests-per-second-target-default", "at least 0.01"
    if c.activator_capacity < 1:
        yield "activator-capacity", "at least 1"
    if c.max_scale_up_rate <= 1:
        yield "max-scale-up-rate", "more than 1"
    if c.max_scale_down_rate <= 1:
        yield "max-scale-down-rate", "more than 1"
    if not 6 <= c.stable_window_ns / 1e9 <= 3600 or c.stable_window_ns % SECOND_NS:
        yield "stable-window", "6s to 1h, whole seconds"
    if not 1 <= c.panic_window_percentage <= 100:
        yield "panic-window-percentage", "1 to 100"
    yield from _broken_scales(c)


def _broken_scales(c: ClusterConfig) -> Iterator[tuple[str, str]]:
    if c.initial_scale < (0 if c.allow_zero_initial_scale else 1):
        yield "initial-scale", "at least 1, or 0 with allow-zero-initial-scale"
    if c.min_scale < 0:
        yield "min-scale", "at least 0"
    if c.max_scale_limit < 0:
        yield "max-scale-limit", "at least 0"
    if c.max_scale < 0 or (c.max_scale_limit > 0 and not 1 <= c.max_scale <= c.max_scale_limit):
        yield "max-scale", "at least 0; with max-scale-limit 1 to that limit"
    if 0 != c.max_scale < c.min_scale:
        yield "min-scale", "at most max-scale"


def parse_config(data: Mapping[str, str]) -> ClusterConfig:
    """Parse the ConfigMap's data.

    Raises:
        InvalidValue: names the key, its value and the rule.
    """
    values: dict[str, Any] = {}
    for field in fields(ClusterConfig):
        key = field.name.removesuffix("_ns").replace("_", "-")
        if key not in data:
            continue
        text = data[key]
        if not isinstance(text, str):
            raise InvalidValue(f"config-autoscaler {key}", text, "values are strings", "quote it")
        try:
            values[field.name] = _parser(field)(text)
        except ValueError as error:
            rule = f"as Go parses it, {error}"
            raise InvalidValue(f"config-autoscaler {key}", text, rule) from error
    config = ClusterConfig(**values)
    for key, rule in _broken_rules(config):
        raise InvalidValue(f"config-autoscaler {key}", data.get(key, "(default)"), rule)
    return config

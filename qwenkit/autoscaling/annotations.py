"""What annotations and ``config-autoscaler`` mean: one typed, immutable scaling spec.

Values are parsed as Knative parses them: the kebab-case key wins over the old camelCase one, and
numbers and durations follow Go's grammar. Rules and defaults are those of Knative Serving
``pkg/apis/autoscaling`` (``register.go``, ``annotation_validation.go``) and
``pkg/reconciler/autoscaling/resources`` (``target.go``, ``metric.go``), restated.
One rule is ours: ``NaN`` and infinities are refused, although the webhook accepts ``NaN``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from qwenkit.autoscaling.annotation_keys import HPA, KPA, PREFIX
from qwenkit.autoscaling.annotation_reader import SECOND_NS, AnnotationReader
from qwenkit.autoscaling.cluster_config import ClusterConfig, parse_config
from qwenkit.errors import InvalidValue

PROGRESS_DEADLINE_DEFAULT_S = 600.0
CONCURRENCY, RPS = "concurrency", "rps"
LINEAR, WEIGHTED = "linear", "weighted-exponential"
ALGORITHMS = {"": LINEAR, LINEAR: LINEAR, WEIGHTED: WEIGHTED, "weightedExponential": WEIGHTED}
TARGET_MIN = 0.01
RPS_UTILIZATION = 0.7  # a constant upstream: no ConfigMap key sets it
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSpec:
    """All settings of how one revision scales. Durations are seconds.

    ``target`` is what a pod should carry on average (``total`` × ``utilization``), ``total``
    what it may carry at most. ``max_scale`` 0 is no limit, ``activation_scale`` 0 is unset.
    """

    autoscaler_class: str = KPA
    metric: str = CONCURRENCY
    target: float = 70.0
    total: float = 100.0
    utilization: float = 0.7
    container_concurrency: int = 0
    algorithm: str = LINEAR
    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold: float = 2.0
    target_burst_capacity: float = 211.0
    min_scale: int = 0
    max_scale: int = 0
    initial_scale: int = 1
    activation_scale: int = 0
    scale_down_delay_s: float = 0.0
    retention_s: float = 0.0
    progress_deadline_s: float = PROGRESS_DEADLINE_DEFAULT_S
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    grace_period_s: float = 30.0
    enable_scale_to_zero: bool = True
    activator_capacity: float = 100.0


def parse_spec(
    annotations: Mapping[str, str],
    *,
    container_concurrency: int = 0,
    config: Mapping[str, str] | None = None,
    strict: bool = True,
) -> ScalingSpec:
    """Resolve a revision's annotations against the ConfigMap ``config-autoscaler``.

    Args:
        annotations: of the revision template; keys of other groups are ignored.
        container_concurrency: the revision's hard limit, 0 for none.
        config: the ConfigMap's data; missing keys have Knative's defaults.
        strict: also refuse values that contradict each other, as the webhook does. The
            autoscaler itself does not check, so a replay of a recording passes False.

    Raises:
        InvalidValue: names the key, the value and the rule.
    """
    cluster = parse_config(config or {})
    if container_concurrency < 0:
        raise InvalidValue("containerConcurrency", container_concurrency, "at least 0")
    read = AnnotationReader(annotations)
    klass = _class(read)
    spec = _resolve(read, cluster, klass, container_concurrency, strict)
    if strict:
        _check_relations(read, cluster, spec)
    return spec


def _resolve(
    read: AnnotationReader, cluster: ClusterConfig, klass: str, hard_limit: int, strict: bool
) -> ScalingSpec:
    metric = _metric(read, klass, cluster.pod_autoscaler_class)
    total, utilization = _load(read, cluster, metric, hard_limit)
    window_ns = read.duration("window", 6 * SECOND_NS, whole=True)
    if window_ns is None:
        window_ns = cluster.stable_window_ns
    delay_ns = read.duration("scale-down-delay", 0, whole=True)
    retention_ns = read.duration("scale-to-zero-pod-retention-period", 0)
    deadline_ns = read.progress_deadline()
    threshold = read.number("panic-threshold-percentage", 110, 1000)
    return ScalingSpec(
        autoscaler_class=klass,
        metric=metric,
        target=max(TARGET_MIN, total * utilization),
        total=total,
        utilization=utilization,
        container_concurrency=hard_limit,
        algorithm=_algorithm(read),
        stable_window_s=window_ns / 1e9,
        panic_window_s=_panic_window(read, cluster, window_ns),
        panic_threshold=_first(threshold, cluster.panic_threshold_percentage) / 100.0,
        target_burst_capacity=_first(_burst(read), cluster.target_burst_capacity),
        min_scale=_first(read.count("min-scale"), cluster.min_scale),
        max_scale=_first(read.count("max-scale"), cluster.max_scale),
        initial_scale=_initial_scale(read, cluster, strict),
        activation_scale=_first(read.count("activation-scale", least=2), 0),
        scale_down_delay_s=_first(delay_ns, cluster.scale_down_delay_ns) / 1e9,
        retention_s=_first(retention_ns, cluster.scale_to_zero_pod_retention_period_ns) / 1e9,
        progress_deadline_s=_first(deadline_ns, PROGRESS_DEADLINE_DEFAULT_S * 1e9) / 1e9,
        max_scale_up_rate=cluster.max_scale_up_rate,
        max_scale_down_rate=cluster.max_scale_down_rate,
        grace_period_s=cluster.scale_to_zero_grace_period_ns / 1e9,
        enable_scale_to_zero=cluster.enable_scale_to_zero,
        activator_capacity=cluster.activator_capacity,
    )


def _first(value: T | None, default: T) -> T:
    return default if value is None else value


def _class(read: AnnotationReader) -> str:
    found = read.text("class")
    if found is None:
        return KPA
    if found[1].endswith(".knative.dev") and found[1] not in (KPA, HPA):
        raise InvalidValue(*found, f"{KPA}, {HPA} or a class of another domain")
    return found[1]


def _metric(read: AnnotationReader, klass: str, cluster_class: str) -> str:
    found = read.text("metric")
    if found is None:
        return {KPA: CONCURRENCY, HPA: "cpu"}.get(klass, "")
    # The webhook checks against the cluster's default class here, the autoscaler does not.
    checked = klass if read.text("class") else cluster_class
    if checked == KPA and found[1] not in (CONCURRENCY, RPS):
        raise InvalidValue(*found, f"{CONCURRENCY} or {RPS}")
    if checked == HPA and not found[1]:
        raise InvalidValue(*found, "must not be empty")
    return found[1]


def _algorithm(read: AnnotationReader) -> str:
    found = read.text("metric-aggregation-algorithm")
    if found is None or found[1] in ALGORITHMS:
        return ALGORITHMS[found[1] if found else ""]
    if read.text("class") == (f"{PREFIX}class", KPA):
        raise InvalidValue(*found, f"{LINEAR} or {WEIGHTED}")
    return LINEAR


def _load(
    read: AnnotationReader, cluster: ClusterConfig, metric: str, hard_limit: int
) -> tuple[float, float]:
    """Return (total, utilisation): what one pod may carry, and the share to aim at."""
    if metric == RPS:
        total, utilization = cluster.requests_per_second_target_default, RPS_UTILIZATION
    else:
        total = float(hard_limit) or cluster.container_concurrency_target_default
        utilization = cluster.container_concurrency_target_percentage
    target = read.number("target", TARGET_MIN)
    if target is not None:
        limited = metric == CONCURRENCY and hard_limit
        total = min(target, float(hard_limit)) if limited else target
    percent = read.number("target-utilization-percentage", 1, 100)
    return total, utilization if percent is None else percent / 100


def _burst(read: AnnotationReader) -> float | None:
    value = read.number("target-burst-capacity")
    if value is not None and value < 0 and value != -1:
        raise read.refusal("target-burst-capacity", "at least 0, or exactly -1")
    return value


def _panic_window(read: AnnotationReader, cluster: ClusterConfig, window_ns: int) -> float:
    percent = read.number("panic-window-percentage", 1, 100)
    share = float(window_ns) * _first(percent, cluster.panic_window_percentage) / 100.0
    # Whole seconds, half away from zero, at least one bucket.
    return max(1.0, float((int(share) + SECOND_NS // 2) // SECOND_NS))


def _initial_scale(read: AnnotationReader, cluster: ClusterConfig, strict: bool) -> int:
    value = read.count("initial-scale")
    if value == 0 and not cluster.allow_zero_initial_scale:
        if strict:
            rule = "0 needs allow-zero-initial-scale in config-autoscaler"
            raise read.refusal("initial-scale", rule)
        value = None
    return _first(value, cluster.initial_scale)


def _check_relations(read: AnnotationReader, cluster: ClusterConfig, spec: ScalingSpec) -> None:
    """Refuse what the webhook refuses; it compares annotations, not the resolved values."""
    least, most = read.count("min-scale") or 0, read.count("max-scale")
    limit, activation = cluster.max_scale_limit, spec.activation_scale
    if most and most < least:
        raise read.refusal("max-scale", f"at least min-scale={least}")
    if most is not None and limit and not 1 <= most <= limit:
        raise read.refusal("max-scale", f"1 to the cluster's max-scale-limit={limit}")
    if activation and activation < least:
        raise read.refusal("activation-scale", f"at least min-scale={least}")
    if activation and most and activation > most:
        raise read.refusal("activation-scale", f"at most max-scale={most}")

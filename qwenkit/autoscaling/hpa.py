"""How many replicas Kubernetes' HorizontalPodAutoscaler sets: one object's controller.

    hpa = Hpa(HpaSpec((MetricTarget("gpu_utilization", 60.0),), max_replicas=3))
    step = hpa.sync(now, replicas=1, readings={"gpu_utilization": [PodReading(97.0)]})

Call ``sync`` every ``SYNC_S``. As in the original, values count in thousandths, the rest is cut.

Source: Kubernetes ``pkg/controller/podautoscaler`` (``horizontal.go``, ``replica_calculator.go``,
``metrics/utilization.go``) and the page "Horizontal Pod Autoscaling", restated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwenkit.errors import InvalidValue

SYNC_S = 15.0
PODS, PERCENT = "Pods", "Percent"
MAX, MIN, DISABLED = "Max", "Min", "Disabled"
_WINDOW_S = 300.0  # down, without ``behavior``


@dataclass(frozen=True, slots=True)
class MetricTarget:
    """What a replica should carry on average; ``percent``: of the requests (CPU, memory)."""

    name: str
    target: float
    percent: bool = False


@dataclass(frozen=True, slots=True)
class ScalePolicy:
    """At most ``value`` pods, or percent of the replicas, in ``period_s`` seconds."""

    kind: str
    value: int
    period_s: int


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """``behavior`` in one direction: policies, which of them counts, and the window."""

    policies: tuple[ScalePolicy, ...]
    window_s: int
    select: str = MAX


UP = ScalingRules((ScalePolicy(PODS, 4, 15), ScalePolicy(PERCENT, 100, 15)), window_s=0)
DOWN = ScalingRules((ScalePolicy(PERCENT, 100, 15),), window_s=300)


@dataclass(frozen=True, slots=True)
class HpaSpec:
    """A HorizontalPodAutoscaler.

    Without ``up`` and ``down`` the API server adds no behavior: the controller at most doubles
    the replicas (or sets 4), and holds the highest number of the last 300 s.
    """

    metrics: tuple[MetricTarget, ...]
    max_replicas: int
    min_replicas: int = 1
    up: ScalingRules | None = None
    down: ScalingRules | None = None
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if not 0.001 <= metric.target < math.inf:
                raise InvalidValue(f"target of {metric.name}", metric.target, "at least 0.001")
        if not 1 <= self.min_replicas <= self.max_replicas:
            pods = f"{self.min_replicas} to {self.max_replicas}"
            raise InvalidValue("replicas", pods, "1 or more, the maximum not below the minimum")

    @property
    def behavior(self) -> tuple[ScalingRules, ScalingRules] | None:
        """The rules up and down with the defaults filled in, or None."""
        return (self.up or UP, self.down or DOWN) if self.up or self.down else None


@dataclass(frozen=True, slots=True)
class PodReading:
    """A metric of one pod that is not being deleted; None if it is missing.

    ``unready``: the pod is pending; of CPU also if it has not been ready since its start, and in
    its first 300 s if it is not ready or was not for the whole measurement.
    """

    value: float | None
    unready: bool = False
    request: float = 1.0


Reading = Sequence[PodReading] | float | None  # of pods; of an external metric the total


@dataclass(frozen=True, slots=True)
class HpaStep:
    """One sync: what the metrics ask for (None without them), replicas afterwards, and why."""

    proposed: int | None
    replicas: int
    reason: str


class Hpa:
    """The controller's memory of one object: recommendations, and changes that it has made."""

    def __init__(self, spec: HpaSpec) -> None:
        self.spec = spec
        self._recommended: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def sync(self, now: float, replicas: int, readings: Mapping[str, Reading]) -> HpaStep:
        """Decide once. ``replicas`` is the target's scale, ``readings`` has each metric by name."""
        step = self._decide(now, replicas, readings)
        if step.replicas != replicas:
            self._changes.append((now, step.replicas - replicas))
        return step

    def _decide(self, now: float, replicas: int, readings: Mapping[str, Reading]) -> HpaStep:
        spec = self.spec
        if not self._recommended:
            self._recommended.append((now, replicas))
        if replicas == 0:
            return HpaStep(None, 0, "scaling is disabled: the target has no replicas")
        if replicas != (kept := min(max(replicas, spec.min_replicas), spec.max_replicas)):
            return HpaStep(None, kept, "outside minReplicas to maxReplicas")
        all_found = [
            _proposal(each, spec, replicas, readings.get(each.name)) for each in spec.metrics
        ]
        found = [each for each in all_found if each]
        wanted, reason = max(found, key=lambda each: each[0], default=(0, ""))
        if not found or (len(found) < len(all_found) and wanted < replicas):
            return HpaStep(None, replicas, "held: a metric is missing")
        stable = self._stabilized(now, replicas, wanted)
        if stable != wanted:
            reason += f"; held at {stable} by the stabilization window"
        applied, limit = self._limited(now, replicas, stable)
        if applied != stable:
            reason += f"; {applied} by {limit}"
        return HpaStep(wanted, applied, reason)

    def _stabilized(self, now: float, replicas: int, wanted: int) -> int:
        recent, rules = self._recommended, self.spec.behavior
        self._recommended = [each for each in recent if each[0] > now - 3600] + [(now, wanted)]
        if rules is None:
            return max([wanted, *(count for at, count in recent if at >= now - _WINDOW_S)])
        low = min([wanted, *(count for at, count in recent if at > now - rules[0].window_s)])
        high = max([wanted, *(count for at, count in recent if at > now - rules[1].window_s)])
        return min(max(replicas, low), high)

    def _limited(self, now: float, replicas: int, wanted: int) -> tuple[int, str]:
        """Return the replicas within rates and bounds, and what may have limited them."""
        least, most, rules = self.spec.min_replicas, self.spec.max_replicas, self.spec.behavior
        if rules is None:
            rate = max(2 * replicas, 4)
            if wanted < least:
                return least, "minReplicas"
        elif wanted <= replicas:
            rate = min(self._rate(now, replicas, rules[1], up=False), replicas)
            return max(wanted, rate, least), "minReplicas" if rate <= least else "the limit down"
        else:
            rate = max(self._rate(now, replicas, rules[0], up=True), replicas)
        return min(wanted, rate, most), "maxReplicas" if most <= rate else "the limit up"

    def _rate(self, now: float, replicas: int, rules: ScalingRules, *, up: bool) -> int:
        """Return the furthest that the policies allow."""
        if rules.select == DISABLED:
            return replicas
        allowed: list[int] = []
        for policy in rules.policies:
            start = replicas - sum(n for at, n in self._changes if at > now - policy.period_s)
            if policy.kind == PODS:
                allowed.append(start + (policy.value if up else -policy.value))
            else:
                share = policy.value / 100
                allowed.append(math.ceil(start * (1 + share)) if up else int(start * (1 - share)))
        return max(allowed) if up == (rules.select == MAX) else min(allowed)


def _proposal(
    metric: MetricTarget, spec: HpaSpec, replicas: int, reading: Reading
) -> tuple[int, str] | None:
    """Return the replicas that one metric asks for, and why; None if it cannot be read."""
    if isinstance(reading, Sequence):
        counted = _over_pods(metric, spec.tolerance, replicas, reading)
    elif reading is None:
        counted = None
    else:
        total, target = _milli(reading), _milli(metric.target)
        near = _near(total / (target * replicas), spec.tolerance)
        counted = replicas if near else math.ceil(total / target), reading / replicas
    if counted is None:
        return None
    count, mean = counted
    return count, f"{metric.name} {mean:.3g} per pod, target {metric.target:g}, asks for {count}"


def _over_pods(
    metric: MetricTarget, tolerance: float, replicas: int, pods: Sequence[PodReading]
) -> tuple[int, float] | None:
    """Return the replicas for a mean over pods, and the mean."""
    scale = 1 if metric.percent else 1000
    target = int(metric.target * scale)
    used = [
        (_milli(pod.value), _milli(pod.request))
        for pod in pods
        if pod.value is not None and not pod.unready
    ]
    missing = [_milli(pod.request) for pod in pods if pod.value is None and not pod.unready]
    unready = [(0, _milli(pod.request)) for pod in pods if pod.unready]
    if not used:
        return None

    def mean() -> int:
        values, requests = (sum(column) for column in zip(*used, strict=True))
        return int(values * 100 // requests if metric.percent else values // len(used))

    first = mean()
    ratio = first / target
    rising = bool(unready) and ratio > 1
    if not rising and not missing:
        near = _near(ratio, tolerance)
        return (replicas if near else math.ceil(ratio * len(used))), first / scale
    # Assume the best of what is not known against the change.
    if ratio < 1:
        full = max(100, target) if metric.percent else 0
        used += [(each * full // 100 if metric.percent else target, each) for each in missing]
    elif ratio > 1:
        used += [(0, each) for each in missing]
    used += unready if rising else []
    again = mean() / target
    count = math.ceil(again * len(used))
    turned = (ratio - 1) * (again - 1) < 0 or (again - 1) * (count - replicas) < 0
    return (replicas if turned or _near(again, tolerance) else count), first / scale


def _near(ratio: float, tolerance: float) -> bool:
    return 1.0 - tolerance <= ratio <= 1.0 + tolerance


def _milli(value: float) -> int:
    return int(value * 1000)

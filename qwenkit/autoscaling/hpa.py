"""How many replicas Kubernetes' HorizontalPodAutoscaler sets: one object's controller.

    hpa = Hpa(HpaSpec("GPU utilization", 60, max_replicas=3))
    step = hpa.sync(now, replicas=1, reading=[97.0])

Call ``sync`` every ``SYNC_S``. As in the original, values count in thousandths, the rest is cut.

Source: Kubernetes ``pkg/controller/podautoscaler`` (``horizontal.go``, ``replica_calculator.go``,
``metrics/utilization.go``) and the page "Horizontal Pod Autoscaling", restated. Of the metrics
those of pods and external ones with an average; an object has one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qwenkit.errors import InvalidValue

SYNC_S = 15.0
PODS, PERCENT = "Pods", "Percent"
MAX, MIN, DISABLED = "Max", "Min", "Disabled"
_WINDOW_S = 300.0  # down, without ``behavior``

# Of pods: the value of each that is not pending. Of an external metric: the total. None: the
# metric cannot be read.
Reading = Sequence[float] | float | None


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
    """A HorizontalPodAutoscaler; ``target`` is what a replica should carry on average.

    Without ``up`` and ``down`` the API server adds no behavior: the controller at most doubles
    the replicas (or sets 4), and holds the highest number of the last 300 s.
    """

    metric: str
    target: float
    max_replicas: int
    min_replicas: int = 1
    up: ScalingRules | None = None
    down: ScalingRules | None = None
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        if not 0.001 <= self.target < math.inf:
            raise InvalidValue("target", self.target, "at least 0.001, finite")
        if not 1 <= self.min_replicas <= self.max_replicas:
            pods = f"{self.min_replicas} to {self.max_replicas}"
            raise InvalidValue("replicas", pods, "1 or more, the maximum not below the minimum")

    @property
    def behavior(self) -> tuple[ScalingRules, ScalingRules] | None:
        """The rules up and down with the defaults filled in, or None."""
        return (self.up or UP, self.down or DOWN) if self.up or self.down else None


@dataclass(frozen=True, slots=True)
class HpaStep:
    """One sync: what the metric asks for (None without it), replicas afterwards, and why."""

    proposed: int | None
    replicas: int
    reason: str


class Hpa:
    """The controller's memory of one object: recommendations, and changes that it has made."""

    def __init__(self, spec: HpaSpec) -> None:
        self.spec = spec
        self._recommended: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def sync(self, now: float, replicas: int, reading: Reading, pending: int = 0) -> HpaStep:
        """Decide once; ``replicas`` is the target's scale, ``pending`` pods have no value."""
        step = self._decide(now, replicas, reading, pending)
        if step.replicas != replicas:
            self._changes.append((now, step.replicas - replicas))
        return step

    def _decide(self, now: float, replicas: int, reading: Reading, pending: int) -> HpaStep:
        spec = self.spec
        if not self._recommended:
            self._recommended.append((now, replicas))
        if replicas == 0:
            return HpaStep(None, 0, "scaling is disabled: the target has no replicas")
        if replicas != (kept := min(max(replicas, spec.min_replicas), spec.max_replicas)):
            return HpaStep(None, kept, "outside minReplicas to maxReplicas")
        asked = _proposal(spec, replicas, reading, pending)
        if asked is None:
            return HpaStep(None, replicas, "held: the metric is missing")
        wanted, reason = asked
        stable = self._stabilized(now, replicas, wanted)
        if stable != wanted:
            reason += f"; held at {stable} by the stabilization window"
        applied, limit = self._limited(now, replicas, stable)
        return HpaStep(wanted, applied, reason + f"; {applied} by {limit}" * (applied != stable))

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
        if rules and wanted <= replicas:
            rate = min(self._rate(now, replicas, rules[1], up=False), replicas)
            return max(wanted, rate, least), "minReplicas" if rate <= least else "the limit down"
        if wanted < least:
            return least, "minReplicas"
        rate = max(2 * replicas, 4)
        if rules:
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
    spec: HpaSpec, replicas: int, reading: Reading, pending: int
) -> tuple[int, str] | None:
    """Return the replicas that the metric asks for, and why; None if it cannot be read."""
    target = int(spec.target * 1000)

    def near(ratio: float) -> bool:
        return 1.0 - spec.tolerance <= ratio <= 1.0 + spec.tolerance

    if reading is None:
        return None
    if not isinstance(reading, Sequence):
        mean, total = reading / replicas, int(reading * 1000)
        count = replicas if near(total / (target * replicas)) else math.ceil(total / target)
    else:
        used = [int(value * 1000) for value in reading]
        if not used:
            return None
        mean = sum(used) // len(used) / 1000
        # Pods that are pending will take load over: they count as idle, but never turn up to down.
        up = pending > 0 and sum(used) // len(used) > target
        if up:
            used += [0] * pending
        ratio = sum(used) // len(used) / target
        count = math.ceil(ratio * len(used))
        if near(ratio) or (up and (ratio < 1 or count < replicas)):
            count = replicas
    return count, f"{spec.metric} {mean:.3g} per pod, target {spec.target:g}, asks for {count}"

"""How many replicas KEDA sets: 0 or 1 by activation, from 1 up by the HPA that it makes.

Source: kedacore/keda-docs ``concepts/scaling-deployments.md`` and
``reference/scaledobject-spec.md``, restated.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.autoscaling.hpa import Hpa, HpaSpec, HpaStep, MetricTarget

POLLING_S, COOLDOWN_S = 30.0, 300.0


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """One trigger. Its HPA's target is the threshold: a total over replicas, AverageValue.

    ``min_replicas`` 0 lets activation scale to zero, after ``cooldown_s`` in which no poll read
    more than ``activation``.
    """

    metric: str
    threshold: float
    max_replicas: int = 100
    min_replicas: int = 0
    activation: float = 0.0
    cooldown_s: float = COOLDOWN_S


class Keda:
    """KEDA's memory of one ScaledObject; call ``sync`` every ``hpa.SYNC_S`` from second 0 on."""

    def __init__(self, spec: ScaledObject) -> None:
        self.spec = spec
        target = MetricTarget(spec.metric, spec.threshold)
        self._hpa = Hpa(HpaSpec((target,), spec.max_replicas, max(spec.min_replicas, 1)))
        self._active_at: float | None = None

    def sync(self, now: float, replicas: int, total: float | None) -> HpaStep:
        """Decide once; ``total`` is the metric's value, None if nothing reports it."""
        spec = self.spec
        if spec.min_replicas == 0 and now % POLLING_S == 0:
            if total is not None and total > spec.activation:
                self._active_at = now
                if replicas == 0:
                    return HpaStep(None, 1, f"activated: {spec.metric} {total:g}")
            elif replicas and (self._active_at or 0.0) + spec.cooldown_s < now:
                return HpaStep(None, 0, f"not active for {spec.cooldown_s:g} s: scaled to zero")
        return self._hpa.sync(now, replicas, {spec.metric: total})

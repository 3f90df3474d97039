"""How many replicas KEDA sets: 0 or 1 by activation, from 1 up by the HPA that it makes.

Source: kedacore/keda-docs ``concepts/scaling-deployments.md`` and
``reference/scaledobject-spec.md``, restated.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.autoscaling.hpa import Hpa, HpaSpec, HpaStep, MetricTarget

_POLLING_S = 30.0


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """One trigger; its HPA's target is ``threshold``, of the metric's total over replicas.

    With ``min_replicas`` 0, pods go after ``cooldown_s`` without more than ``activation``.
    """

    metric: str
    threshold: float
    max_replicas: int = 100
    min_replicas: int = 0
    activation: float = 0.0
    cooldown_s: float = 300.0


class Keda:
    """KEDA's memory of one ScaledObject; call ``sync`` every ``hpa.SYNC_S`` from second 0 on."""

    def __init__(self, spec: ScaledObject) -> None:
        self.spec = spec
        target = MetricTarget(spec.metric, spec.threshold)
        self._hpa = Hpa(HpaSpec((target,), spec.max_replicas, max(spec.min_replicas, 1)))
        self._active_at = 0.0

    def sync(self, now: float, replicas: int, total: float | None) -> HpaStep:
        """Decide once; ``total`` is the metric's value, None if nothing reports it."""
        spec = self.spec
        if spec.min_replicas == 0 and now % _POLLING_S == 0:
            if total is not None and total > spec.activation:
                self._active_at = now
                if replicas == 0:
                    return HpaStep(None, 1, f"activated: {spec.metric} {total:g}")
            elif replicas and self._active_at + spec.cooldown_s < now:
                return HpaStep(None, 0, f"not active for {spec.cooldown_s:g} s: scaled to zero")
        return self._hpa.sync(now, replicas, {spec.metric: total})

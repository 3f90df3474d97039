"""Who sets the replicas of a simulated workload: Knative's KPA or Kubernetes' HPA.

The KPA reads activator and queue-proxies. An HPA reads a metric of the pods, without the delay
that a Prometheus between them adds; requests then go straight to the pods, of which there is
always one. KEDA, above zero replicas, is an HPA that it makes. A simulation tells either of the
first request of a quiet workload (as the activator does), of pods that became ready, and of each
second; ``idle`` is whether nothing changes without new requests.
"""

from __future__ import annotations

import math

from qwenkit.autoscaling.annotations import ScalingSpec
from qwenkit.autoscaling.hpa import SYNC_S, Hpa, HpaSpec, Reading
from qwenkit.autoscaling.kpa import TICK_S, Decider
from qwenkit.autoscaling.scale_to_zero import Mode, Scaler, ScalerStep, ScaleState
from qwenkit.capacity.simulation.dataplane import DataPlane
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.fleet import Fleet, Pod
from qwenkit.capacity.simulation.result import HpaTick, Tick

Scaling = ScalingSpec | HpaSpec
GPU_UTILIZATION, WAITING = "GPU utilization", "waiting requests"  # in percent; vLLM's own queue
_MAX_STEPS = 8  # a reconcile may change the status, which causes another one
_SETTLED_S = 600.0


class _KpaControl:
    """Decider and reconciler of a revision."""

    def __init__(
        self, spec: ScalingSpec, fleet: Fleet, plane: DataPlane, environment: Environment
    ) -> None:
        self._fleet, self._plane = fleet, plane
        self.ticks: list[Tick | HpaTick] = []
        self._recheck_at = math.inf
        self._scraped = spec.target_burst_capacity != -1
        active_for = environment.active_for_s
        ready = _ready_at_first(spec.min_scale, environment)
        if active_for is None:
            active_for = _SETTLED_S if ready <= spec.min_scale else 0.0
        self._fleet.seed(0.0, ready)
        self._decider = Decider(spec, ready=0, now=-active_for)
        # Idle pods have been scraped as zeros since they became ready.
        if ready and self._scraped:
            for second in range(-math.floor(min(active_for, spec.stable_window_s)), 0):
                self._decider.record(second, 0.0, 0.0)
        if active_for:
            self._decider.decide(0.0, ready)
        if not ready:
            self._decider.desired = 0
        excess = self._decider.excess_burst_capacity
        self._scaler = Scaler(
            spec,
            now=0.0,
            replicas=ready,
            state=ScaleState.ACTIVE if ready else ScaleState.INACTIVE,
            since=-active_for,
            initialized=True,
            mode=Mode.SERVE if ready and excess >= 0 else Mode.PROXY,
            proxy_since=-active_for - environment.startup_s,
        )
        self._step = self._reconcile(0.0)

    @property
    def desired(self) -> int:
        return self._step.desired_scale

    def first_request(self, now: float) -> None:
        self._report(now, 1.0, 1.0)

    def pod_ready(self, now: float) -> None:
        self._step = self._reconcile(now)

    def second(self, now: float) -> None:
        plane = self._plane
        reported = plane.stats.known
        if reported:
            self._report(now, *plane.stats.report(now))
        # A zero is recorded too; it adds nothing to a second that has a report.
        if self._scraped and (plane.counted_directly or not reported):
            scraped = plane.scrape(now)
            if scraped is not None:
                self._decider.record(now, *scraped)
        if now % TICK_S == 0:
            self._decide(now)
        if self._recheck_at <= now:
            self._step = self._reconcile(now)

    def idle(self, now: float) -> bool:
        known = self._plane.stats.known or self._recheck_at < math.inf
        return not known and self._decider.idle(now)

    def _report(self, now: float, concurrency: float, rps: float) -> None:
        self._decider.record(now, concurrency, rps)
        if self._decider.wants_poke(concurrency):
            self._decide(now)

    def _decide(self, now: float) -> None:
        fleet = self._fleet
        decision = self._decider.decide(now, len(fleet.ready))
        if decision is None:
            return
        ready, starting = len(fleet.ready), fleet.not_ready
        if decision.notify:
            self._step = self._reconcile(now)
        self.ticks.append(Tick(now, decision, self._step, ready, starting))

    def _reconcile(self, now: float) -> ScalerStep:
        self._recheck_at = math.inf
        for _ in range(_MAX_STEPS):
            step = self._scaler.reconcile(
                now,
                desired=self._decider.desired,
                excess_burst_capacity=self._decider.excess_burst_capacity,
                ready=len(self._fleet.ready),
            )
            self._plane.proxy = step.activator_in_path
            changed = self._fleet.scale_to(now, step.replicas)
            if step.recheck_s is not None:
                self._recheck_at = min(self._recheck_at, now + step.recheck_s)
            if not changed and not step.again:
                break
        return step


class _HpaControl:
    """An HPA on the pods' GPU utilisation, or on the requests that wait in vLLM."""

    def __init__(
        self, spec: HpaSpec, fleet: Fleet, plane: DataPlane, environment: Environment
    ) -> None:
        self._fleet = fleet
        self._hpa = Hpa(spec)
        plane.proxy = False
        ready = max(1, _ready_at_first(spec.min_replicas, environment))
        self.desired = max(spec.min_replicas, ready)
        self.ticks: list[Tick | HpaTick] = []
        self._busy: dict[Pod, float] = {}
        fleet.seed(0.0, ready)
        fleet.scale_to(0.0, self.desired)

    def first_request(self, now: float) -> None:
        """Nothing: a pod is ready, and there is no activator."""

    def pod_ready(self, now: float) -> None:
        """Nothing: the next sync reads it."""

    def second(self, now: float) -> None:
        if now % SYNC_S:
            return
        fleet = self._fleet
        reading: Reading
        if self._hpa.spec.metric == WAITING:
            reading = sum(pod.engine.waiting for pod in fleet.ready)
        else:
            # A pod that loads the model has its GPU already, and does nothing with it.
            reading = [self._utilization(now, pod) for pod in fleet.ready]
            reading += [0.0] * len(fleet.starting)
        pending = fleet.not_ready - len(fleet.starting)
        step = self._hpa.sync(now, self.desired, reading, pending)
        fleet.scale_to(now, step.replicas)
        self.desired = step.replicas
        self.ticks.append(HpaTick(now, step.replicas, step.reason))

    def idle(self, now: float) -> bool:
        return False

    def _utilization(self, now: float, pod: Pod) -> float:
        """Return the share of the time since the last sync in which the GPU worked, in percent."""
        since, self._busy[pod] = self._busy.get(pod, 0.0), pod.engine.busy_s(now)
        return 100 * (self._busy[pod] - since) / SYNC_S


def _ready_at_first(least: int, environment: Environment) -> int:
    """Return the pods that are ready at second 0: the given ones, or the least that get a GPU."""
    if environment.initial_ready is not None:
        return environment.initial_ready
    return least if environment.gpus is None else min(least, environment.gpus)


Control = _KpaControl | _HpaControl


def take_over(
    scaling: Scaling, fleet: Fleet, plane: DataPlane, environment: Environment
) -> Control:
    """Set the workload's state at second 0 and return what controls it from then on."""
    if isinstance(scaling, ScalingSpec):
        return _KpaControl(scaling, fleet, plane, environment)
    return _HpaControl(scaling, fleet, plane, environment)

"""How many replicas the KPA's reconciler applies, within bounds and down to zero.

    scaler = Scaler(spec, now=0.0)            # new: activating, with initial-scale pods
    step = scaler.reconcile(now, desired=3, excess_burst_capacity=-2, ready=1)
    step.replicas, step.state, step.mode      # the state that the cluster should now have

Call it when the decider notifies, when pods become ready or leave, and after ``step.recheck_s``.
While ``step.again`` is true the status has changed, which is an event too: call it once more.

Source: Knative Serving ``pkg/reconciler/autoscaling/kpa`` (``scaler.go``, ``kpa.go``) and
``pkg/reconciler/serverlessservice``, restated. Condition times have one second's resolution,
as there. The activator always exists and answers its probe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from qwenkit.autoscaling.annotations import ScalingSpec
from qwenkit.autoscaling.kpa import UNKNOWN
from qwenkit.autoscaling.reasons import explain_bounds

_ACTIVATION_BUFFER_S = 30.0
_PROXY_RECHECK_S = 3.0
_MIN_ACTIVATORS = 2
_MOST_ACTIVATORS = 2**31 - 1


class ScaleState(Enum):
    """The PodAutoscaler's Active condition: True, Unknown or False."""

    ACTIVE = "Active"
    ACTIVATING = "Activating"
    INACTIVE = "Inactive"


class Mode(Enum):
    """Whether requests pass the activator (Proxy) or go straight to the pods (Serve)."""

    PROXY = "Proxy"
    SERVE = "Serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerStep:
    """The outcome of one reconcile.

    ``want`` is the scale aimed at (-1 unknown), ``desired_scale`` what the status shows,
    ``replicas`` the Deployment's ``spec.replicas``. ``condition_reason`` is the Active
    condition's reason, ``reason`` describes what held or changed the scale.
    ``mode`` is the wanted mode, ``activator_in_path`` the actual one.
    """

    want: int
    desired_scale: int
    replicas: int
    state: ScaleState
    condition_reason: str
    initialized: bool
    mode: Mode
    activator_in_path: bool
    activators: int
    reason: str
    recheck_s: float | None
    again: bool


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The outcome of the scale-to-zero rules: a scale, whether to apply it, when to check again."""

    want: int
    apply: bool
    reason: str = ""
    recheck_s: float | None = None


def apply_bounds(pods: int, minimum: int, maximum: int) -> int:
    """Clamp to the scale bounds; the lower bound wins, and a maximum of 0 is none."""
    if pods < minimum:
        return minimum
    return maximum if maximum and pods > maximum else pods


def count_activators(spec: ScalingSpec, ready: int) -> int:
    """Return how many activators serve the revision."""
    burst = spec.target_burst_capacity
    if burst == 0:
        return _MIN_ACTIVATORS
    capacity = ready * spec.total + max(burst, 0.0)
    wanted = math.ceil(min(capacity / spec.activator_capacity, _MOST_ACTIVATORS))
    return max(_MIN_ACTIVATORS, wanted)


class Scaler:
    """The state machine of one revision's PodAutoscaler and ServerlessService.

    Args:
        spec: the resolved settings.
        now: the time at which this model takes over the revision, in seconds.
        replicas: the Deployment's replicas; a new revision starts with initial-scale.
        state: the Active condition; a new revision is activating.
        since: when that condition began; defaults to ``now``.
        initialized: whether the initial scale has been reached before.
        mode: the current mode.
        proxy_since: when the activator joined the path; in Proxy defaults to ``since``.
    """

    def __init__(
        self,
        spec: ScalingSpec,
        *,
        now: float,
        replicas: int | None = None,
        state: ScaleState = ScaleState.ACTIVATING,
        since: float | None = None,
        initialized: bool = False,
        mode: Mode = Mode.PROXY,
        proxy_since: float | None = None,
    ) -> None:
        self.spec = spec
        self.replicas = spec.initial_scale if replicas is None else replicas
        self.state = state
        self.since = math.floor(now if since is None else since)
        self.initialized = initialized
        self.mode = mode
        self.desired_scale = UNKNOWN
        self.condition_reason = "Queued" if state is ScaleState.ACTIVATING else ""
        if proxy_since is None and mode is Mode.PROXY:
            proxy_since = self.since
        self._proxy_since = None if proxy_since is None else math.floor(proxy_since)

    def reconcile(
        self,
        now: float,
        *,
        desired: int,
        excess_burst_capacity: int,
        ready: int,
        reachable: bool = True,
    ) -> ScalerStep:
        """Reconcile once.

        Args:
            now: the time in seconds.
            desired: the decider's number of pods, -1 if it has none yet.
            excess_burst_capacity: the decider's; negative keeps the activator in the path.
            ready: pods that are running, ready and not terminating.
            reachable: whether a route points at the revision.
        """
        before = (self.state, self.mode, self.initialized)
        verdict = self._scale(now, desired, reachable)
        if verdict.apply:
            self.replicas = verdict.want
        serve = verdict.want > 0 and excess_burst_capacity >= 0
        self.mode = Mode.SERVE if serve else Mode.PROXY
        self._track_proxy(now, ready)
        if verdict.want != UNKNOWN or self.desired_scale < 0:
            self.desired_scale = verdict.want
        self._update_state(now, verdict.want, ready, reachable)
        again = before != (self.state, self.mode, self.initialized)
        return self._step(verdict, ready, again)

    def _step(self, verdict: _Verdict, ready: int, again: bool) -> ScalerStep:
        return ScalerStep(
            want=verdict.want,
            desired_scale=self.desired_scale,
            replicas=self.replicas,
            state=self.state,
            condition_reason=self.condition_reason,
            initialized=self.initialized,
            mode=self.mode,
            activator_in_path=self.mode is Mode.PROXY or ready == 0,
            activators=count_activators(self.spec, ready),
            reason=verdict.reason,
            recheck_s=verdict.recheck_s,
            again=again,
        )

    def _minimum(self, reachable: bool) -> int:
        return self.spec.min_scale if reachable else 0

    def _scale(self, now: float, desired: int, reachable: bool) -> _Verdict:
        if desired < 0 and self.state is not ScaleState.ACTIVATING:
            return _Verdict(desired, False, "no data yet")
        minimum = self._minimum(reachable)
        if self.spec.initial_scale > 1 and not self.initialized and reachable:
            minimum = max(minimum, self.spec.initial_scale)
        want = apply_bounds(desired, minimum, self.spec.max_scale)
        reason = explain_bounds(desired, want, minimum=minimum, maximum=self.spec.max_scale)
        if want != 0:
            return _Verdict(want, True, reason)
        return self._to_zero(now, reachable)

    def _to_zero(self, now: float, reachable: bool) -> _Verdict:
        if not self.spec.enable_scale_to_zero:
            return _Verdict(1, True, "one pod stays: scale to zero is disabled in this cluster")
        held = now - self.since
        if self.state is ScaleState.ACTIVATING:
            timeout = self.spec.progress_deadline_s + _ACTIVATION_BUFFER_S
            if held > timeout:
                return _Verdict(0, True, f"not active after {timeout:g} s: scaled to zero")
            return _Verdict(UNKNOWN, False, "activating: waiting for the first pods", timeout)
        if self.state is ScaleState.ACTIVE:
            return self._deactivate(held)
        return self._remove_last(now, held, reachable)

    def _deactivate(self, active_for: float) -> _Verdict:
        window = self.spec.stable_window_s
        if active_for >= window:
            recheck = _PROXY_RECHECK_S if self.mode is Mode.PROXY else None
            return _Verdict(0, False, f"idle for the stable window of {window:g} s", recheck)
        left = window - active_for
        return _Verdict(1, True, f"one pod stays: active for less than {window:g} s", left)

    def _remove_last(self, now: float, inactive_for: float, reachable: bool) -> _Verdict:
        grace = self.spec.grace_period_s
        retention = self.spec.retention_s if reachable else 0.0
        if inactive_for >= max(grace, retention):
            return _Verdict(0, True, "idle: scaled to zero")
        if inactive_for < retention:
            left = retention - inactive_for
            return _Verdict(0, False, f"last pod kept {retention:g} s by retention", left)
        proxied_for = 0.0 if self._proxy_since is None else now - self._proxy_since
        if proxied_for >= grace:
            return _Verdict(
                0, True, "idle, and the activator was in the path already: scaled to zero"
            )
        left = grace - proxied_for
        return _Verdict(0, False, f"waiting for the grace period of {grace:g} s", left)

    def _track_proxy(self, now: float, ready: int) -> None:
        if self.mode is Mode.SERVE and ready > 0:
            self._proxy_since = None
        elif self._proxy_since is None:
            self._proxy_since = math.floor(now)

    def _update_state(self, now: float, want: int, ready: int, reachable: bool) -> None:
        needed = max(self._minimum(reachable), 1 if self.initialized else self.spec.initial_scale)
        if ready >= needed:
            self.initialized = True
        if want == 0 or needed == 0:
            timed_out = self.state is ScaleState.ACTIVATING and needed > 0
            self._set(now, ScaleState.INACTIVE, "TimedOut" if timed_out else "NoTraffic")
        elif want > 0 or self.state is not ScaleState.INACTIVE:
            if ready < needed:
                self._set(now, ScaleState.ACTIVATING, "Queued")
            else:
                self._set(now, ScaleState.ACTIVE, "")
        elif ready < needed:
            # Only the step that scales to zero reports the timeout; later steps report idleness.
            self._set(now, ScaleState.INACTIVE, "NoTraffic")

    def _set(self, now: float, state: ScaleState, reason: str) -> None:
        # A change of the reason alone restarts the condition's clock too.
        if state is not self.state or reason != self.condition_reason:
            self.state, self.since = state, math.floor(now)
            self.condition_reason = reason

"""How many pods the KPA wants for a measured load: one revision's decider.

    decider = Decider(spec, ready=1, now=0.0)
    decider.record(now, concurrency=3.0, rps=1.0)      # once a second
    decision = decider.decide(now, ready=1)            # every TICK_S, and on a poke

The decider ignores min-scale and max-scale; ``scale_to_zero.Scaler`` applies them.
All arithmetic is IEEE doubles in the original's order: 4.2 / 1.4 needs 4 pods, not 3.

Source: Knative Serving ``pkg/autoscaler/scaling`` (``autoscaler.go``, ``multiscaler.go``) and
``pkg/autoscaler/metrics/collector.go``, restated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from qwenkit.autoscaling.annotations import RPS, WEIGHTED, ScalingSpec
from qwenkit.autoscaling.windows import LinearWindow, MaxWindow, WeightedWindow
from qwenkit.errors import InvalidValue

TICK_S = 2.0
UNKNOWN = -1
_INT32 = 2**31
_MAX_LOAD = 1e100  # keeps every sum and quotient finite


class Decision(NamedTuple):
    """The decision of one tick, and every number that led to it.

    ``for_stable`` and ``for_panic`` are the pods that each window asks for before limits;
    ``floor`` and ``ceiling`` are the scale-down and scale-up limits of this tick.
    ``notify`` is true if the reconciler must act: desired or the sign of the excess changed.
    ``reasons.explain`` puts a decision into words.
    """

    spec: ScalingSpec
    now: float
    ready: int
    stable: float
    panic: float
    for_stable: int
    for_panic: int
    floor: int
    ceiling: int
    over_threshold: bool
    panicking: bool
    held_by_panic: bool
    held_by_delay: bool
    desired: int
    excess_burst_capacity: int
    notify: bool


class Decider:
    """Windows, panic, delay and excess burst capacity of one revision.

    ``ready`` pods exist when the autoscaler starts, at second ``now``; more than one starts it in
    panic.
    """

    def __init__(self, spec: ScalingSpec, *, ready: int, now: float) -> None:
        if ready < 0:
            raise InvalidValue("ready pods", ready, "at least 0")
        window = WeightedWindow if spec.algorithm == WEIGHTED else LinearWindow
        self.spec = spec
        self.desired = UNKNOWN
        self.excess_burst_capacity = _initial_excess(spec)
        self._stable = window(spec.stable_window_s)
        self._panic = window(spec.panic_window_s)
        self._panic_since: float | None = now if ready > 1 else None
        self._max_panic = ready
        self._delay = MaxWindow(spec.scale_down_delay_s) if spec.scale_down_delay_s > 0 else None
        self._by_rps = spec.metric == RPS
        # With burst capacity -1 pods are not scraped, and then an empty window is a valid zero.
        self._needs_data = spec.target_burst_capacity != -1

    def record(self, now: float, concurrency: float, rps: float) -> None:
        """Record one report; reports of the same second add up.

        Raises:
            InvalidValue: a load is negative, NaN or above 1e100.
        """
        value = rps if self._by_rps else concurrency
        if not 0.0 <= value <= _MAX_LOAD:
            raise InvalidValue(
                "rps" if self._by_rps else "concurrency", value, f"a load of 0 to {_MAX_LOAD:g}"
            )
        self._stable.record(now, value)
        self._panic.record(now, value)

    def wants_poke(self, concurrency: float) -> bool:
        """Return whether a report makes the autoscaler decide at once: load at zero pods."""
        return self.desired == 0 and concurrency != 0

    def idle(self, now: float) -> bool:
        """Return whether, without new reports, every later decision equals the last one."""
        if self._needs_data:
            return self._stable.empty(now)
        averages = self._stable.average(now), self._panic.average(now)
        return self._panic_since is None and self.desired == 0 and not any(averages)

    def decide(self, now: float, ready: int, reachable: bool = True) -> Decision | None:
        """Decide how many pods are desired; None without data: the last decision holds."""
        if self._needs_data and self._stable.empty(now):
            return None
        spec, pods = self.spec, max(1, ready)
        stable, panic = self._stable.average(now), self._panic.average(now)
        ceiling = math.ceil(min(spec.max_scale_up_rate * pods, _INT32))
        floor = math.floor(pods / spec.max_scale_down_rate) if reachable else 0
        for_stable = math.ceil(stable / spec.target)
        for_panic = math.ceil(panic / spec.target)
        over = for_panic / pods >= spec.panic_threshold
        self._update_panic(now, over)
        wanted = _limited(for_stable, floor, ceiling, spec.activation_scale)
        peak = _limited(for_panic, floor, ceiling, spec.activation_scale)
        desired, held_by_panic = self._ratchet(wanted, peak)
        delayed = desired
        if reachable and self._delay is not None:
            delayed = self._delay.record(now, desired)
        excess = _excess(spec, ready, panic)
        notify = delayed != self.desired or (excess < 0) != (self.excess_burst_capacity < 0)
        self.desired, self.excess_burst_capacity = delayed, excess
        return Decision(
            spec=spec,
            now=now,
            ready=ready,
            stable=stable,
            panic=panic,
            for_stable=for_stable,
            for_panic=for_panic,
            floor=floor,
            ceiling=ceiling,
            over_threshold=over,
            panicking=self._panic_since is not None,
            held_by_panic=held_by_panic,
            held_by_delay=delayed != desired,
            desired=delayed,
            excess_burst_capacity=excess,
            notify=notify,
        )

    def _update_panic(self, now: float, over: bool) -> None:
        if over:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + self.spec.stable_window_s < now:
            self._panic_since = None
            self._max_panic = 0

    def _ratchet(self, wanted: int, peak: int) -> tuple[int, bool]:
        """Return the desired pods, and whether panic holds an earlier peak."""
        if self._panic_since is None:
            return wanted, False
        now_wanted = max(wanted, peak)
        self._max_panic = max(self._max_panic, now_wanted)
        return self._max_panic, now_wanted < self._max_panic


def _limited(pods: int, floor: int, ceiling: int, activation: int) -> int:
    limited = floor if pods < floor else pods
    limited = ceiling if limited > ceiling else limited
    if limited >= _INT32:
        limited = -_INT32
    return max(limited, activation) if activation > 1 and pods > 0 else limited


def _excess(spec: ScalingSpec, ready: int, panic: float) -> int:
    """Return the capacity beyond the load and the wanted burst; negative means Proxy mode."""
    if spec.target_burst_capacity == 0:
        return 0
    if spec.target_burst_capacity < 0:
        return -1
    left = ready * spec.total - spec.target_burst_capacity - panic
    return _int32(left // 1)  # floors infinities too


def _initial_excess(spec: ScalingSpec) -> int:
    burst = spec.target_burst_capacity
    if burst in (0, -1):
        return int(burst)
    return _int32(spec.initial_scale * spec.total - burst)


def _int32(value: float) -> int:
    """Truncate as Go does on amd64: an overflow becomes the least 32-bit integer."""
    return int(value) if -_INT32 <= value < _INT32 else -_INT32

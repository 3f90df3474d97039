"""The reconciler: bounds, the way to zero and back, the activator's place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.annotations import ScalingSpec
from qwenkit.autoscaling.scale_to_zero import (
    Mode,
    Scaler,
    ScalerStep,
    ScaleState,
    apply_bounds,
    count_activators,
)


def active(spec: ScalingSpec, *, replicas: int = 1, since: float = -1000.0) -> Scaler:
    return Scaler(
        spec, now=0.0, replicas=replicas, state=ScaleState.ACTIVE, since=since, initialized=True
    )


def settle(
    scaler: Scaler, now: float, desired: int, ready: int, excess: int = -1, **how: bool
) -> ScalerStep:
    """Reconcile until the status stays: a changed status is an event of its own."""
    for _ in range(10):
        step = scaler.reconcile(
            now, desired=desired, excess_burst_capacity=excess, ready=ready, **how
        )
        if not step.again:
            return step
    raise AssertionError("the status never settles")


def zero_at(scaler: Scaler, excess: int, ready: int = 1, **how: bool) -> float:
    """Return the second at which an idle revision is scaled to zero, following every recheck."""
    now = 0.0
    while now < 10_000:
        step = settle(scaler, now, 0, ready, excess, **how)
        if step.replicas == 0:
            return now
        assert step.recheck_s is not None
        now += step.recheck_s
    raise AssertionError("never scaled to zero")


@pytest.mark.parametrize(
    ("x", "low", "high", "expected"),
    [(0, 1, 3, 1), (5, 1, 3, 3), (5, 0, 0, 5), (2, 4, 3, 4), (-1, 0, 3, 0)],
)
def test_bounds_test_the_lower_one_first(x: int, low: int, high: int, expected: int) -> None:
    assert apply_bounds(x, low, high) == expected


@settings(deadline=None)
@given(st.integers(-1, 100), st.integers(0, 20), st.integers(0, 20))
def test_bounds_hold(x: int, low: int, extra: int) -> None:
    assert low <= apply_bounds(x, low, low + extra) <= max(low + extra, x, low)
    assert not extra or apply_bounds(x, low, low + extra) <= low + extra


def test_a_revision_in_proxy_mode_goes_to_zero_at_once() -> None:
    assert zero_at(active(ScalingSpec()), excess=-1) == 0.0


def test_a_revision_in_serve_mode_waits_out_the_grace_period() -> None:
    scaler = active(ScalingSpec(target_burst_capacity=0.0))
    assert settle(scaler, 0.0, 1, 1, excess=0).mode is Mode.SERVE
    step = settle(scaler, 5.0, 0, 1, excess=0)
    assert (step.state, step.mode, step.replicas) == (ScaleState.INACTIVE, Mode.PROXY, 1)
    assert step.recheck_s == 30.0
    assert settle(scaler, 34.0, 0, 1, excess=0).replicas == 1
    assert settle(scaler, 35.0, 0, 1, excess=0).replicas == 0


def test_active_for_less_than_the_window_keeps_one_pod() -> None:
    scaler = active(ScalingSpec(), replicas=3, since=-20.0)
    step = settle(scaler, 0.0, 0, 3)
    assert (step.replicas, step.desired_scale, step.recheck_s) == (1, 1, 40.0)
    assert settle(scaler, 40.0, 0, 1).replicas == 0


@pytest.mark.parametrize(("retention", "at"), [(0.0, 0.0), (10.0, 10.0), (600.0, 600.0)])
def test_retention_keeps_the_last_pod(retention: float, at: float) -> None:
    assert zero_at(active(ScalingSpec(retention_s=retention)), excess=-1) == at


def test_unreachable_forgets_minimum_and_retention() -> None:
    spec = ScalingSpec(retention_s=600.0, min_scale=2)
    assert zero_at(active(spec, replicas=2), excess=-1, ready=2, reachable=False) == 0.0
    assert settle(active(spec, replicas=2), 0.0, 0, 2).replicas == 2


def test_scale_to_zero_disabled_keeps_one() -> None:
    step = settle(active(ScalingSpec(enable_scale_to_zero=False)), 0.0, 0, 1)
    assert step.replicas == 1
    assert "disabled" in step.reason


def test_activation_times_out_after_deadline_and_buffer() -> None:
    scaler = Scaler(ScalingSpec(progress_deadline_s=100.0), now=0.0)
    waiting = settle(scaler, 0.0, 0, 0)
    assert (waiting.state, waiting.replicas) == (ScaleState.ACTIVATING, 1)
    assert settle(scaler, 130.0, 0, 0).replicas == 1
    step = scaler.reconcile(130.5, desired=0, excess_burst_capacity=-1, ready=0)
    assert (step.replicas, step.state, step.condition_reason) == (
        0,
        ScaleState.INACTIVE,
        "TimedOut",
    )
    assert settle(scaler, 131.0, 0, 0).condition_reason == "NoTraffic"


def test_a_time_out_stays_the_reason_when_pods_are_ready_too_late() -> None:
    scaler = Scaler(ScalingSpec(progress_deadline_s=1.0), now=0.0)
    for now, desired, ready in ((32.0, 0, 0), (33.0, -1, 1)):
        step = scaler.reconcile(now, desired=desired, excess_burst_capacity=-1, ready=ready)
        assert (step.state, step.condition_reason) == (ScaleState.INACTIVE, "TimedOut")


def test_a_new_revision_becomes_active() -> None:
    scaler = Scaler(ScalingSpec(), now=0.0)
    step = settle(scaler, 1.0, -1, 0)
    assert (step.state, step.condition_reason, step.initialized) == (
        ScaleState.ACTIVATING,
        "Queued",
        False,
    )
    step = settle(scaler, 12.0, -1, 1)
    assert (step.state, step.initialized, step.replicas) == (ScaleState.ACTIVE, True, 1)
    step = settle(scaler, 14.0, 0, 1)
    assert (step.replicas, step.desired_scale) == (1, 1)


def test_initial_scale_holds_until_it_was_reached() -> None:
    scaler = Scaler(ScalingSpec(initial_scale=3, min_scale=1), now=0.0)
    assert scaler.replicas == 3
    for ready in (0, 2):
        step = settle(scaler, 5.0, 0, ready)
        assert (step.replicas, step.state) == (3, ScaleState.ACTIVATING)
    scaler.reconcile(10.0, desired=0, excess_burst_capacity=-1, ready=3)
    assert settle(scaler, 10.0, 0, 3).replicas == 1


def test_minimum_above_initial_is_waited_for() -> None:
    scaler = Scaler(ScalingSpec(min_scale=2), now=0.0)
    assert scaler.replicas == 1
    assert settle(scaler, 0.0, -1, 0).replicas == 2
    assert settle(scaler, 9.0, -1, 1).state is ScaleState.ACTIVATING
    assert settle(scaler, 10.0, -1, 2).state is ScaleState.ACTIVE


def test_initial_above_maximum_starts_with_initial() -> None:
    scaler = Scaler(ScalingSpec(initial_scale=4, max_scale=2), now=0.0)
    assert settle(scaler, 0.0, 1, 0).replicas == 4


def test_zero_initial_scale_is_inactive_at_once() -> None:
    step = settle(Scaler(ScalingSpec(initial_scale=0), now=0.0), 0.0, -1, 0)
    assert (step.state, step.replicas) == (ScaleState.INACTIVE, 0)


def test_from_zero_and_back() -> None:
    scaler = Scaler(ScalingSpec(), now=0.0, replicas=0, state=ScaleState.INACTIVE, initialized=True)
    step = settle(scaler, 1.0, 2, 0)
    assert (step.state, step.replicas, step.activator_in_path) == (ScaleState.ACTIVATING, 2, True)
    assert settle(scaler, 5.0, 2, 1, excess=3).mode is Mode.SERVE
    assert settle(scaler, 5.0, 2, 1).state is ScaleState.ACTIVE


def test_no_data_while_inactive_changes_nothing() -> None:
    scaler = Scaler(ScalingSpec(), now=0.0, replicas=0, state=ScaleState.INACTIVE, initialized=True)
    step = settle(scaler, 1.0, -1, 0)
    assert (step.state, step.replicas, step.mode) == (ScaleState.INACTIVE, 0, Mode.PROXY)


def test_max_scale_is_named_in_the_reason() -> None:
    step = settle(active(ScalingSpec(max_scale=3)), 0.0, 9, 1)
    assert (step.replicas, step.reason) == (3, "held at 3 by max-scale")
    assert "min-scale" in settle(active(ScalingSpec(min_scale=2)), 0.0, 1, 1).reason


def test_activator_in_path() -> None:
    scaler = active(ScalingSpec())
    assert settle(scaler, 0.0, 1, 0, excess=5).activator_in_path  # no endpoint: forced
    assert not settle(scaler, 0.0, 1, 1, excess=5).activator_in_path
    assert settle(scaler, 0.0, 1, 1, excess=-5).activator_in_path


@pytest.mark.parametrize(
    ("burst", "ready", "count"), [(0.0, 100, 2), (211.0, 1, 4), (-1.0, 1, 2), (-1.0, 5, 5)]
)
def test_activators(burst: float, ready: int, count: int) -> None:
    assert count_activators(ScalingSpec(target_burst_capacity=burst), ready) == count


EVENTS = st.lists(
    st.tuples(st.floats(0, 40), st.integers(-1, 6), st.integers(0, 6), st.integers(-3, 3)),
    max_size=40,
)


@settings(deadline=None)
@given(EVENTS, st.integers(0, 3), st.integers(0, 3), st.integers(1, 3))
def test_replicas_stay_in_bounds_whatever_happens(
    events: list[tuple[float, int, int, int]], low: int, extra: int, initial: int
) -> None:
    spec = ScalingSpec(min_scale=low, max_scale=low + extra, initial_scale=initial)
    scaler, now = Scaler(spec, now=0.0), 0.0
    for pause, desired, ready, excess in events:
        now += pause
        step = settle(scaler, now, desired, ready, excess)
        most = max(spec.max_scale, initial) if spec.max_scale else 6
        assert 0 <= step.replicas <= most
        assert (step.mode is Mode.SERVE) <= (excess >= 0)
        assert step.recheck_s is None or step.recheck_s > 0
        if step.state is ScaleState.ACTIVE:
            assert ready >= max(low, 1)

"""The decider: upstream's own expectations (values only), edges, and properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.annotations import ScalingSpec
from qwenkit.autoscaling.kpa import Decider, Decision
from qwenkit.autoscaling.reasons import explain
from qwenkit.errors import InvalidValue


def fed(spec: ScalingSpec, stable: float, panic: float, at: int, ready: int = 1) -> Decider:
    """Return a decider whose windows average these values at second ``at``."""
    decider = Decider(spec, ready=ready, now=0.0)
    long, short = int(spec.stable_window_s), int(spec.panic_window_s)
    before = (stable * long - panic * short) / (long - short)
    assert before >= 0
    for second in range(at - long + 1, at + 1):
        decider.record(second, panic if second > at - short else before, 0.0)
    return decider


def decide(spec: ScalingSpec, stable: float, panic: float, ready: int, **how: Any) -> Decision:
    decision = fed(spec, stable, panic, 1000).decide(1000.0, ready, **how)
    assert decision is not None
    assert (decision.stable, decision.panic) == (pytest.approx(stable), pytest.approx(panic))
    return decision


def upstream(target: float, burst: float, **changes: Any) -> ScalingSpec:
    return ScalingSpec(
        **{
            "target": target,
            "total": target / 0.75,
            "target_burst_capacity": burst,
            "max_scale_up_rate": 10.0,
            "max_scale_down_rate": 10.0,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("spec", "ready", "stable", "panic", "desired"),
    [
        (upstream(10, 101), 1, 50, 10, 5),
        (upstream(10, 101), 1, 100, 10, 10),
        (upstream(10, 75), 1, 1, 0, 1),
        (upstream(10, 75), 1, 0, 0, 0),
        (upstream(10, 75, activation_scale=2), 1, 0, 0, 0),
        (upstream(10, 75, activation_scale=2), 1, 1, 0, 2),
        (upstream(1, 1982, max_scale_up_rate=1.1), 2, 3, 3.1, 3),
        (upstream(10, 1982, max_scale_down_rate=1.1), 100, 1, 1, 90),
        (upstream(10, 84), 1, 50, 100, 10),
        (upstream(10, 81), 0, 1000, 888, 10),
        (upstream(10, 0), 1, 50, 49, 5),
    ],
)
def test_upstream_expectations(
    spec: ScalingSpec, ready: int, stable: float, panic: float, desired: int
) -> None:
    assert decide(spec, stable, panic, ready).desired == desired


def test_unreachable_goes_down_at_once_and_without_delay() -> None:
    spec = upstream(10, 1982, max_scale_down_rate=1.1, scale_down_delay_s=300)
    assert decide(spec, 1, 1, 100, reachable=False).desired == 1
    assert decide(spec, 1, 1, 100).desired == 90


@pytest.mark.parametrize(
    ("ready", "load", "desired", "panicking"),
    [
        (1, 1.4, 1, False),
        (1, 1.41, 2, True),
        (1, 2.0, 2, True),
        (2, 2.0, 2, False),
        (2, 4.2, 4, True),
        (3, 6.0, 5, False),
    ],
)
def test_target_of_the_course(ready: int, load: float, desired: int, panicking: bool) -> None:
    spec = ScalingSpec(target=2 * 0.7, total=2.0)
    decision = decide(spec, load, load, ready)
    assert (decision.desired, decision.panicking) == (desired, panicking)


@pytest.mark.parametrize(("window_s", "held"), [(60.0, True), (59.5, False)])
def test_panic_ends_strictly_after_the_stable_window(window_s: float, held: bool) -> None:
    decider = Decider(ScalingSpec(target=1.0, stable_window_s=60.0), ready=2, now=60.0 - window_s)
    decider.record(60, 0.0, 0.0)
    decision = decider.decide(60.0 if held else 60.6, ready=2)
    assert decision is not None
    assert decision.panicking is held
    assert decision.desired == (2 if held else 1)


def test_start_with_several_pods_panics_and_keeps_them() -> None:
    for ready, desired in ((0, 0), (1, 0), (2, 2), (7, 7)):
        decider = Decider(ScalingSpec(), ready=ready, now=0.0)
        decider.record(1, 0.0, 0.0)
        decision = decider.decide(1.5, ready)
        assert decision is not None
        assert decision.desired == desired
        assert decision.panicking == (ready > 1)


def test_panic_ratchets_and_releases() -> None:
    spec, decider = ScalingSpec(target=1.0), Decider(ScalingSpec(target=1.0), ready=1, now=0.0)
    history = []
    for second in range(2, 140):
        decider.record(second, 8.0 if second < 10 else 1.0, 0.0)
        decision = decider.decide(second + 0.5, ready=8)
        assert decision is not None
        history.append(decision.desired)
    assert max(history) == 8
    peak = history.index(8)
    assert spec.stable_window_s == 60
    assert history[-1] == 4  # the load wants 1, the down rate allows half of 8
    assert all(later <= 8 for later in history[peak:])


def test_no_data_holds_and_burst_minus_one_is_zero() -> None:
    silent = Decider(ScalingSpec(), ready=1, now=0.0)
    assert silent.decide(2.0, 1) is None
    assert silent.desired == -1
    direct = Decider(ScalingSpec(target_burst_capacity=-1.0), ready=1, now=0.0)
    decision = direct.decide(2.0, 1)
    assert decision is not None
    assert (decision.desired, decision.excess_burst_capacity) == (0, -1)
    silent.record(3, 5.0, 0.0)
    silent.decide(3.0, 1)
    assert silent.decide(63.0, 1) is not None  # exactly one window: zero, not missing
    assert silent.decide(64.0, 1) is None


def test_poke_only_from_zero() -> None:
    decider = Decider(ScalingSpec(), ready=0, now=0.0)
    assert not decider.wants_poke(1.0)  # still -1
    decider.record(1, 0.0, 0.0)
    decider.decide(1.0, 0)
    assert decider.desired == 0
    assert decider.wants_poke(1.0)
    assert not decider.wants_poke(0.0)


@pytest.mark.parametrize(
    ("ready", "total", "burst", "panic", "excess"),
    [
        (0, 2.0, 211.0, 0.0, -211),
        (3, 2.0, 6.0, 0.0, 0),
        (3, 2.0, 5.5, 1.0, -1),
        (3, 2.5, 5.0, 0.0, 2),
        (3, 2.0, 0.0, 50.0, 0),
        (3, 2.0, -1.0, 0.0, -1),
        (1, 1.0, 1e30, 0.0, -(2**31)),
        (9, 1e308, 211.0, 0.0, -(2**31)),
    ],
)
def test_excess_burst_capacity(
    ready: int, total: float, burst: float, panic: float, excess: int
) -> None:
    spec = ScalingSpec(target=100.0, total=total, target_burst_capacity=burst)
    assert decide(spec, panic, panic, ready).excess_burst_capacity == excess


@pytest.mark.parametrize(
    ("burst", "initial", "excess"), [(0.0, 1, 0), (-1.0, 1, -1), (211.0, 1, -209), (1.5, 1, 0)]
)
def test_initial_excess_truncates(burst: float, initial: int, excess: int) -> None:
    spec = ScalingSpec(total=2.0, target_burst_capacity=burst, initial_scale=initial)
    assert Decider(spec, ready=0, now=0.0).excess_burst_capacity == excess


def test_the_reconciler_hears_of_changes_only() -> None:
    decider = Decider(ScalingSpec(target=1.0), ready=1, now=0.0)
    notified = []
    for second, load in enumerate((0.0, 0.0, 0.5, 0.5), 1):
        decider.record(second, load, 0.0)
        decision = decider.decide(second + 0.5, 1)
        assert decision is not None
        notified.append(decision.notify)
    assert notified == [True, False, True, False]


def test_delay_holds_the_greatest() -> None:
    spec = ScalingSpec(target=1.0, scale_down_delay_s=10, max_scale_down_rate=1000)
    decider = Decider(spec, ready=1, now=0.0)
    held = []
    for second in range(0, 100, 2):
        decider.record(second, 1.0 if second < 2 else 0.0, 0.0)
        decider.record(second + 1, 0.0, 0.0)
        decision = decider.decide(float(second), 1)
        assert decision is not None
        held.append(decision)
    last_wanted = max(d.now for d in held if d.for_stable > 0)
    assert [d.now for d in held if d.held_by_delay] == [last_wanted + 2 * k for k in range(1, 5)]
    assert "scale-down-delay" in explain(next(d for d in held if d.held_by_delay))


@pytest.mark.parametrize("load", [-1.0, -1e-9, math.nan, math.inf, 1e300])
def test_impossible_load_is_refused_by_name(load: float) -> None:
    with pytest.raises(InvalidValue, match="concurrency"):
        Decider(ScalingSpec(), ready=1, now=0.0).record(1, load, 0.0)
    with pytest.raises(InvalidValue, match="rps"):
        Decider(ScalingSpec(metric="rps"), ready=1, now=0.0).record(1, 0.0, load)
    with pytest.raises(InvalidValue, match="ready"):
        Decider(ScalingSpec(), ready=-1, now=0.0)


def test_reasons_name_what_decided() -> None:
    course = ScalingSpec(target=1.4, total=2.0)
    assert explain(decide(course, 9.3, 9.3, 1)).startswith("panic: 6 s mean concurrency 9.3")
    assert "60 s mean concurrency 1" in explain(decide(course, 1, 1, 1))
    fast = ScalingSpec(target=1.0, max_scale_up_rate=1.1)
    assert "max-scale-up-rate" in explain(decide(fast, 9, 9, 1))
    assert "max-scale-down-rate" in explain(decide(ScalingSpec(), 1, 1, 10))
    assert "activation-scale" in explain(decide(ScalingSpec(activation_scale=3), 1, 1, 1))
    assert "rps" in ScalingSpec(metric="rps").metric


LOADS = st.lists(st.one_of(st.none(), st.floats(0, 500)), min_size=5, max_size=120)
SPECS = st.builds(
    ScalingSpec,
    target=st.floats(0.01, 50),
    total=st.floats(0.01, 70),
    algorithm=st.sampled_from(["linear", "weighted-exponential"]),
    stable_window_s=st.sampled_from([6.0, 30.0, 60.0]),
    panic_window_s=st.sampled_from([1.0, 6.0]),
    panic_threshold=st.floats(1.1, 10),
    target_burst_capacity=st.sampled_from([-1.0, 0.0, 211.0]),
    activation_scale=st.sampled_from([0, 3]),
    scale_down_delay_s=st.sampled_from([0.0, 5.0, 20.0]),
    max_scale_up_rate=st.floats(1.01, 1000),
    max_scale_down_rate=st.floats(1.01, 10),
)


def run(spec: ScalingSpec, loads: list[float | None], shift: int = 0) -> list[Decision | None]:
    decider, pods, decisions = Decider(spec, ready=1, now=float(shift)), 1, []
    for second, load in enumerate(loads):
        if load is not None:
            decider.record(second + shift, load, load)
        if second % 2 == 0:
            decision = decider.decide(second + shift + 0.5, pods)
            decisions.append(decision)
            pods = decider.desired if decider.desired >= 0 else pods
    return decisions


@settings(deadline=None)
@given(SPECS, LOADS)
def test_decisions_stay_within_the_rates(spec: ScalingSpec, loads: list[float | None]) -> None:
    for decision in run(spec, loads):
        if decision is None:
            continue
        assert decision.stable >= 0
        assert decision.panic >= 0
        assert decision.desired >= 0
        assert explain(decision)
        if not decision.panicking and not decision.held_by_delay:
            activated = decision.for_stable > 0 and spec.activation_scale == decision.desired
            assert decision.desired >= min(decision.floor, decision.ceiling)
            assert decision.desired <= decision.ceiling or activated


@settings(deadline=None)
@given(SPECS, LOADS, st.integers(1, 10**6).map(lambda n: 2 * n))
def test_a_shift_in_time_changes_no_decision(
    spec: ScalingSpec, loads: list[float | None], shift: int
) -> None:
    here, there = run(spec, loads), run(spec, loads, shift)
    assert [d and (d.desired, d.panicking) for d in here] == [
        d and (d.desired, d.panicking) for d in there
    ]


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 500), min_size=60, max_size=60),
    st.floats(1, 3),
    st.floats(0.1, 20),
    st.integers(1, 9),
)
def test_more_load_never_wants_fewer_pods(
    loads: list[float], factor: float, target: float, ready: int
) -> None:
    wanted = []
    for scale in (1.0, factor):
        decider = Decider(ScalingSpec(target=target), ready=1, now=0.0)
        for second, load in enumerate(loads):
            decider.record(second, load * scale, 0.0)
        decision = decider.decide(59.5, ready)
        assert decision is not None
        wanted.append((decision.for_stable, decision.for_panic, decision.desired))
    assert all(more >= less for less, more in zip(*wanted, strict=True))

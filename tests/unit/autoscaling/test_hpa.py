"""The HPA against Kubernetes' own table, a plain restatement, and what must always hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.hpa import (
    DISABLED,
    DOWN,
    MAX,
    MIN,
    PERCENT,
    PODS,
    SYNC_S,
    UP,
    Hpa,
    HpaSpec,
    Reading,
    ScalePolicy,
    ScalingRules,
)
from qwenkit.errors import InvalidValue

Values = list[float]


def qps(most: int, **more: Any) -> HpaSpec:
    return HpaSpec("qps", 15.0, most, **more)


def asked(target: float, replicas: int, reading: Reading, pending: int = 0) -> int | None:
    return Hpa(HpaSpec("qps", target, 100)).sync(0.0, replicas, reading, pending).proposed


@pytest.mark.parametrize(
    ("replicas", "values", "expected"),
    [(3, [20, 10, 30], 4), (3, [50, 10, 30], 6), (3, [50, 15, 30], 7), (3, [16, 16, 16], 3)],
)
def test_kubernetes_own_cases_of_pod_metrics(replicas: int, values: Values, expected: int) -> None:
    assert asked(15.0, replicas, values) == expected


@pytest.mark.parametrize(("replicas", "target", "expected"), [(3, 2.15, 4), (5, 2.867, 3)])
def test_kubernetes_own_cases_of_external_averages(
    replicas: int, target: float, expected: int
) -> None:
    assert asked(target, replicas, 8.6) == expected


@pytest.mark.parametrize(
    ("replicas", "values", "pending", "expected"),
    [(2, [60.0], 1, 4), (3, [20.0, 20.0], 1, 3), (3, [5.0, 5.0], 1, 1), (4, [40.0], 2, 4)],
)
def test_pending_pods_speak_against_more(
    replicas: int, values: Values, pending: int, expected: int
) -> None:
    assert asked(15.0, replicas, values, pending) == expected


# The published algorithm once more, as plainly as possible.


@dataclass
class Plain:
    """horizontal.go's controller for one Pods or one External metric, in its own order."""

    spec: HpaSpec
    recommendations: list[tuple[float, int]] = field(default_factory=list)
    events: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, now: float, current: int, reading: Values | float | None, pending: int) -> int:
        spec = self.spec
        self.recommendations = self.recommendations or [(now, current)]
        if current > spec.max_replicas:
            desired = spec.max_replicas
        elif current < spec.min_replicas:
            desired = spec.min_replicas
        else:
            if isinstance(reading, list):
                wanted = self.by_pods(current, reading, pending)
            else:
                wanted = None if reading is None else self.by_total(current, reading)
            if wanted is None:
                return current
            desired = self.normalized(now, current, wanted)
        if desired != current:
            self.events.append((now, desired - current))
        return desired

    def within(self, ratio: float) -> bool:
        return (1.0 - self.spec.tolerance) <= ratio and ratio <= (1.0 + self.spec.tolerance)

    def by_pods(self, current: int, values: Values, pending: int) -> int | None:
        target = int(self.spec.target * 1000)
        metrics = {n: int(value * 1000) for n, value in enumerate(values)}
        unready = [len(values) + n for n in range(pending)]
        if not metrics:
            return None
        ratio = (sum(metrics.values()) // len(metrics)) / target
        if not (len(unready) > 0 and ratio > 1.0):
            return current if self.within(ratio) else math.ceil(ratio * len(metrics))
        for place in unready:
            metrics[place] = 0
        new = (sum(metrics.values()) // len(metrics)) / target
        if self.within(new) or (ratio < 1.0 and new > 1.0) or (ratio > 1.0 and new < 1.0):
            return current
        count = math.ceil(new * len(metrics))
        if (new < 1.0 and count > current) or (new > 1.0 and count < current):
            return current
        return count

    def by_total(self, current: int, total: float) -> int:
        usage, target = int(total * 1000), int(self.spec.target * 1000)
        if self.within(float(usage) / (float(target) * float(current))):
            return current
        return math.ceil(float(usage) / float(target))

    def normalized(self, now: float, current: int, desired: int) -> int:
        spec, recent = self.spec, self.recommendations
        if spec.up is None and spec.down is None:
            stable = desired
            for at, count in recent:
                if not at < now - 300 and count > stable:
                    stable = count
            recent.append((now, desired))
            most = min(spec.max_replicas, max(2 * current, 4))
            return max(min(stable, most), spec.min_replicas)
        up, down = spec.up or UP, spec.down or DOWN
        low = high = desired
        for at, count in recent:
            if at > now - up.window_s:
                low = min(low, count)
            if at > now - down.window_s:
                high = max(high, count)
        recent.append((now, desired))
        stable = current
        if stable < low:
            stable = low
        if stable > high:
            stable = high
        if stable > current:
            return min(stable, spec.max_replicas, max(self.up_limit(now, current, up), current))
        if stable < current:
            return max(stable, spec.min_replicas, min(self.down_limit(now, current, down), current))
        return stable

    def start(self, now: float, current: int, policy: ScalePolicy) -> int:
        return current - sum(n for at, n in self.events if at > now - policy.period_s)

    def up_limit(self, now: float, current: int, rules: ScalingRules) -> int:
        if rules.select == DISABLED:
            return current
        proposals = []
        for policy in rules.policies:
            start = self.start(now, current, policy)
            if policy.kind == PODS:
                proposals.append(start + policy.value)
            else:
                proposals.append(math.ceil(float(start) * (1 + float(policy.value) / 100)))
        return min(proposals) if rules.select == MIN else max(proposals)

    def down_limit(self, now: float, current: int, rules: ScalingRules) -> int:
        if rules.select == DISABLED:
            return current
        proposals = []
        for policy in rules.policies:
            start = self.start(now, current, policy)
            if policy.kind == PODS:
                proposals.append(start - policy.value)
            else:
                proposals.append(int(float(start) * (1 - float(policy.value) / 100)))
        return max(proposals) if rules.select == MIN else min(proposals)


RULES = st.builds(
    ScalingRules,
    st.lists(
        st.builds(
            ScalePolicy,
            st.sampled_from([PODS, PERCENT]),
            st.sampled_from([1, 2, 4, 10, 50, 100]),
            st.sampled_from([15, 30, 60]),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.sampled_from([0, 15, 30, 60, 300]),
    st.sampled_from([MAX, MIN, DISABLED]),
)
SPECS = st.builds(
    lambda target, least, more, up, down, tolerance: HpaSpec(
        "load",
        target,
        least + more,
        least,
        up,
        down,
        tolerance,
    ),
    st.sampled_from([0.5, 1.0, 5.0, 60.0, 80.0]),
    st.integers(1, 3),
    st.integers(0, 12),
    st.none() | RULES,
    st.none() | RULES,
    st.sampled_from([0.0, 0.1, 0.2]),
)
VALUES = st.lists(st.floats(0, 200) | st.sampled_from([0.0, 54.0, 60.0, 66.0, 100.0]), max_size=6)
TOTALS = st.floats(0, 200) | st.integers(0, 40).map(float)
SYNCS = st.sampled_from([VALUES, TOTALS]).flatmap(
    lambda readings: st.lists(
        st.tuples(st.none() | readings, st.integers(0, 3)), min_size=1, max_size=30
    )
)


@settings(max_examples=200, deadline=None)
@given(SPECS, st.integers(1, 16), SYNCS)
def test_equal_to_the_published_algorithm(
    spec: HpaSpec, replicas: int, syncs: list[tuple[Values | float | None, int]]
) -> None:
    hpa, plain = Hpa(spec), Plain(spec)
    for number, (reading, pending) in enumerate(syncs):
        now = number * SYNC_S
        expected = plain.sync(now, replicas, reading, pending)
        step = hpa.sync(now, replicas, reading, pending)
        assert step.replicas == expected, (now, step)
        assert step.reason
        if spec.min_replicas <= replicas <= spec.max_replicas:
            assert spec.min_replicas <= step.replicas <= spec.max_replicas
        replicas = step.replicas


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 200), min_size=25, max_size=60), st.booleans())
def test_never_down_within_the_window_of_a_higher_number(
    loads: list[float], with_behavior: bool
) -> None:
    spec = qps(20, down=DOWN if with_behavior else None)
    hpa, replicas, asked = Hpa(spec), 5, []
    for number, load in enumerate(loads):
        step = hpa.sync(number * SYNC_S, replicas, load)
        asked.append(step.proposed or 0)
        if step.replicas < replicas:
            assert step.replicas >= min(max(asked[-20:]), 20)
        assert step.replicas <= max(2 * replicas, replicas + 4, 4)
        replicas = step.replicas


def test_reasons_name_what_held_the_number() -> None:
    hpa = Hpa(qps(3))
    assert hpa.sync(0.0, 1, 200.0).reason == (
        "qps 200 per pod, target 15, asks for 14; 3 by maxReplicas"
    )
    assert "held at 14 by the stabilization window" in hpa.sync(15.0, 3, 0.0).reason
    assert "missing" in hpa.sync(30.0, 3, None).reason
    assert "no replicas" in hpa.sync(45.0, 0, 9.0).reason


@pytest.mark.parametrize("bad", [(15.0, 0, 1), (15.0, 2, 3), (0.0, 2, 1), (math.inf, 2, 1)])
def test_impossible_objects_are_refused(bad: tuple[float, int, int]) -> None:
    with pytest.raises(InvalidValue):
        HpaSpec("qps", *bad)

"""The windows: upstream's own expectations (values only), and properties that always hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.windows import LinearWindow, MaxWindow, WeightedWindow, round6

RECORDS = st.lists(st.tuples(st.integers(0, 150), st.floats(0, 1e6)), min_size=1, max_size=60)


def test_linear_window_over_time() -> None:
    window = LinearWindow(5)
    start = 1_000
    for second in range(5):
        window.record(start + second, second + 1)
        if second == 0:
            assert window.average(start) == 1
    assert window.average(start + 4) == 3
    assert window.average(start + 3.6) == 3
    assert window.average(start + 6) == 4  # two trailing seconds are missing, not zero
    assert window.average(start + 10) == 0
    window.record(start + 6, 91)
    assert window.average(start + 6) == (15 - 1 - 2 + 91) / 5


def test_linear_window_after_a_gap_and_late_records() -> None:
    window = LinearWindow(5)
    window.record(0, 7)
    at = 60
    window.record(at, 1984)
    assert window.average(at) == 1984
    window.record(at - 3, 4)
    assert window.average(at) == 1988 / 4
    window.record(at + 1, 5)
    assert window.average(at + 1) == round6(1993 / 5)
    window.record(at - 2, 10)
    assert window.average(at + 1) == round6(2003 / 5)
    for late in (at - 5, at - 4):
        window.record(late, 1000)
    assert window.average(at + 1) == round6(2003 / 5)
    window.record(at + 6, 10)
    assert window.average(at + 6) == 10


def test_window_edges() -> None:
    window = LinearWindow(6)
    assert window.empty(0)
    assert window.average(0) == 0
    window.record(10, 6)
    assert not window.empty(16)  # exactly a window later: no average, but not empty either
    assert window.average(16) == 0
    assert window.empty(17)
    window.record(15, 6)  # a gap of one less than the window resets nothing
    assert window.average(15) == 2
    window.record(15.9, 6)  # the same second adds up
    assert window.average(15) == 3


def test_weighted_window() -> None:
    window, c = WeightedWindow(5), max(1 - 1e-4 ** (1 / 5), 0.2)
    window.record(0, 2)
    assert window.average(0) == pytest.approx(2 * c)
    assert window.average(1) == pytest.approx(2 * c * (1 - c))
    window.record(1, 2)
    assert window.average(1) == pytest.approx(2 * c * (1 - c) + 2 * c)
    for second, value in enumerate((2, 3, 4, 5, 6), 2):
        window.record(second, value)
    expected = sum(v * c * (1 - c) ** k for k, v in enumerate((6, 5, 4, 3, 2)))
    assert window.average(6) == pytest.approx(expected)
    assert window.average(16) == 0


@pytest.mark.parametrize(
    ("size", "bits"),
    [
        (6, "0x1.91b164c4fd313p-1"),
        (24, "0x1.465b5f317cceep-2"),
        (25, "0x1.3b90a9762c476p-2"),
        (31, "0x1.0734754586290p-2"),
        (34, "0x1.e5fe48a6c07a8p-3"),
        (35, "0x1.d9db5727d3cc8p-3"),
    ],
)
def test_weighted_coefficients_are_go_s_to_the_last_bit(size: int, bits: str) -> None:
    window = WeightedWindow(size)
    window.record(0, 1)
    assert window.average(0).hex() == bits


def test_max_window_keeps_the_greatest_of_a_slot() -> None:
    window = MaxWindow(10)
    assert [window.record(0, value) for value in (7, 6, 5)] == [7, 7, 7]
    assert MaxWindow(1).record(0, 3) == 3
    short = MaxWindow(1)
    assert [short.record(at, value) for at, value in ((0, 3), (1, 2), (2, 1))] == [3, 3, 1]
    back = MaxWindow(4)  # the clock steps back: an equal value takes the older slot
    assert [back.record(at, value) for at, value in ((10, 3), (8, 3), (12, 1))] == [3, 3, 1]


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.0000005, 1e-6), (0.0000004999, 0.0), (2.5e-6, 3e-6), (1 / 3, 0.333333)],
)
def test_rounding_is_half_away_from_zero(value: float, rounded: float) -> None:
    assert round6(value) == rounded
    assert round6(-value) == -rounded


@settings(deadline=None)
@given(RECORDS, st.integers(1, 70), st.sampled_from([LinearWindow, WeightedWindow]))
def test_averages_are_never_negative_nor_above_the_greatest_second(
    records: list[tuple[int, float]], size: int, kind: type[LinearWindow]
) -> None:
    window, seconds = kind(size), dict.fromkeys(range(151), 0.0)
    for at, value in sorted(records):
        window.record(at, value)
        seconds[at] += value
        average = window.average(at)
        assert -1e-3 <= average <= max(seconds.values()) * (1 + 1e-9) + 1e-3


@settings(deadline=None)
@given(
    RECORDS,
    st.integers(1, 70),
    st.integers(1, 10**9),
    st.sampled_from([LinearWindow, WeightedWindow]),
)
def test_a_shift_in_time_changes_nothing(
    records: list[tuple[int, float]], size: int, shift: int, kind: type[LinearWindow]
) -> None:
    here, there = kind(size), kind(size)
    for at, value in records:  # out of order on purpose
        here.record(at, value)
        there.record(at + shift, value)
        assert here.average(at) == pytest.approx(there.average(at + shift), rel=1e-9, abs=1e-6)
        assert here.empty(at + size) == there.empty(at + size + shift)


@settings(deadline=None)
@given(RECORDS, st.integers(1, 70))
def test_linear_average_is_the_mean_of_the_seconds_that_count(
    records: list[tuple[int, float]], size: int
) -> None:
    records = sorted(records)
    window, seconds, first, last = LinearWindow(size), {}, None, None
    for at, value in records:
        window.record(at, value)
        if last is None or at - last >= size:
            first, seconds = at, {}
        seconds[at] = seconds.get(at, 0.0) + value
        last = at
    assert first is not None
    assert last is not None
    span = range(max(first, last - size + 1), last + 1)
    mean = sum(seconds.get(second, 0.0) for second in span) / len(span)
    assert math.isclose(window.average(last), mean, rel_tol=1e-6, abs_tol=1e-5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1), st.integers(1, 40))
def test_max_window_is_the_maximum_of_its_slots(steps: list[tuple[int, int]], delay: int) -> None:
    window, slots, now = MaxWindow(delay), math.ceil(delay / 2), 0
    seen: list[tuple[int, int]] = []
    for step, value in steps:
        now += step
        seen.append((now // 2, value))
        expected = max(v for slot, v in seen if now // 2 - slot < slots)
        assert window.record(now, value) == expected

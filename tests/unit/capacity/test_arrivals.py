"""Shapes of open-loop traffic; those of ``vllm bench serve`` against a recording of its code."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA

from qwenkit.capacity.simulation.arrivals import constant, like_vllm_bench, night_and_day, ramp
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths, OpenLoop
from qwenkit.errors import InvalidValue, QwenkitError

RECORDED = json.loads((DATA / "vllm-bench.json").read_text("utf-8"))["arrivals"]


def times(traffic: OpenLoop) -> list[float]:
    return [arrival.at for arrival in traffic.arrivals]


@pytest.mark.parametrize("run", RECORDED["runs"], ids=lambda run: f"seed {run['seed']}")
def test_the_arrivals_are_those_of_vllm_to_the_last_bit(run: dict[str, object]) -> None:
    count = len(run["times"])
    made = like_vllm_bench(count, run["rate"], burstiness=run["burstiness"], seed=run["seed"])
    assert times(made) == run["times"]


def test_without_numpy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(QwenkitError, match="vllm bench") as caught:
        like_vllm_bench(1, 1)
    assert "pip install" in caught.value.fix


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: like_vllm_bench(0, 1),
        lambda: like_vllm_bench(1, 0),
        lambda: like_vllm_bench(1, float("nan")),
        lambda: like_vllm_bench(1, 1, burstiness=-1),
        lambda: constant(0, 1),
        lambda: constant(1e9, 1e9),
        lambda: ramp(-1, 5, 10),
        lambda: night_and_day(5, 1, 10),
        lambda: night_and_day(1, 5, 10, every_s=0),
    ],
)
def test_what_is_no_traffic_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidValue):
        wrong()


def test_a_refused_duration_is_named() -> None:
    with pytest.raises(InvalidValue, match="duration_s"):
        constant(1, -5)


@settings(max_examples=30)
@given(st.floats(0.1, 50), st.floats(0.1, 20))
def test_a_constant_rate_has_equal_gaps_and_ends_in_time(rate: float, seconds: float) -> None:
    found = times(constant(rate, seconds))
    assert found == [pytest.approx(number / rate) for number in range(len(found))]
    assert found[-1] < seconds <= len(found) / rate + 1e-9


def test_a_ramp_rises_and_a_day_has_its_peak_at_noon() -> None:
    rising = times(ramp(1, 9, 200, seed=3))
    halves = [sum(at < 100 for at in rising), sum(at >= 100 for at in rising)]
    assert halves == [pytest.approx(300, rel=0.2), pytest.approx(700, rel=0.2)]
    daily = times(night_and_day(0.5, 8, 400, every_s=400, seed=3))
    noon = sum(100 <= at < 300 for at in daily)
    assert noon > 3 * (len(daily) - noon)


def test_lengths_are_drawn_with_their_spread_from_the_seed() -> None:
    spread = Lengths(200, 50, 0.5)
    one, same, other = (constant(10, 100, lengths=spread, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    prompts = [arrival.prompt_tokens for arrival in one.arrivals]
    assert sum(prompts) / len(prompts) == pytest.approx(200, rel=0.1)
    assert len(set(prompts)) > 100


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=5),
    st.integers(0, 5),
    st.floats(0, 60),
)
@settings(max_examples=60)
def test_a_client_s_turn_is_when_the_schedule_has_room(
    schedule: list[tuple[int, int]], client: int, at: float
) -> None:
    loop = ClosedLoop(tuple(sorted(schedule, key=lambda entry: entry[0])))
    turn = loop.turn(client, at)
    assert turn >= at
    if turn != float("inf"):
        assert loop.clients(turn) > client
    changes = [start for start, _ in loop.schedule if at < start < turn]
    assert all(loop.clients(each) <= client for each in changes)

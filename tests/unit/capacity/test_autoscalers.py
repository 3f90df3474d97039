"""Other autoscalers in the simulation, and the comparison of all under the same requests."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.hpa import HpaSpec
from qwenkit.capacity.search.autoscalers import (
    FIXED,
    HPA_GPU,
    KEDA_WAITING,
    KPA_CONCURRENCY,
    KPA_RPS,
    TARGETS,
    AutoscalerComparison,
    compare_autoscalers,
    scaling_by,
)
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.control import GPU_UTILIZATION, WAITING
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, Lengths, OpenLoop, varying
from qwenkit.errors import InvalidValue

V100 = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
QUICK = Environment(startup_s=10.0, drain_s=0.0, gpus=3)


def on_gpu(target: float, most: int = 3) -> HpaSpec:
    return HpaSpec(GPU_UTILIZATION, target, most)


def half_hour(seed: int) -> OpenLoop:
    """Return a night and a day of 15 minutes each, up to four requests a second."""
    return varying(
        lambda at: 2.0 * (1 - 0.95 * math.cos(2 * math.pi * at / 1800)), 4.0, 1800, seed=seed
    )


def test_an_hpa_scales_on_utilization_at_a_sync_whatever_the_queue() -> None:
    peaks = {}
    for clients in (1, 60):
        load = ClosedLoop(((5, clients), (400, 0)))
        result = simulate(on_gpu(60), load, V100, environment=QUICK, duration_s=900)
        assert {tick.t % 15 for tick in result.decisions} == {0}
        first = result.changes[0]
        assert (first.t, first.before, first.after) == (15.0, 1, 2)
        assert first.reason == "GPU utilization 66.7 per pod, target 60, asks for 2"
        peaks[clients] = max(result.ready)
        # Held by the window of 300 s, then down to its minimum.
        assert result.ready[690] == max(result.ready)
        assert result.ready[-1] == 1
    assert peaks == {1: 2, 60: 3}


def test_an_hpa_near_full_utilization_never_scales() -> None:
    load = ClosedLoop(((5, 90), (600, 0)))
    result = simulate(on_gpu(95), load, V100, environment=QUICK)
    assert max(result.queue) > 30
    assert set(result.ready) == {1}


def test_a_loading_pod_counts_as_an_idle_gpu_and_a_pending_one_not() -> None:
    slow = Environment(startup_s=200.0, gpus=2)
    result = simulate(on_gpu(20, 3), ClosedLoop(((5, 9), (190, 0))), V100, environment=slow)
    # One GPU at 100 % of the target's 20 asks for five; then one of two GPUs works, so 50 %.
    assert [change.after for change in result.changes[:1]] == [3]
    assert max(result.starting) == 2
    assert "50 per pod" in result.decisions[2].reason


def test_keda_scales_when_requests_wait_for_the_kv_cache() -> None:
    load = ClosedLoop(((5, 60), (300, 0)))
    result = simulate(HpaSpec(WAITING, 5.0, 3), load, V100, environment=QUICK)
    assert max(result.ready) == 3
    assert "waiting requests" in result.changes[0].reason
    load = ClosedLoop(((5, 20), (300, 0)), Lengths(50, 400))
    served = simulate(HpaSpec(WAITING, 5.0, 3), load, V100)
    assert max(served.ready) == 1  # a full batch, slow tokens, and nobody waits


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(TARGETS)),
    st.sampled_from([1.0, 5.0, 60.0]),
    st.lists(st.tuples(st.floats(0, 300), st.integers(1, 40)), min_size=1, max_size=30),
    st.sampled_from([1, 2, 3]),
)
def test_whatever_the_autoscaler_requests_and_gpus_are_accounted_for(
    name: str, target: float, arrivals: list[tuple[float, int]], gpus: int
) -> None:
    load = OpenLoop(tuple(Arrival(at, 300, tokens) for at, tokens in sorted(arrivals)))
    scaling = scaling_by(name, target, max_replicas=3)
    there = Environment(startup_s=10.0, drain_s=5.0, gpus=gpus)
    result = simulate(scaling, load, V100, environment=there, duration_s=500)
    assert len(result.requests) + result.unfinished == len(arrivals) == sum(result.arrivals)
    assert max(result.ready) <= gpus
    assert min(result.ready) >= 1
    assert all(tick.reason and 1 <= tick.replicas <= 3 for tick in result.decisions)


@pytest.fixture(scope="module")
def compared() -> AutoscalerComparison:
    wanted = Objective(ttft_p95_s=2, tpot_p95_s=0.06)
    return compare_autoscalers(V100, half_hour, objective=wanted, gpus=3)


def test_the_comparison_shows_what_the_documentation_claims(compared: AutoscalerComparison) -> None:
    best = {each.autoscaler: each for each in compared.best()}
    assert list(best) == [*TARGETS, FIXED]
    assert best[KPA_CONCURRENCY].within > 0.95
    assert best[HPA_GPU].gpu_hours > 1.1 * best[KPA_CONCURRENCY].gpu_hours
    assert best[KPA_RPS].gpu_hours < best[HPA_GPU].gpu_hours
    assert best[KEDA_WAITING].within < 0.9  # it sees a queue, and not that tokens slow down
    near_full = compared.of(HPA_GPU)[-1]
    assert (near_full.target, near_full.peak) == (95, 1)
    assert near_full.within < 0.5


def test_every_outcome_is_of_the_same_requests(compared: AutoscalerComparison) -> None:
    assert (
        len({len(each.result.requests.at) + each.result.unfinished for each in compared.outcomes})
        == 1
    )
    for each in compared.outcomes:
        assert 0 <= each.within <= 1
        assert each.gpu_hours == pytest.approx(each.result.gpu_seconds / 3600)
        assert each.cost == pytest.approx(each.gpu_hours)
    assert [each.peak for each in compared.of(FIXED)] == [1, 2, 3]


def test_seeds_make_arrivals_and_the_same_seeds_the_same_answer() -> None:
    short = OpenLoop(half_hour(1).arrivals[:40])
    objective = Objective(ttft_p95_s=2)
    once = compare_autoscalers(V100, short, objective=objective, gpus=2, seeds=(1, 2))
    again = compare_autoscalers(V100, short, objective=objective, gpus=2, seeds=(1, 2))
    assert once == again


def test_a_time_that_there_is_not_is_none_in_a_record() -> None:
    endless = OpenLoop((Arrival(0.0, 100, 30_000),))
    slow = V100.at(0.1)
    found = compare_autoscalers(slow, endless, objective=Objective(ttft_p95_s=2), gpus=1)
    assert {each.row()["ttft_p95_s"] for each in found.outcomes} == {None}


def test_unknown_names_and_impossible_settings_are_refused() -> None:
    for call in (
        lambda: scaling_by("HPA", 60, max_replicas=3),
        lambda: scaling_by(HPA_GPU, 0, max_replicas=3),
        lambda: scaling_by(HPA_GPU, 60, max_replicas=3, min_replicas=0),
        lambda: scaling_by(KPA_RPS, -1, max_replicas=3),
        lambda: compare_autoscalers(V100, half_hour, objective=Objective(), gpus=0),
        lambda: compare_autoscalers(V100, half_hour, objective=Objective(), gpus=1, seeds=()),
    ):
        with pytest.raises(InvalidValue):
            call()

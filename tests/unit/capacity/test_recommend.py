"""Recommended settings keep the objective in the simulation, and say why."""

from __future__ import annotations

import pytest

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.search.candidates import Objective, pareto
from qwenkit.capacity.search.recommend import Recommendation, recommend
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths, bursts
from qwenkit.errors import InvalidValue

INT8 = "Qwen-7B-Chat-Int8"
V100 = VllmServer("V100-16", INT8)
TRAFFIC = bursts(0.3, 1.5, 900, every_s=300, burst_s=60, lengths=Lengths(300, 120, 0.5), seed=4)


def ask(**limits: float) -> Recommendation:
    return recommend(V100, traffic=TRAFFIC, objective=Objective(**limits), gpus=3)


@pytest.fixture(scope="module")
def loose() -> Recommendation:
    return ask(ttft_p95_s=120.0)


@pytest.fixture(scope="module")
def tight() -> Recommendation:
    return ask(ttft_p95_s=1.5)


def test_the_objective_is_kept_at_the_least_cost(tight: Recommendation) -> None:
    objective = Objective(ttft_p95_s=1.5)
    assert tight.chosen.misses(objective) == []
    good = [each for each in tight.candidates if not each.misses(objective)]
    assert tight.chosen.cost_per_hour == min(each.cost_per_hour for each in good)


def test_a_tighter_objective_costs_no_less(loose: Recommendation, tight: Recommendation) -> None:
    assert loose.chosen.cost_per_hour <= tight.chosen.cost_per_hour


def test_the_front_is_not_beaten(loose: Recommendation) -> None:
    assert loose.front == pareto(loose.candidates)
    for winner in loose.front:
        assert not any(
            other.cost_per_hour <= winner.cost_per_hour and other.ttft_p95_s < winner.ttft_p95_s
            for other in loose.candidates
        )


def test_settings_are_complete_valid_and_have_reasons(tight: Recommendation) -> None:
    spec = parse_spec(tight.annotations, container_concurrency=tight.container_concurrency)
    assert spec == tight.spec
    assert spec.progress_deadline_s == 1800
    assert tight.timeout_seconds == 600
    explained = " ".join(reason.setting for reason in tight.reasons)
    for key in tight.annotations:
        name = key.rpartition("/")[2]
        assert name in explained or name == "target-utilization-percentage"
    assert all(reason.why for reason in tight.reasons)
    assert tight.next_best_costs


def test_the_same_question_has_the_same_answer(loose: Recommendation) -> None:
    assert ask(ttft_p95_s=120.0) == loose


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"ttft_p95_s": 0.001}, "ttft_p95_s"),
        ({"tpot_p95_s": 0.001}, "tpot_p95_s"),
        ({"cost_per_hour": 0.0001}, "objective"),
        ({"ttft_p95_s": 0.0}, "ttft_p95_s"),
        ({"cost_per_hour": float("nan")}, "cost_per_hour"),
        ({"failed_share": 1.0}, "failed_share"),
    ],
)
def test_an_impossible_objective_is_refused_by_name(limits: dict[str, float], name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ask(**limits)
    assert caught.value.name == name


def test_no_gpu_is_refused() -> None:
    with pytest.raises(InvalidValue, match="gpus"):
        recommend(V100, traffic=TRAFFIC, objective=Objective(), gpus=0)


def test_clients_and_prices_are_taken_too() -> None:
    got = recommend(
        VllmServer("A10", INT8),
        traffic=ClosedLoop(((0.0, 2), (120.0, 6)), Lengths(200, 60)),
        objective=Objective(cost_per_hour=100.0),
        environment=Environment(price_per_gpu_hour=10.0),
        gpus=2,
        duration_s=240,
    )
    assert 0 < got.chosen.cost_per_hour <= 100

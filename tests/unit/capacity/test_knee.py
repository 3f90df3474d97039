"""How many requests a pod should carry: where goodput stops rising, for every kind of limit."""

from __future__ import annotations

import pytest

from qwenkit.capacity.band import Band, basis
from qwenkit.capacity.search.autoscalers import scaling_by
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.search.load import Load, suggested_load
from qwenkit.capacity.search.recommend import recommend
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths, poisson
from qwenkit.errors import InvalidValue

INT8 = "Qwen-7B-Chat-Int8"
CHAT = Lengths(256, 128)


def load(gpu: str, model: str, lengths: Lengths = CHAT, most: int = 256, **limits: float) -> Load:
    server = VllmServer(gpu, model, max_num_seqs=most)
    return suggested_load(server, lengths, objective=Objective(**limits))


@pytest.mark.parametrize(
    ("gpu", "model", "limits", "bound", "total"),
    [
        ("A100-80", INT8, {"most": 12}, "GPU's speed", (7, 8)),
        ("V100-16", INT8, {}, "KV cache", (25, 33)),
        ("V100-16", INT8, {"tpot_p95_s": 0.05}, "TPOT objective", (8, 8)),
        ("H100", "Qwen2.5-7B-Instruct", {"most": 16}, "server's --max-num-seqs", (15, 16)),
        ("H100", "Qwen2.5-7B-Instruct", {}, "server's --max-num-seqs", (60, 250)),
        ("A100-80", "Qwen2.5-7B-Instruct", {"tpot_p95_s": 0.02}, "TPOT objective", (10, 60)),
        ("V100-16", INT8, {"ttft_p95_s": 0.2, "tpot_p95_s": 1}, "TTFT objective", (2, 30)),
    ],
)
def test_the_knee_and_its_bound(
    gpu: str, model: str, limits: dict[str, float], bound: str, total: tuple[int, int]
) -> None:
    got = load(gpu, model, **limits)
    assert got.bound == bound
    assert total[0] <= got.total <= total[1]


def test_published_throughput_is_possible() -> None:
    """vLLM's pull request 2330: an A100 served 7.4 (8 bits) and 9.2 (fp16) requests a second."""
    chat = Lengths(220, 230)
    for model, per_s in ((INT8, 7.38), ("Qwen-7B-Chat", 9.24)):
        got = load("A100-80", model, chat)
        assert got.total > 100
        assert got.per_s.value == pytest.approx(per_s, rel=0.25)
        assert got.per_s.low < per_s < got.per_s.high


def test_a_batch_beyond_a_slower_one_is_found() -> None:
    """ExLlama is slower with 9 rows than with 8; nobody climbs over that step by step."""
    answered = [load("A100-80", INT8, most=most).per_s.value for most in (8, 9, 64)]
    assert answered[1] <= answered[0] < answered[2]
    assert load("A100-80", INT8, most=12).total <= 8
    assert load("A100-80", INT8, most=64).total > 24


@pytest.mark.parametrize(("gpu", "mixed"), [("V100-16", None), ("A100-80", None), ("H100", 8192)])
def test_what_a_load_answers_is_what_its_simulation_answers(gpu: str, mixed: int | None) -> None:
    server = VllmServer(gpu, INT8, batched_tokens=mixed)
    got = suggested_load(server, CHAT)
    round_s = got.total / got.per_s.value
    one_by_one = [(each * round_s / got.total, each + 1) for each in range(got.total)]
    traffic = ClosedLoop((*one_by_one, (8 * round_s, 0)), CHAT)
    fixed, there = scaling_by("fixed fleet", 1, max_replicas=1), Environment(initial_ready=1)
    done = simulate(fixed, traffic, server, environment=there, duration_s=9 * round_s).requests
    ends = [at + latency for at, latency in zip(done.at, done.latency_s, strict=True)]
    per_s = sum(3 * round_s <= end < 7 * round_s for end in ends) / (4 * round_s)
    assert got.per_s.value == pytest.approx(per_s, rel=0.1)


def test_an_impossible_load_is_refused_by_name() -> None:
    for lengths, limits, name in (
        (Lengths(20_000, 10), {}, "lengths"),
        (CHAT, {"tpot_p95_s": 0.001}, "tpot_p95_s"),
        (CHAT, {"ttft_p95_s": 0.001}, "ttft_p95_s"),
    ):
        with pytest.raises(InvalidValue) as caught:
            load("T4", INT8, lengths, **limits)
        assert caught.value.name == name


def test_another_clock_scales_all_times() -> None:
    server = VllmServer("V100-16", INT8)
    quick = server.at(10)
    assert server.time.decode(5, 300) == pytest.approx(10 * quick.time.decode(5, 300))
    assert suggested_load(quick, CHAT).total == suggested_load(server, CHAT).total
    slow, fast = server.edges()
    assert slow.prefill(999) > server.prefill(999) > fast.prefill(999)


def test_a_decision_that_flips_inside_the_band_says_so() -> None:
    server, traffic = VllmServer("V100-16", INT8), poisson(1.2, 300, lengths=CHAT, seed=4)
    got = recommend(server, traffic=traffic, objective=Objective(tpot_p95_s=0.05), gpus=3)
    assert any("at the slow edge of the band a pod should carry" in each for each in got.doubts)
    few = ClosedLoop(((0.0, 2), (120.0, 0)), Lengths(200, 60))
    sure = recommend(server, traffic=few, objective=Objective(ttft_p95_s=600), gpus=1)
    assert sure.doubts == ()


def test_what_nobody_measured_is_called_unmeasured() -> None:
    assert "unmeasured" in basis(VllmServer("V100-16", INT8).time)
    assert "qwenkit calibrate" in basis(VllmServer("T4", INT8).time)
    assert "unmeasured" not in basis(VllmServer("H100", "Qwen2.5-7B-Instruct").time)


@pytest.mark.parametrize(
    ("band", "unit", "text"),
    [
        (Band.around(0.0744, 0.4), "s", "about 70 ms (40 to 100)"),
        (Band.around(0.018, 0.25), "s", "about 18 ms (13 to 22)"),
        (Band.around(96.6, 0.5), "ms", "about 100 ms (50 to 140)"),
        (Band.around(150, 0.08), "tokens/s", "about 150 tokens/s (140 to 160)"),
        (Band.over(1.9, 0.3, 4.1), "s", "about 1.9 s (0.3 to 4)"),
        (Band.over(2, 3), "", "about 2 (2 to 3)"),
        (Band(1234, 1234, 1234), "", "1,234"),
        (Band.over(1.41072, 1.4109), "s", "1.41 s"),
        (Band.over(75.3, 75.1), "CNY", "75.3 CNY"),
        (Band.over(5, float("inf")), "s", "at least 5 s"),
        (Band(0, 0, 0), "", "0"),
    ],
)
def test_a_figure_shows_the_digits_that_its_band_allows(band: Band, unit: str, text: str) -> None:
    assert band.text(unit) == text

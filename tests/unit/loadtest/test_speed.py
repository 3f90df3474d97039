from __future__ import annotations

import pytest

from qwenkit.inference.results import LoadRequest
from qwenkit.loadtest.speed import figures_of


def request(number: int, sent_s: float, first_s: float, step_s: float = 0.1) -> LoadRequest:
    times = [first_s + step_s * n for n in range(30)]
    return LoadRequest(
        number=number,
        scheduled_s=sent_s,
        sent_s=sent_s,
        first_byte_s=first_s,
        first_s=first_s,
        last_s=times[-1],
        end_s=times[-1] + 0.001,
        token_s=times,
        status=200,
        outcome="ok",
        why="",
        prompt_tokens=100,
        tokens=30,
    )


def test_only_steps_count_in_which_no_prompt_is_read() -> None:
    one, other = request(0, 0.0, 1.0), request(1, 0.0, 1.5)
    found = figures_of([one, other], clock=10)
    (step,) = found["decode"]  # of the other alone there are too few
    assert step["batch"] == 2
    assert step["tpot_s"] == pytest.approx(1.0)  # the modelled GPU's, ten times as long
    assert 100 < step["context_tokens"] < 130
    assert found["prefill_s"] == {}
    assert found["closed"] == []
    late = request(1, 2.0, 3.9)
    assert [one["batch"] for one in figures_of([one, late], 1)["decode"]] == [1]


def test_a_prompt_counts_that_had_the_server_to_itself_less_the_way() -> None:
    requests = [request(n, 4.0 * n, 4.0 * n + 0.5) for n in range(4)]
    found = figures_of(requests, 1, way_s=0.1)
    assert found["prefill_s"] == {"100": pytest.approx(0.4)}
    assert [one["batch"] for one in found["decode"]] == [1]


def test_a_closed_loop_is_recognised() -> None:
    requests = [request(n, 4.0 * (n // 2), 4.0 * (n // 2) + 0.2, 0.13) for n in range(8)]
    (loop,) = figures_of(requests, 1)["closed"]
    assert (loop["clients"], loop["finished"], loop["seconds"]) == (2, 6, 12.0)
    assert loop["ttft_p50_s"] == pytest.approx(0.2)
    assert loop["latency_mean_s"] == pytest.approx(0.2 + 29 * 0.13 + 0.001)
    assert loop["tokens_per_s"] == pytest.approx(6 * 30 / 12)
    open_loop = [request(n, n**1.5, n**1.5 + 0.2, 0.13) for n in range(8)]
    assert figures_of(open_loop, 1)["closed"] == []

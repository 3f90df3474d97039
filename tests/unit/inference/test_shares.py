"""A load by several workers is the load of one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_server import HOST, Vllm, serving

from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, Lengths, OpenLoop
from qwenkit.errors import InvalidValue, QwenkitError, WaitTimeout
from qwenkit.inference.client import Server
from qwenkit.inference.load import shares
from qwenkit.inference.load.shares import LoadPlan, merged, run_share


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(Vllm()) as url:
        yield Server(url, HOST, model="qwen", timeout_s=10)


def a_plan(count: int = 5, workers: int = 2, **more: object) -> LoadPlan:
    traffic = OpenLoop(tuple(Arrival(round(0.02 * n, 6), 9, 3) for n in range(count)))
    usual = {"model": "qwen", "timeout_s": 10.0, "at": time.time()}
    return LoadPlan(**{"traffic": traffic, "workers": workers, **usual, **more})  # type: ignore[arg-type]


def logs(plan: LoadPlan, server: Server) -> list[str]:
    """Return the workers' logs; one begins when the one before has ended."""
    return [
        "\n".join(["a warning", *run_share(replace(plan, at=time.time()), index, server)])
        for index in range(plan.workers)
    ]


_COUNT = st.integers(1, 40)


@given(count=_COUNT, workers=_COUNT, seed=st.integers(0, 9))
def test_open_loops_are_dealt_out_and_clients_divided(count: int, workers: int, seed: int) -> None:
    plan = a_plan(count, workers, seed=seed, request={"prompt": "西湖", "seconds": None})
    closed = replace(plan, traffic=ClosedLoop(((0, count), (5, 0)), Lengths(9, 3, 0.5)))
    for one in (plan, closed):
        assert LoadPlan.of(one.words()) == one
        if workers > count:
            with pytest.raises(InvalidValue, match="each needs a client, or a request"):
                one.share(0)
    if workers > count:
        return
    dealt = [plan.share(index).arrivals for index in range(workers)]
    assert sorted(one for some in dealt for one in some) == sorted(plan.traffic.arrivals)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    shares = [closed.share(index) for index in range(workers)]
    assert sum(share.clients(0) for share in shares) == count
    assert {share.end_s for share in shares} == {5}


def test_the_workers_records_become_one_load_on_one_axis(server: Server) -> None:
    plan = a_plan(request={"prompt": "x", "max_tokens": 3})
    before = time.monotonic() + plan.at - time.time()
    result = merged(plan, logs(plan, server))
    assert [one.number for one in result.requests] == list(range(5))
    assert result.summary()["ok"] == 5
    assert result.summary()["tokens"] == 15
    assert result.traffic is plan.traffic
    assert result.began == pytest.approx(before, abs=1)
    for one in result.requests:
        assert 0 <= one.scheduled_s <= one.sent_s <= one.token_s[0] <= one.token_s[-1]
        assert one.token_s[-1] <= one.end_s + 1e-4 <= result.seconds + 2e-4
        assert one.first_s == pytest.approx(one.token_s[0], abs=1e-4)
    # The second worker began when the first had sent its last request, and this one is its last.
    assert result.requests[-1].scheduled_s >= 0.08 + 0.06


def test_a_worker_that_is_late_refuses(server: Server) -> None:
    with pytest.raises(WaitTimeout, match=r"worker 1 is .* s late") as refused:
        next(run_share(a_plan(at=time.time() - 2), 1, server))
    assert "--start-in" in refused.value.fix
    with pytest.raises(InvalidValue, match="JOB_COMPLETION_INDEX"):
        next(run_share(a_plan(), 2, server))


def test_a_log_that_was_cut_is_no_result(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_BATCH", 2)
    plan = a_plan(3, 1)
    (whole,) = logs(plan, server)
    lines = whole.splitlines()
    packed = json.loads(lines[1])["load"]
    assert len(merged(plan, [whole]).requests) == 3
    for log in (
        "",
        "\n".join(lines[2:]),
        "\n".join(lines[:2]),
        whole.replace(packed, packed[:-8]),
        whole.replace(packed, "AAAA"),
        '{"load": 7}',
        '{"worker": 0, "requests": 0, "load": 7}',
    ):
        with pytest.raises(QwenkitError, match="a worker's log cannot be read"):
            merged(plan, [log])
    with pytest.raises(QwenkitError, match="1 of 2 workers"):
        merged(replace(plan, workers=2), [whole])


@pytest.mark.parametrize("words", [[], ["x"], ["eJw="], ["e30="], ["eJyrrgUAAXUA-Q=="]])
def test_what_is_no_plan_is_refused(words: list[str]) -> None:
    with pytest.raises(InvalidValue, match="cannot be read"):
        LoadPlan.of(words)


def test_a_plan_has_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_WORD", 64)
    assert len(a_plan(40).words()) > 1
    with pytest.raises(InvalidValue, match="too long for one Job"):
        a_plan(400, seed=7).words()

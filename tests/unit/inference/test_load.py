from __future__ import annotations

import _thread
import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from inference_server import HOST, Vllm, serving
from places import DATA
from servers import Servers

from qwenkit.capacity.simulation.result import nearest_rank
from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, OpenLoop
from qwenkit.errors import InvalidValue, QwenkitError, Unreachable
from qwenkit.inference.client import Server
from qwenkit.inference.load import engine
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadRequest, LoadResult, percentiles
from qwenkit.sandbox.http import listen


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
def server(vllm: Vllm) -> Iterator[Server]:
    with serving(vllm) as url:
        yield Server(url, HOST, model="qwen", timeout_s=10)


def short(server: Server, clients: int = 3, seconds: float = 0.3, **more: float) -> LoadResult:
    traffic = ClosedLoop(((0, clients),))
    return start_load(server, traffic, seconds=seconds, prompt="x", max_tokens=3, **more).result()


def one(**more: object) -> LoadRequest:
    times = {"scheduled_s": 1.0, "sent_s": 1.0, "first_byte_s": 1.2, "first_s": 1.5}
    times |= {"last_s": 1.5, "end_s": 2.0, "token_s": (1.5,)}
    usual = {"number": 0, "status": 200, "outcome": "ok", "why": "", "prompt_tokens": 9}
    return LoadRequest(**{"tokens": 1, **usual, **times, **more})


def test_every_request_is_measured(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.01
    result = short(server)
    assert len(result.requests) == len(vllm.bodies) > 3
    assert vllm.most_at_once == 3
    for one in result.requests:
        assert (one.outcome, one.why, one.tokens) == ("ok", "", 3)
        assert one.first_s is not None
        assert (
            one.scheduled_s <= one.sent_s < one.first_byte_s < one.first_s < one.last_s <= one.end_s
        )
        assert one.ttft_s is not None
        assert 0 < one.ttft_s < one.latency_s
        assert one.tpot_s == pytest.approx((one.last_s - one.first_s) / 2)
    starts = [one.sent_s for one in result.requests]
    assert starts == sorted(starts)
    assert starts[-1] < 0.3
    assert vllm.bodies[0]["stream"] is True
    assert vllm.bodies[0]["max_tokens"] == 3


def test_a_client_waits_for_its_answer(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.02
    result = short(server, clients=1)
    ends = [one.end_s for one in result.requests]
    assert all(end <= later.sent_s for end, later in zip(ends, result.requests[1:], strict=False))


def test_the_summary_adds_up(server: Server) -> None:
    summary = short(server).summary()
    assert summary["requests"] == summary["ok"]
    assert summary["errors"] == {}
    assert summary["tokens"] == 3 * summary["ok"]
    for name in ("ttft_s", "tpot_s", "latency_s"):
        assert summary[name]["p50"] <= summary[name]["p95"] <= summary[name]["p99"]
    assert summary["tokens_per_second"] == pytest.approx(3 * summary["requests_per_second"], 0.01)


def test_failures_are_counted_by_kind(server: Server, vllm: Vllm) -> None:
    vllm.status = 404
    result = short(server, clients=2, seconds=0.1)
    assert result.summary()["errors"] == {"http 404": len(result.requests)}
    # A closed door is not hammered on: each client tried once in so short a time.
    assert len(result.requests) == 2
    assert result.summary()["ttft_s"] == {}


def test_no_connection_and_a_timeout(server: Server, vllm: Vllm) -> None:
    with serving(Vllm()) as gone:
        pass
    lost = Server(gone, HOST, model="qwen", timeout_s=5)
    assert short(lost, clients=1, seconds=0.1).summary()["errors"] == {"no connection": 1}
    vllm.hang = True
    impatient = Server(server.gateway, HOST, model="qwen", timeout_s=0.2)
    assert short(impatient, clients=1, seconds=0.1).summary()["errors"] == {"timeout": 1}


def test_what_runs_too_long_is_given_up_and_counted(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.15  # each piece in time, the whole answer not
    server.timeout_s = 0.2
    result = short(server, clients=2, seconds=0.1)
    assert result.summary()["errors"] == {"timeout": 2}


def test_an_interrupt_returns_what_was_measured(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.01

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while len(vllm.bodies) < 10 and time.monotonic() < deadline:
            time.sleep(0.005)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    result = short(server, seconds=600)
    assert result.seconds < 300
    summary = result.summary()
    assert summary["ok"] >= 5
    assert summary["errors"] == {}
    assert summary["cancelled"] >= 1
    assert summary["requests"] == summary["ok"] + summary["cancelled"]


def test_it_runs_where_a_loop_is_running_already(server: Server) -> None:
    async def cell() -> LoadResult:
        return short(server, clients=1, seconds=0.05)

    assert asyncio.run(cell()).summary()["ok"] >= 1


@pytest.mark.parametrize(
    ("clients", "seconds"), [(0, 1), (1, 0), (1, float("inf")), (1, float("nan"))]
)
def test_no_load_is_refused(clients: int, seconds: float) -> None:
    server = Server("http://127.0.0.1:9", HOST, model="qwen")
    with pytest.raises(InvalidValue):
        short(server, clients=clients, seconds=seconds)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_the_nearest_rank_is_a_value_that_enough_do_not_exceed(
    values: list[float], rank: float
) -> None:
    ordered = sorted(values)
    found = nearest_rank(ordered, rank)
    assert found in values
    assert sum(value <= found for value in values) >= rank / 100 * len(values) - 1e-9
    assert percentiles(values)["p99"] <= round(ordered[-1], 4)


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    single = one()
    assert (single.ttft_s, single.tpot_s, single.latency_s) == (0.5, None, 1.0)


def test_an_open_loop_sends_when_due_and_counts_from_then(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.05
    traffic = OpenLoop(tuple(Arrival(0.02 * n, 20, 3) for n in range(10)))
    result = start_load(server, traffic, warm_up=2, seed=1).result()
    assert vllm.most_at_once > 3  # nobody waits for an answer
    assert len(vllm.bodies) == 12
    assert len({each["X-Request-ID"] for each in vllm.headers}) == 12
    assert [one.scheduled_s for one in result.requests] == [a.at for a in traffic.arrivals]
    assert all(one.sent_s >= one.scheduled_s for one in result.requests)
    assert {body["max_tokens"] for body in vllm.bodies} == {3}
    asked = [body["messages"][0]["content"] for body in vllm.bodies]
    assert {len(words.split()) for words in asked} == {10}
    assert len(set(asked)) == 12
    assert result.summary()["clients"] is None
    assert {one.prompt_tokens for one in result.requests} == {10}


def test_a_closed_loop_keeps_to_its_schedule(server: Server, vllm: Vllm) -> None:
    vllm.delay_s = 0.01
    running = start_load(server, ClosedLoop(((0, 1), (0.1, 4), (0.3, 0))), prompt="x")
    result = running.result()
    early = [one for one in result.requests if one.sent_s < 0.1]
    assert all(a.end_s <= b.sent_s for a, b in pairwise(early))
    assert vllm.most_at_once == 4
    assert all(one.sent_s < 0.3 for one in result.requests)
    assert running.done
    assert result.summary()["clients"] == 4


def test_what_is_stopped_is_counted_as_cancelled(server: Server, vllm: Vllm) -> None:
    vllm.hang = True
    running = start_load(server, ClosedLoop(((0, 5), (600, 0))), prompt="x")
    while len(vllm.bodies) < 5:
        time.sleep(0.005)
    now = running.snapshot()
    assert (now.sent, now.running, now.ok, running.done) == (5, 5, 0, False)
    running.stop()
    summary = running.result().summary()
    assert (summary["requests"], summary["cancelled"]) == (5, 5)
    assert summary["ended_early"] == "ended early: it was stopped"
    assert running.snapshot().running == 0


def test_a_hopeless_load_ends_early_and_says_why(
    server: Server, vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_HOPELESS_S", 0.1)
    vllm.status = 503
    traffic = OpenLoop(tuple(Arrival(0.02 * n, 9, 3) for n in range(30_000)))
    result = start_load(server, traffic).result()
    summary = result.summary()
    assert summary["requests"] == summary["failed"] + summary["cancelled"] < 1000
    assert "answers were all failures" in summary["ended_early"]
    assert f"{summary['failed']} × http 503: no pod answers" in str(result)


def test_a_fault_of_the_engine_leaves_nothing_uncounted(
    server: Server, vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bodies: object, arrival: Arrival) -> bytes:
        if len(vllm.bodies) == 2:
            raise MemoryError("as an example")
        return made(bodies, arrival)

    made = engine.Bodies.make
    monkeypatch.setattr(engine.Bodies, "make", fail)
    vllm.hang = True
    traffic = OpenLoop(tuple(Arrival(0.05 * n, 9, 3) for n in range(100)))
    running = start_load(server, traffic)
    with pytest.raises(QwenkitError, match="broke off") as caught:
        running.result()
    assert caught.value.why == "MemoryError: as an example"
    now = running.snapshot()
    assert now.sent == now.cancelled >= 2
    assert now.running == 0


def test_a_load_that_sends_nothing_is_no_success(server: Server) -> None:
    for late in (OpenLoop((Arrival(5.0, 9, 3),)), ClosedLoop(((0, 0), (5, 1), (9, 0)))):
        with pytest.raises(QwenkitError, match="sent no request") as caught:
            start_load(server, late, seconds=0.1).result()
        assert caught.value.exit_code == 1


def test_token_times_are_bounded_and_their_absence_changes_no_figure(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MOST_TOKEN_TIMES", 5)
    result = start_load(server, OpenLoop(tuple(Arrival(0.05 * n, 9, 3) for n in range(4)))).result()
    assert [len(one.token_s) for one in result.requests] == [3, 3, 0, 0]
    assert all(one.tpot_s is not None and one.first_s is not None for one in result.requests)


def test_goodput_counts_what_met_every_limit() -> None:
    fast, slow = one(), one(first_s=3.0, end_s=9.0)
    thick = one(tokens=3, last_s=3.5)
    failed = one(outcome="failed", why="cut")
    result = LoadResult((fast, slow, thick, failed), 10.0, began=0.0)
    assert "goodput" not in result.summary()
    met = result.summary(ttft_slo_s=0.6)["goodput"]
    assert met == {"requests_per_second": 0.2, "share": 0.5}
    assert result.summary(ttft_slo_s=0.6, tpot_slo_s=0.5)["goodput"]["share"] == 0.25


def test_the_figures_are_those_of_vllm_bench() -> None:
    """Medians of odd numbers of values, where its interpolation gives the same."""
    recorded = json.loads((DATA / "vllm-bench.json").read_text("utf-8"))["metrics"]
    requests = []
    for asked in recorded["requests"]:
        start, first = asked["start_s"], asked["start_s"] + asked["ttft_s"]
        times = [*accumulate(asked["itl_s"], initial=first)]
        requests.append(
            one(
                scheduled_s=start,
                sent_s=start,
                first_s=first,
                last_s=times[-1],
                end_s=times[-1],
                token_s=times,
                tokens=asked["tokens"],
                outcome="ok" if asked["ok"] else "failed",
            )
        )
    summary = LoadResult(tuple(requests), 8.0, began=0.0).summary(ttft_slo_s=0.5, tpot_slo_s=0.04)
    made = recorded["made"]
    assert (summary["ok"], summary["failed"]) == (made["completed"], made["failed"])
    assert summary["tokens"] == made["total_output"]
    assert summary["requests_per_second"] == made["request_throughput"]
    assert summary["tokens_per_second"] == made["output_throughput"]
    assert summary["goodput"]["requests_per_second"] == made["request_goodput"]
    for name in ("ttft", "tpot", "itl"):
        assert summary[f"{name}_s"]["p50"] == pytest.approx(
            made[f"median_{name}_ms"] / 1e3, abs=1e-4
        )


def test_a_gateway_that_restarts_costs_only_what_it_carried(vllm: Vllm) -> None:
    vllm.delay_s = 0.02
    with serving(vllm) as url:
        server = Server(url, HOST, model="qwen", timeout_s=10)
        traffic = OpenLoop(tuple(Arrival(0.01 * n, 9, 3) for n in range(6000)))
        running = start_load(server, traffic)
        while running.snapshot().ok < 10:
            time.sleep(0.005)
    while "no connection" not in running.snapshot().errors:
        time.sleep(0.005)
    before = running.snapshot().ok
    with serving(Vllm(), port=int(url.rpartition(":")[2])):
        while running.snapshot().ok < before + 5:
            time.sleep(0.005)
        running.stop()
        summary = running.result().summary()
    sent = summary["ok"] + summary["failed"] + summary["cancelled"]
    assert before + 5 <= summary["ok"] < sent == summary["requests"]
    assert set(summary["errors"]) <= {"cut", "no connection"}


def test_https_wants_an_authority_and_says_which_variable_names_it(
    vllm: Vllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, trusting = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(trusting)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    servers = Servers()
    listening = servers.call(listen(vllm.app(), tls=trusting))
    stranger, friend = (Server(str(listening.url), HOST, model="qwen") for _ in "ab")
    with pytest.raises(Unreachable, match="no connection") as caught:
        stranger.ask("x")
    assert "SSL_CERT_FILE" in caught.value.fix
    assert set(short(stranger, clients=1, seconds=0.05).summary()["errors"]) == {"no connection"}
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert friend.ask("x").text == "西湖位于杭州"
    assert short(friend, clients=1, seconds=0.05).summary()["errors"] == {}
    for each in (stranger, friend):
        each.close()
    servers.call(listening.close())
    servers.close()

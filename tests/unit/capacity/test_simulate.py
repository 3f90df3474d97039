"""The closed loop in virtual time: what must hold for any settings, and known timelines."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import Decider
from qwenkit.capacity.simulation.dataplane import ActivatorStats, sample_size
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.capacity.simulation.server import FixedServer, SimulatedServer, VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import (
    Arrival,
    ClosedLoop,
    Lengths,
    OpenLoop,
    bursts,
    poisson,
)
from qwenkit.errors import InvalidValue

QUICK = 10.0
SERIES = ("arrivals", "clients", "concurrency", "queue", "desired", "ready", "starting")
V100 = VllmServer("V100-16", "Qwen-7B-Chat-Int8")


def course(**keys: str) -> ScalingSpec:
    annotations = {PREFIX + "target": "2", PREFIX + "max-scale": "3"}
    annotations |= {PREFIX + key.replace("_", "-"): value for key, value in keys.items()}
    return parse_spec(annotations)


def clients(*schedule: tuple[float, int]) -> ClosedLoop:
    return ClosedLoop(tuple(schedule))


def one(at: float = 0.0, prompt: int = 100, output: int = 51) -> OpenLoop:
    return OpenLoop((Arrival(at, prompt, output),))


def test_from_zero_the_first_request_waits_for_the_cold_start() -> None:
    result = simulate(
        course(),
        one(5.0),
        FixedServer(2.0),
        environment=Environment(startup_s=QUICK),
        duration_s=120,
    )
    assert result.ready[5] == 0
    assert result.starting[6] == 1
    assert list(result.requests.latency_s) == pytest.approx([12.0])
    assert result.decisions[0].t == 5.0  # the poke, not the next tick
    assert result.ready[16] == 1
    assert result.ready[-1] == 0


def test_scale_to_zero_in_proxy_and_in_serve_mode() -> None:
    zero = {}
    for burst in ("211", "0", "-1"):
        result = simulate(
            course(target_burst_capacity=burst),
            clients((0, 1), (40, 0)),
            FixedServer(1.0),
            environment=Environment(startup_s=QUICK, initial_ready=1),
            duration_s=200,
        )
        zero[burst] = result.ready.index(0)
    assert zero["211"] == pytest.approx(40 + 62, abs=3)
    assert zero["0"] == pytest.approx(40 + 60 + 30, abs=4)
    assert zero["-1"] == pytest.approx(40 + 62, abs=3)


def test_without_scraping_the_fleet_stays_and_falls_at_once() -> None:
    falls = {}
    for burst in ("0", "-1"):
        result = simulate(
            parse_spec({PREFIX + "target": "8", PREFIX + "target-burst-capacity": burst}),
            clients((0, 20), (200, 0)),
            FixedServer(1.0),
            environment=Environment(startup_s=QUICK, initial_ready=4),
            duration_s=300,
        )
        falls[burst] = [
            next(t for t in result.t if t > 150 and result.desired[t] <= pods)
            for pods in (3, 2, 1, 0)
        ]
    assert falls["0"] == pytest.approx([210, 226, 244, 260], abs=3)
    assert falls["-1"] == pytest.approx([254, 258, 260, 262], abs=3)


def test_gpus_held_by_draining_pods_delay_new_ones() -> None:
    ready_at = {}
    for gpus in (2, 1):
        result = simulate(
            course(window="6s", max_scale="1", target_utilization_percentage="100"),
            clients((0, 1), (20, 0), (40, 1)),
            FixedServer(1.0),
            environment=Environment(startup_s=QUICK, initial_ready=1, drain_s=30, gpus=gpus),
            duration_s=100,
        )
        gone = result.ready.index(0)
        assert 26 <= gone <= 32
        ready_at[gpus] = result.ready.index(1, 40)
    assert ready_at[2] == pytest.approx(50, abs=2)
    assert ready_at[1] == pytest.approx(gone + 30 + 10, abs=2)


def test_max_scale_is_named_in_the_reason() -> None:
    result = simulate(
        course(),
        clients((0, 9)),
        FixedServer(3.0),
        environment=Environment(startup_s=QUICK),
        duration_s=60,
    )
    reasons = [tick.reason for tick in result.decisions]
    assert any(reason.startswith("panic: 6 s mean concurrency") for reason in reasons)
    assert reasons[-1].endswith("held at 3 by max-scale")
    assert {tick.replicas for tick in result.decisions[5:]} == {3}


@pytest.mark.parametrize(("total", "first_byte", "at"), [(60.0, 20.0, 20.0), (25.0, 60.0, 25.0)])
def test_timeouts_end_waiting_requests(total: float, first_byte: float, at: float) -> None:
    environment = Environment(timeout_s=total, response_start_timeout_s=first_byte)
    result = simulate(course(), one(), FixedServer(2.0), environment=environment, duration_s=100)
    assert list(result.requests.status) == [504]
    assert result.requests.latency_s[0] == pytest.approx(at, abs=1)
    assert result.requests.failed(504) == 1


def test_total_timeout_cuts_a_running_request_and_first_byte_does_not() -> None:
    environment = Environment(initial_ready=1, timeout_s=5, response_start_timeout_s=3)
    slow = one(output=1000)
    cut = simulate(course(), slow, V100, environment=environment, duration_s=60)
    assert list(cut.requests.status) == [504]
    assert cut.requests.latency_s[0] == pytest.approx(5, abs=1)


def test_hard_limit_queues_and_overflows() -> None:
    spec = parse_spec(
        {PREFIX + "max-scale": "1", PREFIX + "target-burst-capacity": "0"}, container_concurrency=1
    )
    burst = OpenLoop(tuple(Arrival(5.0, 10, 10) for _ in range(14)))
    result = simulate(
        spec,
        burst,
        FixedServer(2.0),
        environment=Environment(initial_ready=1, startup_s=QUICK),
        duration_s=100,
    )
    assert sorted(result.requests.status) == [200] * 11 + [503] * 3  # 1 running, 10 waiting
    assert max(result.requests.latency_s) == pytest.approx(22.0)
    proxied = parse_spec({PREFIX + "max-scale": "1"}, container_concurrency=1)
    waited = simulate(
        proxied,
        burst,
        FixedServer(2.0),
        environment=Environment(initial_ready=1, startup_s=QUICK),
        duration_s=100,
    )
    assert waited.requests.answered == 14
    assert max(waited.requests.latency_s) == pytest.approx(28.0)


def test_a_single_stream_takes_prefill_and_steps() -> None:
    result = simulate(
        course(), one(1.0, 800, 101), V100, environment=Environment(initial_ready=1), duration_s=60
    )
    prefill = V100.time.prefill(800)
    step = V100.time.decode(1, 800 + 101 / 2)
    assert result.requests.ttft(50) == pytest.approx(prefill)
    assert result.requests.latency(50) == pytest.approx(prefill + 100 * step)
    assert result.requests.tpot(50) == pytest.approx(step)


def test_a_full_kv_cache_makes_requests_wait() -> None:
    long = OpenLoop(tuple(Arrival(1.0, 2700, 500) for _ in range(4)))
    result = simulate(
        parse_spec({PREFIX + "max-scale": "1"}),
        long,
        V100,
        environment=Environment(initial_ready=1),
        duration_s=200,
    )
    assert V100.kv_tokens // 3200 == 3
    assert max(result.queue) == 1
    assert result.requests.answered == 4


def test_activator_subtracts_the_request_that_it_reported_at_once() -> None:
    stats = ActivatorStats()
    assert stats.enter(10.2)
    assert not stats.enter(10.2)
    assert stats.report(11.0) == (pytest.approx(1.0), 1.0)
    stats.leave(11.5)
    assert stats.report(12.0) == (pytest.approx(1.5), 0.0)
    stats.leave(12.0)
    assert stats.report(13.0) == (0.0, 0.0)
    assert not stats.known
    assert stats.enter(13.5)
    stats.leave(13.8)
    assert stats.report(14.0) == (0.0, 0.0)  # 0.6 on average, minus 1, floored
    assert stats.known


@pytest.mark.parametrize(
    ("pods", "sampled"), [(1, 1), (3, 3), (4, 4), (5, 4), (10, 7), (20, 9), (50, 12), (100, 14)]
)
def test_sample_sizes(pods: int, sampled: int) -> None:
    assert sample_size(pods) == sampled


SPECS = st.builds(
    course,
    target=st.sampled_from(["1", "2", "5"]),
    metric=st.sampled_from(["concurrency", "rps"]),
    min_scale=st.sampled_from(["0", "1"]),
    window=st.sampled_from(["6s", "20s", "60s"]),
    scale_down_delay=st.sampled_from(["0s", "20s"]),
    target_burst_capacity=st.sampled_from(["-1", "0", "4", "211"]),
    scale_to_zero_pod_retention_period=st.sampled_from(["0s", "40s"]),
)
SERVERS = st.sampled_from([FixedServer(0.5), FixedServer(7.0), V100])
ENVIRONMENTS = st.builds(
    Environment,
    gpus=st.sampled_from([1, 2, 3, None]),
    startup_s=st.just(QUICK),
    drain_s=st.sampled_from([0.0, 30.0]),
    timeout_s=st.sampled_from([8.0, 600.0]),
    initial_ready=st.sampled_from([0, 1]),
    active_for_s=st.sampled_from([0.0, 20.0, 600.0]),
)
ARRIVALS = st.lists(
    st.tuples(st.floats(0, 300), st.integers(1, 800), st.integers(1, 200)), min_size=1, max_size=25
).map(lambda found: OpenLoop(tuple(Arrival(*each) for each in sorted(found))))
CLIENTS = st.lists(st.tuples(st.floats(0, 200), st.integers(0, 6)), min_size=1, max_size=4).map(
    lambda found: ClosedLoop(tuple(sorted(found)), Lengths(100, 20))
)


def check(result: SimulationResult, spec: ScalingSpec, environment: Environment) -> None:
    seconds = len(result.t)
    assert list(result.t) == list(range(seconds))
    assert all(len(getattr(result, name)) == seconds for name in SERIES)
    for ready, starting in zip(result.ready, result.starting, strict=True):
        assert ready + starting <= spec.max_scale
        assert environment.gpus is None or ready <= environment.gpus
    assert all(low <= high for low, high in zip(result.queue, result.concurrency, strict=True))
    assert sum(result.arrivals) == len(result.requests) + result.unfinished
    assert all(latency >= 0 for latency in result.requests.latency_s)
    assert result.gpu_seconds >= sum(result.ready[1:-1]) - seconds * 1e-6 - 3 * 3
    assert all(tick.reason for tick in result.decisions)


@settings(max_examples=60, deadline=None)
@given(SPECS, st.one_of(ARRIVALS, CLIENTS), SERVERS, ENVIRONMENTS)
def test_whatever_the_settings(
    spec: ScalingSpec,
    traffic: OpenLoop | ClosedLoop,
    server: SimulatedServer,
    environment: Environment,
) -> None:
    result = simulate(spec, traffic, server, environment=environment, duration_s=400, seed=3)
    check(result, spec, environment)
    again = simulate(spec, traffic, server, environment=environment, duration_s=400, seed=3)
    assert again == result


@settings(max_examples=25, deadline=None)
@given(SPECS, ARRIVALS, SERVERS, ENVIRONMENTS)
def test_skipping_idle_seconds_changes_nothing(
    spec: ScalingSpec, traffic: OpenLoop, server: SimulatedServer, environment: Environment
) -> None:
    spread = OpenLoop(tuple(each._replace(at=each.at * 5) for each in traffic.arrivals))
    quick = simulate(spec, spread, server, environment=environment, duration_s=1600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decider, "idle", lambda self, now: False)
        slow = simulate(spec, spread, server, environment=environment, duration_s=1600)
    for name in SERIES:
        assert getattr(quick, name) == getattr(slow, name)
    assert quick.requests == slow.requests
    assert len(quick.decisions) <= len(slow.decisions)


def test_traffic_is_seeded_and_near_its_rate() -> None:
    assert poisson(2, 500, seed=1) == poisson(2, 500, seed=1) != poisson(2, 500, seed=2)
    assert len(poisson(2, 5000).arrivals) == pytest.approx(10_000, rel=0.05)
    quiet = bursts(0.5, 20, 600, every_s=100, burst_s=10)
    busy = sum(each.at % 100 >= 90 for each in quiet.arrivals)
    assert busy == pytest.approx(6 * 200, rel=0.15)
    spread = poisson(5, 2000, lengths=Lengths(200, 100, 0.8))
    tokens = [arrival.output_tokens for arrival in spread.arrivals]
    assert sum(tokens) / len(tokens) == pytest.approx(100, rel=0.1)


def test_impossible_inputs_are_refused_by_name() -> None:
    bad = (
        lambda: OpenLoop(()),
        lambda: OpenLoop((Arrival(-1.0, 1, 1),)),
        lambda: OpenLoop((Arrival(2.0, 1, 1), Arrival(1.0, 1, 1))),
        lambda: OpenLoop((Arrival(1.0, 0, 1),)),
        lambda: ClosedLoop(()),
        lambda: clients((0, -1)),
        lambda: clients((5, 1), (0, 1)),
        lambda: poisson(-1, 10),
        lambda: poisson(math.nan, 10),
        lambda: poisson(1, 0),
        lambda: poisson(1e9, 1e9),
        lambda: poisson(1e-9, 1),
        lambda: bursts(1, -5, 100),
        lambda: Lengths(0, 1),
        lambda: Lengths(1, 1, -1),
        lambda: FixedServer(0),
        lambda: FixedServer(math.inf),
        lambda: VllmServer("T4", "Qwen-7B-Chat"),
        lambda: VllmServer("T5", "Qwen-7B-Chat"),
        lambda: VllmServer("T4", "Qwen-7B-Chat-Int8", max_num_seqs=0),
        lambda: VllmServer("T4", "Qwen-7B-Chat-Int8", clock=0.0),
        lambda: VllmServer("T4", "Qwen-7B-Chat-Int8", clock=math.nan),
        lambda: Environment(startup_s=-1),
        lambda: Environment(gpus=0),
        lambda: Environment(timeout_s=0),
        lambda: Environment(drain_s=math.nan),
        lambda: Environment(initial_ready=-1),
        lambda: simulate(course(), one(), V100, duration_s=0),
        lambda: simulate(course(), one(), V100, duration_s=1e9),
        lambda: simulate(course(), one(), V100, environment=Environment(gpus=1, initial_ready=2)),
    )
    for call in bad:
        with pytest.raises(InvalidValue) as caught:
            call()
        assert caught.value.name


def test_summary_and_percentiles() -> None:
    result = simulate(
        course(),
        clients((0, 2)),
        FixedServer(1.0),
        environment=Environment(initial_ready=1, price_per_gpu_hour=3.6),
        duration_s=100,
    )
    summary = result.summary()
    assert summary["answered"] == result.requests.answered
    assert summary["ttft_p95_s"] == pytest.approx(1.0)
    assert result.cost == pytest.approx(result.gpu_seconds / 1000)
    assert result.gpu_seconds >= 100
    with pytest.raises(InvalidValue, match="percentile"):
        result.requests.ttft(101)
    nothing = simulate(course(), one(), FixedServer(1.0), duration_s=1)
    assert nothing.cost_per_1k_tokens == math.inf
    assert "ttft_p95_s" not in nothing.summary()
    with pytest.raises(InvalidValue, match="answered"):
        nothing.requests.latency(50)

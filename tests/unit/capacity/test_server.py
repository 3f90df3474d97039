"""What a pod's server does to its GPU: the clock, and how busy it is."""

from __future__ import annotations

import pytest

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.environment import Environment
from qwenkit.capacity.server import FixedServer, SimulatedRequest, VllmServer
from qwenkit.capacity.simulate import simulate
from qwenkit.capacity.traffic import Arrival, ClosedLoop, OpenLoop

ONE_POD = parse_spec({PREFIX + "max-scale": "1"})
V100 = VllmServer("V100-16", "Qwen-7B-Chat-Int8")


def test_a_faster_clock_shortens_prefill_and_steps_alone() -> None:
    waits = {}
    for clock in (1.0, 10.0):
        server = VllmServer("V100-16", "Qwen-7B-Chat-Int8", clock=clock)
        assert server.kv_tokens == V100.kv_tokens
        there = Environment(initial_ready=1)
        result = simulate(
            ONE_POD, OpenLoop((Arrival(1.0, 800, 101),)), server, environment=there, duration_s=60
        )
        waits[clock] = result.requests.ttft(50), result.requests.latency(50)
    assert waits[1.0] == pytest.approx([10 * each for each in waits[10.0]])


def test_prompts_that_wait_are_read_together_up_to_a_limit() -> None:
    engine = V100.engine()
    requests = [SimulatedRequest(at, 1000, 10, -1) for at in (0.0, *[0.1] * 7)]
    for request in requests:
        engine.add(request.at, request)
    alone, six, last = (V100.prefill(tokens) for tokens in (1000, 6000, 1000))
    assert [request.first_at for request in requests] == pytest.approx(
        [alone, *[alone + six] * 6, alone + six + last]
    )


def test_a_gpu_is_as_busy_with_one_request_as_with_many() -> None:
    there = Environment(initial_ready=1)
    for server in (V100, FixedServer(1.5)):
        busy = []
        for count in (1, 20):
            load = ClosedLoop(((10, count), (50, 0)))
            result = simulate(ONE_POD, load, server, environment=there)
            busy.append(list(result.gpu_utilization[11:50]))
            assert result.gpu_utilization[9] == 0.0
        assert busy[0] == pytest.approx([1.0] * 39)
        assert busy[1] == pytest.approx(busy[0])
    half = simulate(
        ONE_POD,
        OpenLoop((Arrival(2.25, 100, 51),)),
        FixedServer(1.5),
        environment=there,
        duration_s=5,
    )
    assert list(half.gpu_utilization) == pytest.approx([0, 0, 0, 0.75, 0.75, 0])

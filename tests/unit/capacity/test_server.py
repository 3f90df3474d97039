"""What a pod's server does to its GPU: the clock, and how busy it is."""

from __future__ import annotations

import math

import pytest

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import (
    FixedServer,
    SimulatedRequest,
    SimulatedServer,
    VllmServer,
)
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import Arrival, OpenLoop

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


@pytest.mark.parametrize("server", [V100, FixedServer(1.5)])
@pytest.mark.parametrize("count", [1, 20])
def test_a_gpu_is_as_busy_with_one_request_as_with_many(
    server: SimulatedServer, count: int
) -> None:
    engine = server.engine()
    for _ in range(count):
        engine.add(10.0, SimulatedRequest(10.0, 100, 200, -1))
    assert engine.busy_s(10.0) == 0
    assert engine.busy_s(11.25) == pytest.approx(1.25)
    while engine.next_at < math.inf:
        end = engine.next_at
        engine.finish(end)
    assert engine.busy_s(end + 60) == pytest.approx(end - 10)

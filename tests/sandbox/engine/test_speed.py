"""One time per token: of the plan, of the simulation, and of a stream of the sandbox."""

from __future__ import annotations

import asyncio
from statistics import median

import paced
import pytest
from engine_world import engine
from node_world import client, lake

from qwenkit.autoscaling.annotations import ScalingSpec
from qwenkit.capacity.catalogue import QWEN_7B_INT8
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import ClosedLoop, Lengths

TOKENS = 20


async def streamed(clock: float) -> float:
    """Return the median time per token of a few streams, one after the other."""
    body = lake(stream=True, ignore_eos=True, max_tokens=TOKENS)
    times = []
    async with engine(time_scale=clock) as (_, url), client() as session:
        for _ in range(3):
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                seen = []
                async for line in response.content:
                    if b'"content"' in line:
                        seen.append(asyncio.get_running_loop().time())
            times.append((seen[-1] - seen[0]) / (len(seen) - 1))
    return median(times)


@pytest.mark.parametrize("clock", [1, 10])
def test_plan_lab_and_course_agree_on_the_time_per_token(
    clock: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced, "_TURN_S", 0.0)  # how busy this machine is does not count
    server = VllmServer("V100-16", QWEN_7B_INT8, clock=clock)
    planned = server.at(1).time.decode(1, 10 + TOKENS / 2)
    one = ClosedLoop(((0, 1), (10, 0)), Lengths(10, TOKENS))
    ready = Environment(gpus=1, initial_ready=1)
    result = simulate(ScalingSpec(), one, server, environment=ready, duration_s=20)
    assert result.requests.tpot(50) * clock == pytest.approx(planned, rel=0.1)
    assert paced.run(streamed(clock)) * clock == pytest.approx(planned, rel=0.1)

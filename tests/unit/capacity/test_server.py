"""What a pod's server does to its GPU: the clock, and how busy it is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.capacity.scheduler import ScheduledSequence
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import (
    FixedServer,
    SimulatedRequest,
    SimulatedServer,
    VllmServer,
)
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import Arrival, Lengths, OpenLoop

ONE_POD = parse_spec({PREFIX + "max-scale": "1"})
V100 = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
Arrivals = Sequence[tuple[float, int, int]]


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


def served(server: SimulatedServer, arrivals: Arrivals) -> list[tuple[float, float]]:
    """Return for each request when its first token came, and its last."""
    engine, coming, ends = server.engine(), deque(arrivals), dict[int, float]()
    requests = [SimulatedRequest(*each, number) for number, each in enumerate(arrivals)]
    while coming or engine.next_at < math.inf:
        if coming and coming[0][0] <= engine.next_at:
            request = requests[-len(coming)]
            engine.add(coming.popleft()[0], request)
        else:
            end = engine.next_at
            ends |= {request.client: end for request in engine.finish(end)}
    return [(request.first_at, ends[request.client]) for request in requests]


def stepped(server: VllmServer, arrivals: Arrivals) -> list[tuple[float, float]]:
    """Return the same, with every single step of the scheduler."""
    scheduler, coming, now = server.scheduler(), deque(enumerate(arrivals)), 0.0
    firsts: dict[int, float] = {}
    ends: dict[int, float] = {}
    while len(ends) < len(arrivals):
        while coming and coming[0][1][0] <= now:
            number, (_, prompt, output) = coming.popleft()
            scheduler.add(ScheduledSequence(number, prompt, output))
        step = scheduler.schedule()
        now = now + server.time.of(step) if step.rows else coming[0][1][0]
        for sequence, _ in step.prefills:
            if sequence.end >= 0:
                firsts.setdefault(sequence.name, now)
        ends |= {sequence.name: now for sequence in scheduler.release()}
    return [(firsts[number], ends[number]) for number in range(len(arrivals))]


SERVERS = {
    "0.4.1": V100,
    "0.4.1 eager": VllmServer("V100-16", "Qwen-7B-Chat-Int8", eager=True, max_num_seqs=5),
    "V1": VllmServer("A10", "Qwen2.5-7B-Instruct-AWQ", batched_tokens=512, max_num_seqs=40),
    "V1, no room": VllmServer(
        "A10", "Qwen2.5-7B-Instruct", max_model_len=4096, batched_tokens=2048
    ),
}


@pytest.mark.parametrize("name", SERVERS)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_steps_taken_at_once_take_the_time_of_each(name: str, data: st.DataObject) -> None:
    lengths = st.tuples(st.floats(0, 20), st.integers(1, 1500), st.integers(1, 400))
    each = st.lists(lengths, min_size=1, max_size=60, unique_by=itemgetter(0))
    arrivals = sorted(data.draw(each))
    for one, other in zip(
        served(SERVERS[name], arrivals), stepped(SERVERS[name], arrivals), strict=True
    ):
        assert one == pytest.approx(other)


def test_prompts_that_wait_are_read_together_up_to_a_limit() -> None:
    firsts = [first for first, _ in served(V100, [(0.0, 1000, 10), *[(0.1, 1000, 10)] * 7])]
    alone = V100.prefill(1000)
    six = V100.time.step(6000, 6, 6000, 6 * 1000 * 1001 / 2, prompts=True)
    assert firsts == pytest.approx([alone, *[alone + six] * 6, alone + six + alone])


def test_v1_reads_a_prompt_beside_the_tokens_of_others() -> None:
    firsts = [first for first, _ in served(SERVERS["V1"], [(0.0, 100, 200), (0.5, 1000, 10)])]
    read = SERVERS["V1"].prefill(1000)
    assert 0.5 + read < firsts[1] < 0.5 + 1.5 * read
    _, alone = SERVERS["V1"].alone(Lengths(100, 200))
    (_, beside), _ = served(SERVERS["V1"], [(0.0, 100, 200), (0.5, 1000, 10)])
    assert alone < beside < alone + 1.2 * read


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_longer_than_the_longest_length_is_cut_and_ends(name: str) -> None:
    lengths = [(0.0, 100, 10**6), (0.5, 10**6, 10), (0.6, 300, 20)]
    assert all(end < 2000 for _, end in served(SERVERS[name], lengths))


def test_a_request_that_leaves_makes_room_for_the_next() -> None:
    engine = VllmServer("V100-16", "Qwen-7B-Chat-Int8", max_num_seqs=1).engine()
    gone, waits = (SimulatedRequest(0.0, 100, tokens, 0) for tokens in (5000, 10))
    engine.add(0.0, gone)
    engine.add(0.0, waits)
    engine.remove(3.0, gone)
    while engine.next_at < math.inf:
        assert 3.0 <= engine.next_at < 6.0
        engine.finish(engine.next_at)
    assert 3.0 < waits.first_at < 4.0
    assert engine.waiting == 0


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

"""Steps taken many at once beside steps taken one by one, and sequences that come and go."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.capacity.scheduler import (
    BatchScheduler,
    ScheduledSequence,
    SchedulerLimits,
    Step,
    scheduler_of,
)

RELEASES = ((0, 4, 1), (0, 18, 0), (0, 32, 0))


def seen(scheduler: BatchScheduler) -> tuple[Any, ...]:
    running = [each.name for each in scheduler.running]
    return running, [each.name for each in scheduler.waiting], scheduler.free_blocks


def cost(step: Step) -> tuple[int, ...]:
    return step.rows, step.sequences, step.kv_tokens, step.prefill_tokens, step.prefill_pairs


class Pair:
    """Two schedulers of the same sequences: one jumps, the other takes every step."""

    def __init__(self, release: tuple[int, ...], limits: SchedulerLimits) -> None:
        self.both = [scheduler_of(release, limits) for _ in range(2)]
        self.living: dict[int, list[ScheduledSequence]] = {}
        self.number = 0

    def add(self, prompt: int, answer: float) -> None:
        self.number += 1
        each = [ScheduledSequence(self.number, prompt, answer) for _ in range(2)]
        self.living[self.number] = each
        for scheduler, sequence in zip(self.both, each, strict=True):
            scheduler.add(sequence)

    def drop(self, chosen: int) -> None:
        if self.living:
            name = sorted(self.living)[chosen % len(self.living)]
            for scheduler, sequence in zip(self.both, self.living.pop(name), strict=True):
                scheduler.drop(sequence)

    def go(self, most: float, kept: int) -> None:
        jumping, stepping = self.both
        step = jumping.schedule(most)
        assert 1 <= step.steps <= most
        if step.steps > kept:
            jumping.cut(step, kept)
        for taken in range(step.steps):
            single = stepping.schedule()
            grown = (0, 0, taken * step.sequences, 0, 0)
            assert cost(single) == tuple(map(sum, zip(cost(step), grown, strict=True)))
            if taken:
                assert [*single.prefills, *single.preempted, *single.ignored] == []
        assert seen(jumping) == seen(stepping)
        ended = [sorted(each.name for each in scheduler.release()) for scheduler in self.both]
        assert ended[0] == ended[1]
        for name in (*ended[0], *(each.name for each in step.ignored)):
            del self.living[name]
        assert seen(jumping) == seen(stepping)


LIMITS = st.builds(
    SchedulerLimits,
    block_size=st.sampled_from([1, 4, 16]),
    num_blocks=st.integers(4, 120),
    max_num_seqs=st.integers(1, 8),
    max_num_batched_tokens=st.sampled_from([8, 32, 100]),
    max_model_len=st.just(100),
    chunked_prefill=st.booleans(),
)
COMES = st.tuples(st.integers(1, 60), st.integers(1, 40) | st.just(math.inf))
GOES = st.integers(0, 100)
STEPS = st.tuples(st.integers(1, 60).map(float) | st.just(math.inf), st.integers(1, 60))


@given(
    st.sampled_from(RELEASES),
    LIMITS,
    st.lists(
        st.one_of(
            COMES.map(("add",).__add__),
            STEPS.map(("go",).__add__),
            GOES.map(lambda chosen: ("drop", chosen)),
        ),
        max_size=60,
    ),
)
def test_steps_taken_at_once_are_steps_taken_one_by_one(
    release: tuple[int, ...], limits: SchedulerLimits, events: list[tuple[Any, ...]]
) -> None:
    pair = Pair(release, limits)
    for what, *values in events:
        getattr(pair, what)(*values)
    blocks = pair.both[0].limits.num_blocks - (release >= (0, 8))
    while pair.living:
        pair.drop(0)
    assert seen(pair.both[0]) == ([], [], blocks)


LARGE = SchedulerLimits(16, 100, 8, 512, 1024)


def test_what_a_step_costs_can_be_told_from_it() -> None:
    scheduler = scheduler_of((0, 26), LARGE)
    scheduler.add(ScheduledSequence("a", 600, 3))
    scheduler.add(ScheduledSequence("b", 10, 3))
    first, second, third = (scheduler.schedule() for _ in range(3))
    assert cost(first) == (512, 1, 512, 512, 512 * 513 // 2)
    assert cost(second) == (98, 2, 610, 98, 88 * 512 + 88 * 89 // 2 + 55)
    assert cost(third) == (2, 2, 612, 0, 0)
    assert [[each.name, tokens] for each, tokens in scheduler.scheduled(third)] == [
        ["a", 1],
        ["b", 1],
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_a_sequence_ends_at_the_longest_length_or_runs_until_it_is_dropped(
    release: tuple[int, ...],
) -> None:
    scheduler = scheduler_of(release, LARGE)
    endless = ScheduledSequence("a", 100)
    scheduler.add(endless)
    scheduler.schedule()
    taken = scheduler.schedule(500).steps
    assert taken == 500
    assert list(scheduler.running) == [endless]
    scheduler.drop(endless)
    scheduler.drop(endless)
    assert scheduler.schedule().rows == 0

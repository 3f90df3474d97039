"""Continuous batching: who runs, who waits, who is put back, in which order time passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.sandbox.engine.batch import Batch, Hardware
from qwenkit.sandbox.engine.metrics import Histogram, Metrics

Steps = list[tuple[str, int]]


def in_batch(
    test: Callable[[Batch, Metrics, Steps], Awaitable[None]],
    *,
    kv_tokens: int = 10_000,
    max_num_seqs: int = 256,
) -> None:
    steps: Steps = []

    def decode(batch: int, context: float) -> float:
        assert context > 0
        steps.append(("decode", batch))
        return 0.0

    def prefill(tokens: int) -> float:
        steps.append(("prefill", tokens))
        return 0.0

    async def run() -> None:
        metrics = Metrics("m")
        batch = Batch(
            Hardware(decode, prefill, kv_tokens),
            metrics,
            time_scale=1,
            max_num_seqs=max_num_seqs,
            block_size=16,
        )
        task = asyncio.create_task(batch.run())
        try:
            await asyncio.wait_for(test(batch, metrics, steps), 20)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


async def tokens(batch: Batch, prompt: int, wanted: int) -> list[int]:
    return [number async for number in batch.generate(prompt, wanted)]


def test_one_prefill_then_decodes_together() -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        made = await asyncio.gather(*(tokens(batch, 10, 4) for _ in range(3)))
        assert made == [[0, 1, 2, 3]] * 3
        assert steps == [("prefill", 30), ("decode", 3), ("decode", 3), ("decode", 3)]
        assert (metrics.running, metrics.waiting, metrics.cache_usage) == (0, 0, 0)

    in_batch(test)


def test_an_arrival_blocks_decoding() -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        async with aclosing(batch.generate(10, 50)) as first:
            await anext(first)
            await tokens(batch, 7, 1)
        assert steps[0] == ("prefill", 10)
        assert ("prefill", 7) in steps[1:]

    in_batch(test)


def test_no_more_run_than_allowed() -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        await asyncio.gather(*(tokens(batch, 10, 5) for _ in range(7)))
        assert max(size for step, size in steps if step == "decode") == 2

    in_batch(test, max_num_seqs=2)


def test_full_kv_cache_makes_requests_wait() -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        waiting = asyncio.gather(*(tokens(batch, 31, 1) for _ in range(4)))
        await waiting
        assert [size for step, size in steps if step == "prefill"] == [62, 62]

    in_batch(test, kv_tokens=64)


def test_growth_beyond_the_cache_preempts_the_newest() -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        made = await asyncio.gather(*(tokens(batch, 10, 40) for _ in range(3)))
        assert made == [list(range(40))] * 3
        assert metrics.preemptions > 0
        # What was put back is prefilled again with the tokens that it had.
        assert any(step == "prefill" and size > 10 for step, size in steps[1:])

    in_batch(test, kv_tokens=64)


def test_leaving_early_frees_the_place() -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        async with aclosing(batch.generate(10, 1000)) as one:
            await anext(one)
            assert metrics.running == 1
        assert (metrics.running, metrics.cache_usage) == (0, 0)
        assert await tokens(batch, 10, 2) == [0, 1]

    in_batch(test, max_num_seqs=1)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=8),
    st.integers(7, 20),
)
def test_everyone_gets_all_tokens_in_order(wanted: list[tuple[int, int]], blocks: int) -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        made = await asyncio.gather(*(tokens(batch, *one) for one in wanted))
        assert made == [list(range(count)) for _, count in wanted]
        assert metrics.generation_tokens == sum(count for _, count in wanted)

    in_batch(test, kv_tokens=16 * blocks)


def test_a_histogram_is_cumulative() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.lines("h", 'a="b"')) == [
        'h_bucket{le="1.0",a="b"} 2.0',
        'h_bucket{le="2.0",a="b"} 3.0',
        'h_bucket{le="+Inf",a="b"} 4.0',
        'h_count{a="b"} 4.0',
        'h_sum{a="b"} 12.0',
    ]

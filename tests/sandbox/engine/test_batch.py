"""Continuous batching: who runs, who waits, who is put back, and that nobody's tokens change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import cache

from engine_world import model
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.capacity.scheduler import SchedulerLimits, Step, scheduler_of
from qwenkit.sandbox.engine.batch import Batch, Hardware
from qwenkit.sandbox.engine.bodies import CompletionBody
from qwenkit.sandbox.engine.metrics import Metrics
from qwenkit.sandbox.engine.output import Delta, SequenceOutput
from qwenkit.sandbox.engine.requests import GenerationRequest, ServedModel, completion
from qwenkit.sandbox.engine.sampling import Sampler
from qwenkit.sandbox.engine.transformer import Transformer

V1 = (0, 26, 0)
Steps = list[tuple[str, int]]
Test = Callable[[Batch, Metrics, Steps], Awaitable[None]]
PROMPT = tuple(model().tokenizer.encode("杭州西湖 Knative KPA vLLM OSS " * 500))


def value(metrics: Metrics, name: str) -> float:
    found = metrics.registry.get_sample_value(f"vllm:{name}", {"model_name": "m"})
    assert found is not None
    return found


def in_batch(
    *,
    kv_tokens: int = 10_000,
    max_num_seqs: int = 256,
    batched_tokens: int = 8192,
    release: tuple[int, ...] = (0, 4, 1),
) -> Callable[[Test], Callable[[], None]]:
    """Run a test against a batch on a GPU that takes no time, and records its steps."""

    def decorated(test: Test) -> Callable[[], None]:
        async def run() -> None:
            steps: Steps = []

            def seconds(step: Step) -> float:
                if step.prefill_tokens:
                    steps.append(("prefill", step.prefill_tokens))
                if decodes := step.sequences - len(step.prefills):
                    steps.append(("decode", decodes))
                return 0.0

            hardware = Hardware(seconds, kv_tokens, batched_tokens)
            metrics = Metrics("m", 8192)
            limits = SchedulerLimits(16, kv_tokens // 16, max_num_seqs, batched_tokens, 8192)
            scheduler = scheduler_of(release, limits)
            batch = Batch(model().model, hardware, metrics, scheduler, time_scale=1)
            task = asyncio.create_task(batch.run())
            try:
                async with asyncio.timeout(60):
                    await test(batch, metrics, steps)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            for name in ("num_requests_running", "num_requests_waiting", "gpu_cache_usage_perc"):
                assert value(metrics, name) == 0

        return lambda: asyncio.run(run())

    return decorated


def wish(prompt: int, wanted: int, seed: int | None = None) -> GenerationRequest:
    """Ask for exactly ``wanted`` tokens after a prompt of that many: greedily, or by a seed."""
    served = ServedModel(model().tokenizer, model().model.vocab_size, 8192, 5)
    body = CompletionBody(
        model="m",
        prompt=list(PROMPT[:prompt]),
        max_tokens=wanted,
        ignore_eos=True,
        seed=seed,
        temperature=0 if seed is None else 1.5,
    )
    return completion(body, served)


async def tokens(batch: Batch, ask: GenerationRequest) -> list[int]:
    output, prompt = SequenceOutput(ask, model().tokenizer), ask.prompts[0]
    deltas = [delta async for delta in batch.generate(prompt, Sampler(ask.sampling), output)]
    assert [delta.tokens[0].token for delta in deltas] == output.tokens
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["length"]
    return output.tokens


@cache
def alone(prompt: int, wanted: int, seed: int | None) -> Sequence[int]:
    """Return what the model says without any batch."""
    ask = wish(prompt, wanted, seed)
    sampler, cache_, said = Sampler(ask.sampling), model().model.new_cache(), list[int]()
    new: Sequence[int] = PROMPT[:prompt]
    for _ in range(wanted):
        logits = model().model.forward([(cache_, new)])[0]
        said.append(sampler.sample(logits, prompt=PROMPT[:prompt], output=said).token)
        new = said[-1:]
    return said


@in_batch()
async def test_one_prefill_then_decodes_together(
    batch: Batch, metrics: Metrics, steps: Steps
) -> None:
    made = await asyncio.gather(*(tokens(batch, wish(10, 4)) for _ in range(3)))
    assert made == [alone(10, 4, None)] * 3
    assert steps == [("prefill", 30), ("decode", 3), ("decode", 3), ("decode", 3)]
    assert value(metrics, "prompt_tokens_total") == 30
    assert value(metrics, "generation_tokens_total") == 12


def test_a_known_prompt_takes_the_gpus_time_but_is_not_computed_again(monkeypatch) -> None:
    computed: list[int] = []
    forward = Transformer.forward

    def counted(self, batch):
        computed.append(sum(len(tokens) for _, tokens in batch))
        return forward(self, batch)

    @in_batch()
    async def asked_again(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        first = await tokens(batch, wish(300, 4))
        seen = len(computed)
        assert await tokens(batch, wish(300, 4)) == first
        assert steps[:4] == steps[4:] == [("prefill", 300), *[("decode", 1)] * 3]
        assert len(computed) == seen
        # Another seed chooses other tokens: only the prompt is known.
        said = await tokens(batch, wish(300, 4, seed=1))
        assert max(computed[seen:]) < 100
        assert said == alone(300, 4, 1)

    monkeypatch.setattr(Transformer, "forward", counted)
    asked_again()


@in_batch()
async def test_an_arrival_blocks_decoding(batch: Batch, metrics: Metrics, steps: Steps) -> None:
    ask = wish(10, 50)
    first = batch.generate(
        ask.prompts[0], Sampler(ask.sampling), SequenceOutput(ask, model().tokenizer)
    )
    async with aclosing(first):
        await anext(first)
        await tokens(batch, wish(7, 1))
    assert steps[0] == ("prefill", 10)
    assert ("prefill", 7) in steps[1:]


@in_batch(batched_tokens=64, release=V1)
async def test_v1_reads_a_long_prompt_in_chunks_beside_the_tokens_of_others(
    batch: Batch, metrics: Metrics, steps: Steps
) -> None:
    made = await asyncio.gather(tokens(batch, wish(10, 6)), tokens(batch, wish(150, 3)))
    assert made == [alone(10, 6, None), alone(150, 3, None)]
    assert steps[:6] == [
        ("prefill", 64),
        ("prefill", 63),
        ("decode", 1),
        ("prefill", 33),
        ("decode", 1),
        ("decode", 2),
    ]


@in_batch(kv_tokens=1600)
async def test_a_prompt_that_no_empty_cache_would_hold_has_no_answer(
    batch: Batch, metrics: Metrics, steps: Steps
) -> None:
    ask = wish(1590, 5)  # one of the hundred blocks is kept free
    output = SequenceOutput(ask, model().tokenizer)
    found = [each async for each in batch.generate(ask.prompts[0], Sampler(ask.sampling), output)]
    assert found == [Delta("", (), "length")]
    assert await tokens(batch, wish(10, 2)) == alone(10, 2, None)


@in_batch(max_num_seqs=2)
async def test_no_more_run_than_allowed(batch: Batch, metrics: Metrics, steps: Steps) -> None:
    await asyncio.gather(*(tokens(batch, wish(10, 5)) for _ in range(7)))
    assert max(size for step, size in steps if step == "decode") == 2


@in_batch(batched_tokens=100)
async def test_no_step_reads_more_prompt_tokens_than_allowed(
    batch: Batch, metrics: Metrics, steps: Steps
) -> None:
    await asyncio.gather(*(tokens(batch, wish(40, 1)) for _ in range(5)))
    assert [size for step, size in steps if step == "prefill"] == [80, 80, 40]


@in_batch(kv_tokens=80)
async def test_full_kv_cache_makes_requests_wait(
    batch: Batch, metrics: Metrics, steps: Steps
) -> None:
    await asyncio.gather(*(tokens(batch, wish(31, 1)) for _ in range(4)))
    assert [size for step, size in steps if step == "prefill"] == [62, 62]


@in_batch(kv_tokens=64)
async def test_growth_beyond_the_cache_preempts_the_newest_whose_tokens_stay(
    batch: Batch, metrics: Metrics, steps: Steps
) -> None:
    asks = [wish(10, 40, seed) for seed in range(3)]
    made = await asyncio.gather(*(tokens(batch, ask) for ask in asks))
    assert made == [alone(10, 40, seed) for seed in range(3)]
    assert value(metrics, "num_preemptions_total") > 0
    # What was put back is read again, with the tokens that it had.
    assert any(step == "prefill" and size > 10 for step, size in steps[1:])
    assert value(metrics, "prompt_tokens_total") == 30


@in_batch(max_num_seqs=1)
async def test_leaving_early_frees_the_place(batch: Batch, metrics: Metrics, steps: Steps) -> None:
    ask = wish(10, 1000)
    one = batch.generate(
        ask.prompts[0], Sampler(ask.sampling), SequenceOutput(ask, model().tokenizer)
    )
    async with aclosing(one):
        await anext(one)
        assert value(metrics, "num_requests_running") == 1
        assert value(metrics, "gpu_cache_usage_perc") > 0
    assert value(metrics, "num_requests_running") == 0
    assert value(metrics, "gpu_cache_usage_perc") == 0
    assert await tokens(batch, wish(10, 2)) == alone(10, 2, None)


@in_batch()
async def test_a_long_prompt_leaves_the_loop_to_others(
    batch: Batch, metrics: Metrics, steps: Steps
) -> None:
    reading = asyncio.create_task(tokens(batch, wish(1200, 1)))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    # Were the prompt read on the loop, others would get a turn only between its pieces.
    assert turns > 100
    assert await reading == alone(1200, 1, None)


@settings(deadline=None, max_examples=12)
@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 30), st.none() | st.integers(0, 3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(7, 20),
    st.integers(1, 8),
    st.sampled_from([(0, 4, 1), V1]),
)
def test_everyone_gets_the_tokens_that_it_gets_alone(
    wishes: list[tuple[int, int, int | None]], blocks: int, seqs: int, release: tuple[int, ...]
) -> None:
    async def test(batch: Batch, metrics: Metrics, steps: Steps) -> None:
        made = await asyncio.gather(*(tokens(batch, wish(*one)) for one in wishes))
        assert made == [alone(*one) for one in wishes]
        assert value(metrics, "generation_tokens_total") == sum(wanted for _, wanted, _ in wishes)
        assert value(metrics, "prompt_tokens_total") == sum(prompt for prompt, _, _ in wishes)

    limits = {"kv_tokens": 16 * blocks, "max_num_seqs": seqs, "batched_tokens": 16}
    in_batch(**limits if release == V1 else limits | {"batched_tokens": 8192}, release=release)(
        test
    )()

"""Continuous batching: real tokens, in the GPU's time.

vLLM's scheduler, of the release that the pod runs, says what each step computes. A step takes as
long as the model of the hardware predicts; the time of computing it here is part of that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from qwenkit.capacity.scheduler import BatchScheduler, ScheduledSequence, Step
from qwenkit.errors import SandboxError
from qwenkit.sandbox.controllers.clock import Clock, loop_time
from qwenkit.sandbox.engine.known_prompts import KnownPrompts
from qwenkit.sandbox.engine.metrics import Metrics
from qwenkit.sandbox.engine.output import Delta, SequenceOutput
from qwenkit.sandbox.engine.sampling import SampledToken, Sampler
from qwenkit.sandbox.engine.transformer import Array, KvCache, Transformer

log = logging.getLogger("qwenkit.sandbox.engine")

# A loaded machine falls behind the modelled time; at most this much is caught up.
_CATCH_UP_S = 0.25
# Tokens computed at once: a long prompt is cut into chunks, with others between them.
_CHUNK_TOKENS = 256
# Attended pairs of tokens from which a chunk is computed in a thread: numpy then works on arrays
# so large that it releases the interpreter to the event loop. A smaller one is done sooner here.
_THREAD_PAIRS = 2**16
# Tokens sampled between two turns of the event loop: probes need several to be answered.
_SAMPLES_PER_TURN = 16


@dataclass(frozen=True)
class Hardware:
    """A GPU with a model on it: the modelled seconds of a step, and the KV cache's size."""

    step_seconds: Callable[[Step], float]
    kv_tokens: int
    step_tokens: int
    """The most tokens of a step."""


@dataclass(eq=False)
class _Sequence:
    prompt: Sequence[int]
    sampler: Sampler
    output: SequenceOutput
    arrived: float
    cache: KvCache | None = None
    last_token: float = 0.0
    deltas: asyncio.Queue[Delta | None] = field(default_factory=asyncio.Queue)
    """What its tokens add; None: the engine died."""

    @property
    def context(self) -> int:
        return len(self.prompt) + len(self.output.tokens)

    def uncached(self, cache: KvCache) -> Sequence[int]:
        """Return the tokens whose keys and values are not in the cache."""
        decoded = cache.length - len(self.prompt)
        if decoded >= 0:
            return self.output.tokens[decoded:]
        return [*self.prompt[cache.length :], *self.output.tokens]


Part = tuple[_Sequence, KvCache, Sequence[int]]


class Batch:
    """The sequences of one engine."""

    def __init__(
        self,
        model: Transformer,
        hardware: Hardware,
        metrics: Metrics,
        scheduler: BatchScheduler,
        *,
        time_scale: float | Clock,
    ) -> None:
        self._model, self._hardware, self._metrics = model, hardware, metrics
        self._scheduler, self._blocks = scheduler, scheduler.free_blocks
        self._known = KnownPrompts(model)
        self._pace = time_scale if isinstance(time_scale, Clock) else Clock(time_scale)
        self._work = asyncio.Event()
        self._clock = 0.0
        self._failure: Exception | None = None
        self._dead = asyncio.Event()

    async def generate(
        self, prompt: Sequence[int], sampler: Sampler, output: SequenceOutput
    ) -> AsyncGenerator[Delta, None]:
        """Yield what each token adds to ``output``, at the time when the GPU would have it.

        Leaving the iteration early frees the sequence's KV blocks.

        Raises:
            SandboxError: the engine died.
        """
        if self._failure is not None:
            raise _dead() from self._failure
        sequence = _Sequence(prompt, sampler, output, loop_time())
        scheduled = ScheduledSequence(sequence, len(prompt))
        self._scheduler.add(scheduled)
        self._changed()
        self._work.set()
        try:
            while True:
                delta = await sequence.deltas.get()
                if delta is None:
                    raise _dead() from self._failure
                yield delta
                if delta.finish_reason:
                    return
        finally:
            self._drop(scheduled)

    async def run(self) -> None:
        """Step until cancelled, or until a step fails, which ends every request."""
        try:
            await self._steps()
        except Exception as error:
            log.exception("the engine died")
            self._failure = error
            self._dead.set()
            for scheduled in (*self._scheduler.running, *self._scheduler.waiting):
                scheduled.name.deltas.put_nowait(None)

    def close(self) -> None:
        """Let go of the model: what else refers to an engine is garbage that may stay for long."""
        del self._model, self._known

    async def failure(self) -> Exception:
        """Wait until a step fails; return why."""
        while self._failure is None:
            await self._dead.wait()
        return self._failure

    async def _steps(self) -> None:
        self._clock = loop_time()
        while True:
            step = self._scheduler.schedule()
            for scheduled in step.preempted:
                scheduled.name.cache = None
                self._metrics.preemptions.inc()
            for scheduled in step.ignored:
                scheduled.name.deltas.put_nowait(Delta("", (), "length"))
            self._changed()
            if step.rows:
                await self._step(step)
            else:
                self._work.clear()
                await self._work.wait()
                self._clock = loop_time()

    async def _step(self, step: Step) -> None:
        """Compute what was scheduled, and deliver the tokens when the GPU would."""
        parts = [scheduled for scheduled, _ in self._scheduler.scheduled(step)]
        sampled: dict[ScheduledSequence, SampledToken] = {}
        for scheduled, logits in (await self._compute(parts)).items():
            sequence: _Sequence = scheduled.name
            sampled[scheduled] = sequence.sampler.sample(
                logits, prompt=sequence.prompt, output=sequence.output.tokens
            )
            if len(sampled) % _SAMPLES_PER_TURN == 0:
                await asyncio.sleep(0)
        now, seconds = loop_time(), self._pace.real(self._hardware.step_seconds(step))
        self._clock = max(self._clock + seconds, now - _CATCH_UP_S)
        await asyncio.sleep(max(0.0, self._clock - now))
        for scheduled, token in sampled.items():
            if scheduled in self._scheduler.running:
                self._deliver(scheduled, token)
        self._changed()

    async def _compute(self, parts: Sequence[ScheduledSequence]) -> dict[ScheduledSequence, Array]:
        """Return the logits after the last token of each sequence that has all its prompt."""
        logits: dict[ScheduledSequence, Array] = {}
        work: list[Part] = []
        whole: dict[_Sequence, ScheduledSequence] = {}
        for scheduled in parts:
            one: _Sequence = scheduled.name
            row = self._known.logits(one.prompt, one.output.tokens)
            decodes = scheduled.end >= 0
            if row is None:
                if one.cache is None:
                    one.cache = self._known.cache(one.prompt)
                cache, tokens = one.cache, one.uncached(one.cache)
                if decodes:
                    whole[one] = scheduled
                else:
                    tokens = tokens[: max(0, scheduled.computed - cache.length)]
                work.append((one, cache, tokens))
            elif decodes:
                logits[scheduled] = row
        for chunk in _chunks(work):
            batch = [(cache, tokens) for _, cache, tokens in chunk]
            pairs = sum(len(tokens) * (cache.length + len(tokens)) for cache, tokens in batch)
            if pairs < _THREAD_PAIRS:
                rows = self._model.forward(batch)
            else:
                rows = await asyncio.to_thread(self._model.forward, batch)
            for (one, cache, _), row in zip(chunk, rows, strict=True):
                if cache.length == one.context:
                    logits[whole[one]] = row
                    self._known.keep(one.prompt, one.output.tokens, cache, row)
        return logits

    def _deliver(self, scheduled: ScheduledSequence, token: SampledToken) -> None:
        sequence: _Sequence = scheduled.name
        now = loop_time()
        if sequence.last_token:
            self._metrics.per_token.observe(now - sequence.last_token)
        else:
            self._metrics.prompt_tokens.inc(len(sequence.prompt))
            self._metrics.first_token.observe(now - sequence.arrived)
        sequence.last_token = now
        self._metrics.generation_tokens.inc()
        delta = sequence.output.push(token)
        sequence.deltas.put_nowait(delta)
        if delta.finish_reason:
            self._drop(scheduled)

    def _drop(self, scheduled: ScheduledSequence) -> None:
        self._scheduler.drop(scheduled)
        self._work.set()
        self._changed()

    def _changed(self) -> None:
        scheduler, metrics = self._scheduler, self._metrics
        metrics.running.set(len(scheduler.running))
        metrics.waiting.set(len(scheduler.waiting))
        metrics.cache_usage.set(1 - scheduler.free_blocks / max(1, self._blocks))


def _dead() -> SandboxError:
    return SandboxError(
        "the engine died", "one of its steps failed", "read the log of its container"
    )


def _chunks(work: Sequence[Part]) -> Iterator[list[Part]]:
    """Divide the tokens that are not in the cache yet; a decode step is one chunk."""
    chunk: list[Part] = []
    room = max(_CHUNK_TOKENS, len(work))
    for sequence, cache, tokens in work:
        while tokens:
            piece, tokens = tokens[:room], tokens[room:]
            chunk.append((sequence, cache, piece))
            room -= len(piece)
            if not room:
                yield chunk
                chunk, room = [], _CHUNK_TOKENS
    if chunk:
        yield chunk

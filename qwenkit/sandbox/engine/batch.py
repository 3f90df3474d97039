"""Continuous batching: real tokens, in the GPU's time.

Each step either prefills the prompts that were just admitted, or decodes one token for every
running sequence. It takes as long as the model of the hardware predicts; the time of computing
it here is part of that.
Prefill blocks decoding, as in vLLM 0.4.1 without chunked prefill. A sequence runs only while its
KV blocks fit; when they run out, the newest one is preempted and recomputed later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

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
# vLLM keeps this share of the blocks free when it admits a prompt.
_WATERMARK = 0.01
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

    decode_seconds: Callable[[int, float], float]
    """Of one step, for a number of sequences and their average length in tokens."""
    prefill_seconds: Callable[[int], float]
    kv_tokens: int


@dataclass(frozen=True)
class BatchLimits:
    """The bounds of a step: vLLM's flags of these names."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int


@dataclass(eq=False)
class _Sequence:
    prompt: Sequence[int]
    sampler: Sampler
    output: SequenceOutput
    number: int
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


Chunk = list[tuple[_Sequence, KvCache, Sequence[int]]]


class Batch:
    """The sequences of one engine."""

    def __init__(
        self,
        model: Transformer,
        hardware: Hardware,
        metrics: Metrics,
        limits: BatchLimits,
        *,
        time_scale: float | Clock,
    ) -> None:
        self._model, self._hardware, self._metrics = model, hardware, metrics
        self._limits = limits
        self._known = KnownPrompts(model)
        self._pace = time_scale if isinstance(time_scale, Clock) else Clock(time_scale)
        self._blocks = hardware.kv_tokens // limits.block_size
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[_Sequence, None] = {}
        self._numbers = count()
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
        sequence = _Sequence(prompt, sampler, output, next(self._numbers), loop_time())
        self._waiting.append(sequence)
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
            self._drop(sequence)

    async def run(self) -> None:
        """Step until cancelled, or until a step fails, which ends every request."""
        try:
            await self._steps()
        except Exception as error:
            log.exception("the engine died")
            self._failure = error
            self._dead.set()
            for sequence in (*self._running, *self._waiting):
                sequence.deltas.put_nowait(None)

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
            if not (self._running or self._waiting):
                self._work.clear()
                await self._work.wait()
                self._clock = loop_time()
            admitted = self._admit()
            if admitted:
                seconds = self._hardware.prefill_seconds(sum(one.context for one in admitted))
                await self._step(admitted, seconds)
                continue
            self._preempt()
            running = list(self._running)
            context = sum(one.context for one in running) / len(running)
            await self._step(running, self._hardware.decode_seconds(len(running), context))

    def _admit(self) -> list[_Sequence]:
        admitted: list[_Sequence] = []
        room = self._limits.max_num_batched_tokens
        while self._waiting and len(self._running) < self._limits.max_num_seqs:
            first = self._waiting[0]
            free = self._blocks * (1 - _WATERMARK) - self._used()
            # An empty GPU takes any prompt: one longer than the whole cache was refused before.
            if self._running and (self._needs(first) > free or first.context > room):
                break
            room -= first.context
            first.cache = self._known.cache(first.prompt)
            admitted.append(self._waiting.popleft())
            self._running[first] = None
        if admitted:
            self._changed()
        return admitted

    def _preempt(self) -> None:
        while len(self._running) > 1 and self._used() > self._blocks:
            newest = max(self._running, key=lambda one: one.number)
            del self._running[newest]
            newest.cache = None
            self._waiting.appendleft(newest)
            self._metrics.preemptions.inc()
            self._changed()

    async def _step(self, sequences: Sequence[_Sequence], seconds: float) -> None:
        """Compute one token for each sequence, and deliver them when the GPU would."""
        sampled: dict[_Sequence, SampledToken] = {}
        for sequence, logits in (await self._compute(sequences)).items():
            sampled[sequence] = sequence.sampler.sample(
                logits, prompt=sequence.prompt, output=sequence.output.tokens
            )
            if len(sampled) % _SAMPLES_PER_TURN == 0:
                await asyncio.sleep(0)
        now = loop_time()
        self._clock = max(self._clock + self._pace.real(seconds), now - _CATCH_UP_S)
        await asyncio.sleep(max(0.0, self._clock - now))
        for sequence, token in sampled.items():
            if sequence in self._running:
                self._deliver(sequence, token)
        self._changed()

    async def _compute(self, sequences: Sequence[_Sequence]) -> dict[_Sequence, Array]:
        """Return the logits after each sequence's last token."""
        logits: dict[_Sequence, Array] = {}
        for one in sequences:
            if (row := self._known.logits(one.prompt, one.output.tokens)) is not None:
                logits[one] = row
        for chunk in _chunks([one for one in sequences if one not in logits]):
            work = [(cache, tokens) for _, cache, tokens in chunk]
            pairs = sum(len(tokens) * (cache.length + len(tokens)) for cache, tokens in work)
            if pairs < _THREAD_PAIRS:
                rows = self._model.forward(work)
            else:
                rows = await asyncio.to_thread(self._model.forward, work)
            for (one, cache, _), row in zip(chunk, rows, strict=True):
                logits[one] = row
                if cache.length == one.context:
                    self._known.keep(one.prompt, one.output.tokens, cache, row)
        return logits

    def _deliver(self, sequence: _Sequence, token: SampledToken) -> None:
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
            self._drop(sequence)

    def _drop(self, sequence: _Sequence) -> None:
        if sequence in self._running:
            del self._running[sequence]
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        self._changed()

    def _needs(self, sequence: _Sequence) -> int:
        # The next token needs its place too.
        return -(-(sequence.context + 1) // self._limits.block_size)

    def _used(self) -> int:
        return sum(map(self._needs, self._running))

    def _changed(self) -> None:
        self._metrics.running.set(len(self._running))
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.cache_usage.set(min(1.0, self._used() / max(1, self._blocks)))


def _dead() -> SandboxError:
    return SandboxError(
        "the engine died", "one of its steps failed", "read the log of its container"
    )


def _chunks(sequences: Sequence[_Sequence]) -> Iterator[Chunk]:
    """Divide the tokens that are not in the cache yet; a decode step is one chunk."""
    chunk: Chunk = []
    room = max(_CHUNK_TOKENS, len(sequences))
    for sequence in sequences:
        if sequence.cache is None:
            continue
        tokens = sequence.uncached(sequence.cache)
        while tokens:
            piece, tokens = tokens[:room], tokens[room:]
            chunk.append((sequence, sequence.cache, piece))
            room -= len(piece)
            if not room:
                yield chunk
                chunk, room = [], _CHUNK_TOKENS
    if chunk:
        yield chunk

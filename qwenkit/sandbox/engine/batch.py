"""Continuous batching in the GPU's time.

Each step either prefills the requests that were just let in, or decodes one token for every
running one, and takes as long as the hardware's model says. Prefill blocks decoding, as in
vLLM 0.4.1 without chunked prefill. A request runs only while its KV blocks fit; when they run
out, the newest one is put back and recomputed later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from qwenkit.sandbox.engine.metrics import Metrics

# A loaded machine falls behind the modelled time; this much of it is caught up, no more.
_CATCH_UP_S = 0.25


@dataclass(frozen=True)
class Hardware:
    """A GPU with a model on it: what a step takes, in modelled seconds, and what fits."""

    decode_seconds: Callable[[int, float], float]
    """Of one step for so many sequences of so many tokens each, on average."""
    prefill_seconds: Callable[[int], float]
    kv_tokens: int


@dataclass(eq=False)
class _Sequence:
    prompt: int
    wanted: int
    arrived: float
    produced: int = 0
    last_token: float = 0.0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def context(self) -> int:
        return self.prompt + self.produced


class Batch:
    """The requests of one engine."""

    def __init__(
        self,
        hardware: Hardware,
        metrics: Metrics,
        *,
        time_scale: float,
        max_num_seqs: int,
        block_size: int,
    ) -> None:
        self._hardware, self._metrics, self._scale = hardware, metrics, time_scale
        self._max_num_seqs, self._block = max_num_seqs, block_size
        self._blocks = hardware.kv_tokens // block_size
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[_Sequence, None] = {}
        self._work = asyncio.Event()
        self._clock = time.monotonic()

    async def generate(self, prompt: int, wanted: int) -> AsyncGenerator[int, None]:
        """Yield the number of each token of ``wanted`` when the GPU would have it.

        Leaving the iteration early frees the request's place.
        """
        sequence = _Sequence(prompt, wanted, time.monotonic())
        self._metrics.prompt_tokens += prompt
        self._waiting.append(sequence)
        self._changed()
        self._work.set()
        seen = 0
        try:
            while seen < wanted:
                await sequence.news.wait()
                sequence.news.clear()
                while seen < sequence.produced:
                    yield seen
                    seen += 1
        finally:
            self._drop(sequence)

    async def run(self) -> None:
        """Step until cancelled."""
        while True:
            if not (self._running or self._waiting):
                self._work.clear()
                await self._work.wait()
                self._clock = time.monotonic()
            admitted = self._admit()
            if admitted:
                seconds = self._hardware.prefill_seconds(sum(one.context for one in admitted))
                await self._pass(seconds)
                self._produce(admitted)
            else:
                self._preempt()
                context = sum(one.context for one in self._running) / len(self._running)
                await self._pass(self._hardware.decode_seconds(len(self._running), context))
                self._produce(list(self._running))

    def _admit(self) -> list[_Sequence]:
        admitted: list[_Sequence] = []
        while self._waiting and len(self._running) < self._max_num_seqs:
            needed = self._needs(self._waiting[0])
            # An empty GPU takes what comes: whoever is longer than all of it was refused before.
            if self._running and self._used() + needed > self._blocks:
                break
            admitted.append(self._waiting.popleft())
            self._running[admitted[-1]] = None
        if admitted:
            self._changed()
        return admitted

    def _preempt(self) -> None:
        while len(self._running) > 1 and self._used() > self._blocks:
            self._waiting.appendleft(self._running.popitem()[0])
            self._metrics.preemptions += 1
            self._changed()

    async def _pass(self, seconds: float) -> None:
        now = time.monotonic()
        self._clock = max(self._clock + seconds / self._scale, now - _CATCH_UP_S)
        await asyncio.sleep(max(0.0, self._clock - now))

    def _produce(self, sequences: list[_Sequence]) -> None:
        now = time.monotonic()
        for sequence in sequences:
            if sequence not in self._running:
                continue
            sequence.produced += 1
            self._metrics.generation_tokens += 1
            if sequence.last_token:
                self._metrics.per_token.observe(now - sequence.last_token)
            else:
                self._metrics.first_token.observe(now - sequence.arrived)
            sequence.last_token = now
            sequence.news.set()
            if sequence.produced >= sequence.wanted:
                self._drop(sequence)
        self._changed()

    def _drop(self, sequence: _Sequence) -> None:
        if sequence in self._running:
            del self._running[sequence]
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        self._changed()

    def _needs(self, sequence: _Sequence) -> int:
        # The next token needs its place too.
        return -(-(sequence.context + 1) // self._block)

    def _used(self) -> int:
        return sum(map(self._needs, self._running))

    def _changed(self) -> None:
        self._metrics.running, self._metrics.waiting = len(self._running), len(self._waiting)
        self._metrics.cache_usage = min(1.0, self._used() / max(1, self._blocks))

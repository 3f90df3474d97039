"""Measure how fast one vLLM server decodes and reads prompts, in about five minutes.

Batches of streams decode together, up to where more of them give no more tokens a second; prompts
are read one at a time; closed loops check what is predicted. Each prompt has words of its own, so
that the server has no prefix of it in its cache.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, Lengths, OpenLoop, Traffic
from qwenkit.errors import NotReady
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.loadtest.speed import Figures, figures_of

_BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_CONTEXTS, _ANSWER, _LONGEST_PROMPT = (32, 1024), 72, 4096  # tokens
_STEP_READS = 2048  # tokens of prompts; the first ones decode while the others are read
_RISE, _FLAT = 1.05, 2  # the knee: so many batches in turn without so much more throughput
_LOOP, _LOOP_CLIENTS, _ROUNDS = Lengths(512, 128), (4, 16), 3.3
_ENOUGH_S, _TOO_LONG_S = 1.5, 60.0
_POLL_S = 0.02


@dataclass(frozen=True)
class Measuring:
    """A server that nobody else uses; ``tell`` is told each figure.

    A sequence of it has at most ``longest`` tokens, its KV cache about ``kv_tokens``, and it runs
    at most ``max_num_seqs`` at once. ``quick`` leaves out every second batch.
    """

    server: Server
    longest: int
    kv_tokens: float
    max_num_seqs: int
    tell: Callable[[str], None]
    quick: bool = False

    def figures(self) -> Figures:
        """Measure all, as a run of a file of measured points.

        Raises:
            NotReady: a request failed.
        """
        way_s, longest = self._way_s(), min(_LONGEST_PROMPT, self.longest - 8)
        prompts: dict[str, float] = {}
        clock = 1.0
        for tokens in (longest // 16, longest // 4, longest):
            alone = ClosedLoop(((0, 1), (_ENOUGH_S, 0)), Lengths(max(1, tokens), 1))
            read, clock = self._send(alone, way_s)
            prompts |= read["prefill_s"]
            for each, seconds in read["prefill_s"].items():
                self.tell(f"a prompt of {each} tokens: {seconds:.3g} s")
        contexts = [min(context, self.longest - 2 * _ANSWER) for context in _CONTEXTS]
        decode = [one for context in contexts for one in self._decode(context)]
        loops = [
            one
            for clients in _LOOP_CLIENTS
            if (steps := [each["tpot_s"] for each in decode if each["batch"] == clients])
            for one in self._loop(clients, max(steps) / clock, way_s)
        ]
        return {"decode": decode, "prefill_s": prompts, "closed": loops}

    def _way_s(self) -> float:
        """Return what a request takes that computes nothing."""
        times = [time.perf_counter()]
        for _ in range(6):
            self.server.get("/v1/models")
            times.append(time.perf_counter())
        return median(after - before for before, after in pairwise(times[1:]))

    def _decode(self, prompt: int) -> Iterator[Figures]:
        """Yield the time of a step of each batch, up to the knee or what the server holds."""
        best, flat, beyond = 0.0, 0, list[Figures]()
        for batch in _BATCHES[:: 1 + self.quick]:
            answer = min(_ANSWER + batch * prompt // _STEP_READS, self.longest - prompt)
            if batch > self.max_num_seqs or batch * (prompt + answer) > self.kv_tokens:
                return
            began, found = time.monotonic(), []
            while time.monotonic() < began + _ENOUGH_S:
                steps, _ = self._send(OpenLoop((Arrival(0, prompt, answer),) * batch))
                found += [one for one in steps["decode"] if one["batch"] == batch]
            rate = 0.0  # unless it runs so many at once
            if found:
                step = sorted(found, key=lambda one: one["tpot_s"])[len(found) // 2]
                rate = batch / step["tpot_s"]
                beyond.append(step)
                if rate > best / _RISE:  # or else what limits may be the client, not the GPU
                    yield from beyond
                    beyond = []
                self.tell(
                    f"batch {batch}, context {step['context_tokens']:.0f}: {rate:.3g} tokens/s"
                )
            flat = 0 if rate > best * _RISE else flat + 1
            best = max(best, rate)
            if flat == _FLAT or time.monotonic() > began + _TOO_LONG_S:
                return

    def _loop(self, clients: int, step_s: float, way_s: float) -> list[Figures]:
        """Return the figures of a closed loop, if the server has room for its clients."""
        tokens = _LOOP.prompt_tokens + _LOOP.output_tokens
        if tokens > self.longest or clients * tokens > self.kv_tokens:
            return []
        seconds = _ROUNDS * _LOOP.output_tokens * step_s
        loop = ClosedLoop(((0, clients), (seconds, 0)), _LOOP)
        found: list[Figures] = self._send(loop, way_s)[0]["closed"]
        for one in found:
            self.tell(f"{clients} clients: an answer takes {one['latency_mean_s']:.3g} s")
        return found

    def _send(self, traffic: Traffic, way_s: float = 0.0) -> tuple[Figures, float]:
        """Return what a load tells, and the clock."""
        seed = secrets.randbits(32)
        load = start_load(self.server, traffic, seed=seed, ignore_eos=True, temperature=0)
        try:
            while not load.done:
                time.sleep(_POLL_S)
        finally:
            load.stop()
        result = load.result()
        if any(one.outcome != "ok" for one in result.requests):
            fix = "ask it with `qwenkit query`; do others use it?"
            raise NotReady("the server does not answer each request", str(result), fix)
        return figures_of(result.requests, result.clock, way_s), result.clock

"""When a pod answers: a server with a fixed time, or vLLM's continuous batching.

An engine holds the requests of one pod. ``next_at`` is when it next finishes one; read it again
after every ``add``, ``finish`` and ``remove``, because a fuller batch is slower.
"""

from __future__ import annotations

import math
from collections import deque
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

from qwenkit.capacity.alternatives import what_would_fit
from qwenkit.capacity.catalogue import find_model
from qwenkit.capacity.gpu import Gpu, Model, find_gpu
from qwenkit.capacity.memory import BLOCK, fit
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.capacity.scheduler import (
    BatchScheduler,
    ScheduledSequence,
    SchedulerLimits,
    Step,
    scheduler_of,
)
from qwenkit.capacity.simulation.traffic import Lengths
from qwenkit.capacity.step_time import StepTime
from qwenkit.errors import InvalidValue

_V0, _V1 = (0, 4, 1), (0, 26)


@dataclass(slots=True, eq=False)
class SimulatedRequest:
    """One request; times in seconds, ``status`` 0 while it runs."""

    at: float
    prompt_tokens: int
    output_tokens: int
    client: int
    first_at: float = math.inf
    status: int = 0
    proxied: bool = False
    running: bool = False
    pod: object | None = None


class SimulatedEngine(Protocol):
    """The requests inside one pod."""

    next_at: float

    @property
    def waiting(self) -> int:
        """Requests in the server's own queue."""

    def add(self, now: float, request: SimulatedRequest) -> None:
        """Take a request."""

    def finish(self, now: float) -> list[SimulatedRequest]:
        """Return the requests that are done by now."""

    def remove(self, now: float, request: SimulatedRequest) -> None:
        """Drop a request that timed out."""

    def busy_s(self, now: float) -> float:
        """Return for how many seconds a request has been running."""


class _FixedEngine:
    """Answers every request after the same time, whatever the load."""

    __slots__ = ("_busy_s", "_busy_to", "_queue", "_service_s", "next_at")

    waiting = 0

    def __init__(self, service_s: float) -> None:
        self._service_s = service_s
        self._queue: deque[tuple[float, SimulatedRequest]] = deque()
        self._busy_s = self._busy_to = 0.0
        self.next_at = math.inf

    def add(self, now: float, request: SimulatedRequest) -> None:
        start = self._busy_to if self._busy_to > now else now
        self._busy_to = now + self._service_s
        self._busy_s += self._busy_to - start
        request.running = True
        request.first_at = now + self._service_s
        self._queue.append((now + self._service_s, request))
        self.next_at = self._queue[0][0]

    def finish(self, now: float) -> list[SimulatedRequest]:
        done, queue = [], self._queue
        while queue and queue[0][0] <= now:
            request = queue.popleft()[1]
            if request.running:
                request.running = False
                done.append(request)
        self.next_at = queue[0][0] if queue else math.inf
        return done

    def remove(self, now: float, request: SimulatedRequest) -> None:
        request.running = False

    def busy_s(self, now: float) -> float:
        ahead = self._busy_to - now
        return self._busy_s - ahead if ahead > 0 else self._busy_s


class _BatchEngine:
    """vLLM's own scheduling (``BatchScheduler``), each step with the seconds of ``StepTime``.

    Steps that only decode are taken at once, to the end of a sequence. A request that comes
    meanwhile cuts them: it is admitted when the step in which it came is over.

    Simplified: time between steps is in the step; a prompt or answer that exceeds the longest
    length, which vLLM refuses, is cut; a request that times out leaves at the end of the step.
    """

    __slots__ = (
        "_busy_s",
        "_busy_since",
        "_each",
        "_first",
        "_scheduler",
        "_start",
        "_step",
        "_time",
        "next_at",
    )

    def __init__(self, server: VllmServer) -> None:
        self._time, self._scheduler = server.time, server.scheduler()
        self._step: Step | None = None
        # When it began; a step's seconds at first, and by how much each takes longer than the last.
        self._start = self._first = self._each = 0.0
        self._busy_s = self._busy_since = 0.0
        self.next_at = math.inf

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting)

    def add(self, now: float, request: SimulatedRequest) -> None:
        scheduler = self._scheduler
        blocked = scheduler.waiting or len(scheduler.running) >= scheduler.limits.max_num_seqs
        longest = scheduler.limits.max_model_len
        prompt, answer = request.prompt_tokens, request.output_tokens
        if prompt + answer > longest:
            prompt = min(prompt, longest - 1)
            answer = min(answer, longest - prompt)
        scheduler.add(ScheduledSequence(request, prompt, answer))
        if self._step is None:
            self._busy_since = now
            self._begin(now)
        elif not blocked:
            self._cut(now)

    def finish(self, now: float) -> list[SimulatedRequest]:
        done = []
        while self.next_at <= now:
            for sequence in self._scheduler.release():
                done.append(sequence.name)
            self._begin(self.next_at)
        return done

    def remove(self, now: float, request: SimulatedRequest) -> None:
        self._cut(now)
        scheduler = self._scheduler
        each = (*scheduler.running, *scheduler.waiting)
        scheduler.drop(next(sequence for sequence in each if sequence.name is request))

    def busy_s(self, now: float) -> float:
        return self._busy_s + (0.0 if self._step is None else now - self._busy_since)

    def _begin(self, now: float) -> None:
        """Begin the next step, or the next steps that only decode."""
        scheduler = self._scheduler
        self._step = step = scheduler.decode_on() or scheduler.schedule(math.inf)
        self._start = now
        if not step.rows:
            self._step, self.next_at = None, math.inf
            self._busy_s += now - self._busy_since
            return
        if step.prefill_tokens:
            self.next_at = self._start = now = now + self._time.of(step)
            for sequence, _ in step.prefills:
                request = sequence.name
                if sequence.end >= 0 and request.first_at > now:  # else it was preempted
                    request.first_at = now
            ahead = scheduler.decode_on()
            if ahead is None:
                return
            self._step = step = ahead  # cut if a request comes first
        first, per_token, least = self._time.decode_line(step.sequences)
        self._first = first + step.kv_tokens * per_token
        self._each = step.sequences * per_token
        if self._first < least:
            below = math.ceil((least - self._first) / self._each)
            self._first, self._each = least, 0.0
            if below < step.steps:
                scheduler.cut(step, below)
        self.next_at = self._after(step.steps)

    def _after(self, steps: int) -> float:
        return self._start + steps * (self._first + self._each * (steps - 1) / 2)

    def _cut(self, now: float) -> None:
        """End the steps taken at once with that which is under way."""
        step, passed = self._step, now - self._start
        if step is None or step.prefill_tokens:
            return
        steps = 0  # the prompts before them are still read
        if passed >= 0:
            half = self._first - self._each / 2
            root = math.sqrt(half * half + 2 * self._each * passed)
            steps = max(1, math.ceil(2 * passed / (half + root) - 1e-9))
        if steps < step.steps:
            self._scheduler.cut(step, steps)
            self.next_at = self._after(steps)


@dataclass(frozen=True, slots=True)
class FixedServer:
    """A stand-in that answers after ``service_s`` seconds, whatever the load."""

    service_s: float
    gpus: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.service_s < math.inf:
            raise InvalidValue("service_s", self.service_s, "more than 0, finite")

    def alone(self, lengths: Lengths) -> tuple[float, float]:
        """Return TTFT and latency of a request, seconds."""
        return self.service_s, self.service_s

    def engine(self) -> SimulatedEngine:
        """Return the empty engine of a new pod."""
        return _FixedEngine(self.service_s)


class VllmServer:
    """vLLM with one model on one GPU model.

    ``clock`` is how many times faster than the modelled GPU it computes, with the same memory.
    The sandbox's node may do so, while the autoscaler's windows stay in real time.

    Raises:
        InvalidValue: unknown GPU or model, the model does not fit, or no positive clock.

    >>> from qwenkit.capacity.simulation.server import VllmServer
    >>> server = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
    """

    def __init__(
        self,
        gpu: Gpu | str,
        model: Model | ModelConfig | str,
        *,
        gpus: int = 1,
        max_model_len: int = 6144,
        gpu_memory_utilization: float = 0.95,
        max_num_seqs: int = 256,
        batched_tokens: int | None = None,
        eager: bool = False,
        chunked_prefill: bool = True,
        clock: float = 1.0,
    ) -> None:
        self.gpu, self.gpus, whole = find_gpu(gpu), gpus, find_model(model)
        self.model = whole.split(gpus)  # one GPU's part: all of them work on each token
        if max_num_seqs < 1:
            raise InvalidValue("max_num_seqs", max_num_seqs, "at least 1")
        setup: dict[str, Any] = {
            "gpus": gpus,
            "max_model_len": max_model_len,
            "gpu_memory_utilization": gpu_memory_utilization,
            "max_num_seqs": max_num_seqs,
            "batched_tokens": batched_tokens,
            "eager": eager,
        }
        self.fit = fit(self.gpu, whole, **setup)
        if not self.fit.fits:
            changes = "; or ".join(what_would_fit(self.gpu, whole, **setup))
            fix = f"what would fit: {changes}" if changes else ""
            raise InvalidValue("model", whole.name, self.fit.problems[0], fix)
        self.kv_tokens = self.fit.kv_tokens
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = batched_tokens or max(max_model_len, 2048)
        blocks, self._release = self.kv_tokens // BLOCK, _V0 if batched_tokens is None else _V1
        # The cache must hold the longest sequence, beside the blocks that are kept free.
        longest = min(max_model_len, (blocks - max(1, blocks // 100)) * BLOCK)
        self._limits = SchedulerLimits(
            BLOCK, blocks, max_num_seqs, self.max_num_batched_tokens, longest, chunked_prefill
        )
        self.time = StepTime(self.gpu, self.model, eager=eager, v1=batched_tokens is not None)
        self._run_at(clock)

    def at(self, clock: float) -> VllmServer:
        """Return the same server, so many times faster than the modelled GPU."""
        made = copy(self)
        made._run_at(clock)
        return made

    def edges(self) -> tuple[VllmServer, VllmServer]:
        """Return the same server as slow and as fast as the model may be wrong."""
        error = self.time.error
        return self.at(self.clock / (1 + error)), self.at(self.clock / (1 - error))

    def _run_at(self, clock: float) -> None:
        if not 0 < clock < math.inf:
            raise InvalidValue("clock", clock, "more than 0, finite")
        self.clock = clock
        self.time = replace(self.time, clock=clock)

    def prefill(self, tokens: int) -> float:
        """Return the time to read a prompt of that many tokens."""
        return self.time.prefill(tokens)

    def alone(self, lengths: Lengths) -> tuple[float, float]:
        """Return TTFT and latency of a request while no other runs, seconds."""
        request = SimulatedRequest(0.0, lengths.prompt_tokens, lengths.output_tokens, 0)
        engine = self.engine()
        engine.add(0.0, request)
        end = 0.0
        while engine.next_at < math.inf:
            end = engine.next_at
            engine.finish(end)
        return request.first_at, end

    def scheduler(self) -> BatchScheduler:
        """Return the scheduler of a new pod."""
        return scheduler_of(self._release, self._limits)

    def engine(self) -> SimulatedEngine:
        """Return the empty engine of a new pod."""
        return _BatchEngine(self)


SimulatedServer = FixedServer | VllmServer

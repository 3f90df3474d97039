"""When a pod answers: a server with a fixed time, or vLLM's continuous batching.

An engine holds the requests of one pod. ``next_at`` is when it next finishes one; read it again
after every ``add``, ``finish`` and ``remove``, because a fuller batch is slower.
"""

from __future__ import annotations

import math
from collections import deque
from copy import copy
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, Protocol

from qwenkit.capacity.alternatives import what_would_fit
from qwenkit.capacity.catalogue import find_model
from qwenkit.capacity.gpu import Gpu, Model, find_gpu
from qwenkit.capacity.memory import fit
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.capacity.simulation.traffic import Lengths
from qwenkit.capacity.step_time import StepTime
from qwenkit.errors import InvalidValue


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
    """vLLM's continuous batching: all sequences decode together, a prefill stops them all.

    Progress is counted in tokens since the batch began (``_clock``): all running sequences gain
    one token a step, so a request that joins at clock c is done at c + output tokens − 1.
    Prompts that wait for a prefill are read together, up to vLLM's ``max_num_batched_tokens``, and
    get their first tokens together. A sequence reserves KV cache for prompt and answer; without
    room it waits, in order.
    """

    __slots__ = (
        "_base",
        "_blocked_until",
        "_busy_s",
        "_busy_since",
        "_clock",
        "_context",
        "_count",
        "_kv_used",
        "_number",
        "_per_token",
        "_prefill_at",
        "_prefilling",
        "_running",
        "_server",
        "_time",
        "_waiting",
        "next_at",
    )

    def __init__(self, server: VllmServer, base: list[float], per_token: float) -> None:
        self._server = server
        self._base = base  # seconds per step by batch size, without the KV cache's share
        self._per_token = per_token  # seconds per step for every token in the KV cache
        self._running: list[tuple[float, int, SimulatedRequest]] = []
        self._waiting: deque[SimulatedRequest] = deque()
        self._clock = self._time = self._blocked_until = self._context = 0.0
        self._busy_s = self._busy_since = 0.0
        self._prefilling: list[SimulatedRequest] = []  # by the prefill that begins at _prefill_at
        self._prefill_at = -math.inf
        self._kv_used = self._count = self._number = 0
        self.next_at = math.inf

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, now: float, request: SimulatedRequest) -> None:
        self._advance(now)
        if self._waiting or not self._start(now, request):
            self._waiting.append(request)
        self._plan()

    def finish(self, now: float) -> list[SimulatedRequest]:
        self._advance(now)
        done, running = [], self._running
        limit = self._clock + 1e-9
        while running and (running[0][0] <= limit or not running[0][2].running):
            request = heappop(running)[2]
            if request.running:
                self._leave(now, request)
                done.append(request)
        self._admit(now)
        self._plan()
        return done

    def remove(self, now: float, request: SimulatedRequest) -> None:
        self._advance(now)
        if request.running:
            self._leave(now, request)
            self._admit(now)
        else:
            self._waiting.remove(request)
        self._plan()

    def busy_s(self, now: float) -> float:
        return self._busy_s + (now - self._busy_since if self._count else 0.0)

    def _leave(self, now: float, request: SimulatedRequest) -> None:
        request.running = False
        self._count -= 1
        if not self._count:
            self._busy_s += now - self._busy_since
        self._kv_used -= request.prompt_tokens + request.output_tokens
        self._context -= request.prompt_tokens + request.output_tokens / 2

    def _advance(self, now: float) -> None:
        if self._count:
            start = self._time if self._time > self._blocked_until else self._blocked_until
            if now > start:
                self._clock += (now - start) / (
                    self._base[self._count] + self._context * self._per_token
                )
        self._time = now

    def _admit(self, now: float) -> None:
        waiting = self._waiting
        while waiting and self._start(now, waiting[0]):
            waiting.popleft()

    def _start(self, now: float, request: SimulatedRequest) -> bool:
        """Start a request if there is room for it; return whether it was started."""
        server = self._server
        prompt, output = request.prompt_tokens, request.output_tokens
        if not self._count:
            self._clock = 0.0
            self._busy_since = now
        elif (
            self._kv_used + prompt + output > server.kv_tokens or self._count >= server.max_num_seqs
        ):
            return False
        self._kv_used += prompt + output
        self._context += prompt + output / 2
        self._count += 1
        self._number += 1
        self._read_prompt(now, request)
        request.running = True
        heappush(self._running, (self._clock + output - 1, self._number, request))
        return True

    def _read_prompt(self, now: float, request: SimulatedRequest) -> None:
        """Add a prompt to the prefill that begins now or later, or to a new one after it."""
        tokens = sum(each.prompt_tokens for each in self._prefilling) + request.prompt_tokens
        if now > self._prefill_at or tokens > self._server.max_num_batched_tokens:
            self._prefill_at = max(now, self._blocked_until)
            self._prefilling, tokens = [], request.prompt_tokens
        self._prefilling.append(request)
        self._blocked_until = self._prefill_at + self._server.prefill(tokens)
        for each in self._prefilling:
            each.first_at = self._blocked_until

    def _plan(self) -> None:
        running = self._running
        while running and not running[0][2].running:
            heappop(running)
        if not running:
            self.next_at = math.inf
            return
        start = self._time if self._time > self._blocked_until else self._blocked_until
        left = running[0][0] - self._clock
        if left > 0:
            start += left * (self._base[self._count] + self._context * self._per_token)
        self.next_at = start


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

    >>> from qwenkit import VllmServer
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
        self._prefill: dict[int, float] = {}
        self.time = replace(self.time, clock=clock)
        lines = [self.time.decode_line(max(1, batch)) for batch in range(self.max_num_seqs + 1)]
        self._per_token = lines[1][1]
        self._base = [max(first, least) for first, _, least in lines]

    def prefill(self, tokens: int) -> float:
        """Return the time to read a prompt of that many tokens."""
        if tokens not in self._prefill:
            self._prefill[tokens] = self.time.prefill(tokens)
        return self._prefill[tokens]

    def alone(self, lengths: Lengths) -> tuple[float, float]:
        """Return TTFT and latency of a request while no other runs, seconds."""
        ttft, live = self.prefill(lengths.prompt_tokens), lengths.output_tokens / 2
        step = self._base[1] + (lengths.prompt_tokens + live) * self._per_token
        return ttft, ttft + (lengths.output_tokens - 1) * step

    def engine(self) -> SimulatedEngine:
        """Return the empty engine of a new pod."""
        return _BatchEngine(self, self._base, self._per_token)


SimulatedServer = FixedServer | VllmServer

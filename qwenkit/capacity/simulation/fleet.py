"""Which pods of a revision exist, and which hold a GPU: created, starting, ready, draining.

A pod holds its GPU from when it is scheduled until it has drained. A removed pod takes no new
requests, finishes those that it has, and keeps the GPU for at least ``drain_s``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from qwenkit.capacity.simulation.server import SimulatedEngine, SimulatedRequest, SimulatedServer
from qwenkit.errors import InvalidValue


class Phase(IntEnum):
    """The phases of a pod, in order."""

    PENDING = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    GONE = 4


@dataclass(slots=True, eq=False)
class Pod:
    """One pod: its server's engine and its queue-proxy's counters.

    ``in_flight`` counts all its requests; ``direct``, ``area``, ``counted_to`` and ``arrived``
    are the queue-proxy's statistics of those that did not pass the activator.
    """

    engine: SimulatedEngine
    phase: Phase = Phase.PENDING
    gpu_since: float = math.inf
    ready_at: float = math.inf
    drained_at: float = math.inf
    next_at: float = math.inf
    in_flight: int = 0
    queue: deque[SimulatedRequest] = field(default_factory=deque)  # the queue-proxy's breaker
    direct: int = 0
    area: float = 0.0
    counted_to: float = 0.0
    arrived: int = 0


class Fleet:
    """All pods of the revision and the GPUs that they may use.

    The values are those of ``Environment``. ``plan(time, pod)`` is called with the time at which
    a pod's phase changes next.
    """

    def __init__(
        self,
        server: SimulatedServer,
        *,
        gpus: int | None,
        startup_s: float,
        drain_s: float,
        plan: Callable[[float, Pod], None],
    ) -> None:
        self._server = server
        self._free = math.inf if gpus is None else gpus
        self._startup_s = startup_s
        self._drain_s = drain_s
        self._plan = plan
        self._pending: deque[Pod] = deque()
        self.starting: list[Pod] = []
        self.ready: list[Pod] = []
        self.draining: list[Pod] = []
        self.gpu_seconds = 0.0

    @property
    def empty(self) -> bool:
        """Return whether no pod exists."""
        return not (self.ready or self.starting or self.draining or self._pending)

    @property
    def not_ready(self) -> int:
        """Pods that are pending or starting."""
        return len(self.starting) + len(self._pending)

    def seed(self, now: float, pods: int) -> None:
        """Add pods that are ready already."""
        for _ in range(pods):
            pod = Pod(self._server.engine())
            if self._free < 1:
                raise InvalidValue("initial_ready", pods, "at most as many pods as GPUs")
            self._free -= 1
            pod.phase, pod.gpu_since, pod.ready_at = Phase.READY, now, now
            self.ready.append(pod)

    def scale_to(self, now: float, replicas: int) -> bool:
        """Create or remove pods; return whether the ready ones changed."""
        surplus = len(self.ready) + self.not_ready - replicas
        for _ in range(-surplus):
            self._pending.append(Pod(self._server.engine()))
        ready_before = len(self.ready)
        for _ in range(surplus):
            self._remove(now)
        self._schedule(now)
        return len(self.ready) != ready_before

    def _remove(self, now: float) -> None:
        """Remove a pod in a ReplicaSet's order: pending, then not ready, then the youngest."""
        if self._pending:
            self._pending.pop().phase = Phase.GONE
            return
        pods = self.starting or self.ready
        pod = pods.pop()
        pod.phase = Phase.DRAINING
        pod.drained_at = now + self._drain_s
        self.draining.append(pod)
        self._plan(pod.drained_at, pod)

    def _schedule(self, now: float) -> None:
        while self._pending and self._free >= 1:
            pod = self._pending.popleft()
            self._free -= 1
            pod.phase, pod.gpu_since = Phase.STARTING, now
            pod.ready_at = now + self._startup_s
            self.starting.append(pod)
            self._plan(pod.ready_at, pod)

    def proceed(self, now: float, pod: Pod) -> bool:
        """Move a pod to its next phase if it is time; return whether it became ready."""
        if pod.phase is Phase.STARTING and now >= pod.ready_at:
            self.starting.remove(pod)
            self.ready.append(pod)
            pod.phase, pod.counted_to = Phase.READY, now
            return True
        if pod.phase is Phase.DRAINING and now >= pod.drained_at and not pod.in_flight:
            self.draining.remove(pod)
            pod.phase = Phase.GONE
            self.gpu_seconds += now - pod.gpu_since
            self._free += 1
            self._schedule(now)
        return False

    def gpu_seconds_until(self, now: float) -> float:
        """Return the GPU time of all pods, existing ones included."""
        held = (*self.starting, *self.ready, *self.draining)
        return self.gpu_seconds + sum(now - pod.gpu_since for pod in held)

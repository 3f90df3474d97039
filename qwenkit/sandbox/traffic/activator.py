"""Pick a pod for each request of a revision; hold requests while there is none.

Knative's rules. Through the activator: without a concurrency limit the less busy of two random
pods; with a limit of 1 to 3 the first pod with a free slot; from 4 on, round robin. Up to 10,000
requests wait. Without the activator, each pod's queue-proxy runs as many requests as its limit,
queues ten times as many, and refuses the rest.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from qwenkit.errors import NotReady
from qwenkit.sandbox.kube.objects import Object, condition
from qwenkit.sandbox.kubelet.node import Node

PROBE_S = 0.2
_DEPTH, _QUEUE_FACTOR = 10_000, 10
FULL = "pending request queue full"


@dataclass(eq=False)
class Backend:
    """The state of a pod in the data plane."""

    uid: str
    name: str
    ready: bool = False
    api_ready: bool = False
    leaving: bool = False
    in_flight: int = 0
    queued: deque[asyncio.Future[None]] = field(default_factory=deque)


class RevisionPods:
    """The pods of one revision and the requests that wait for them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._limit = 0
        self._pods: dict[str, Backend] = {}
        self._waiting: deque[asyncio.Future[Backend]] = deque()
        self._turn = 0
        self._probing: asyncio.Task[None] | None = None

    def configure(self, container_concurrency: int) -> None:
        """Set the revision's concurrency limit; 0 is none."""
        self._limit = container_concurrency
        self._dispatch()

    def update(self, pod: Object) -> None:
        """Add or update a pod of this revision."""
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        backend = self._pods.setdefault(uid, Backend(uid, name))
        api_ready = condition(pod, "Ready").get("status") == "True"
        # A pod that answered a probe stays ready until the API reports it ready, and then not.
        if api_ready or backend.api_ready:
            backend.ready = api_ready
        backend.api_ready = api_ready
        backend.leaving = "deletionTimestamp" in pod["metadata"]
        self._dispatch()

    def remove(self, uid: str) -> None:
        """Remove a pod."""
        self._pods.pop(uid, None)

    def has_pods(self) -> bool:
        """Return whether a request could be sent to a pod now."""
        return any(map(self._usable, self._pods.values()))

    def close(self) -> None:
        """Stop probing."""
        if self._probing:
            self._probing.cancel()

    @asynccontextmanager
    async def activated(self) -> AsyncIterator[Backend]:
        """Hold a slot of a pod; wait until there is one.

        Raises:
            NotReady: too many requests wait.
        """
        backend = self._choose() if not self._waiting else None
        if backend is None:
            backend = await self._wait()
        else:
            backend.in_flight += 1
        try:
            yield backend
        finally:
            backend.in_flight -= 1
            self._dispatch()

    @asynccontextmanager
    async def direct(self) -> AsyncIterator[Backend]:
        """Hold a place at the least busy pod, without the activator.

        Raises:
            NotReady: there is no pod, or its queue-proxy's queue is full.
        """
        usable = [one for one in self._pods.values() if self._usable(one)]
        if not usable:
            raise NotReady("no healthy upstream")
        backend = min(usable, key=lambda one: one.in_flight)
        if self._limit and backend.in_flight >= self._limit * (1 + _QUEUE_FACTOR):
            raise NotReady(FULL)
        backend.in_flight += 1
        turn: asyncio.Future[None] | None = None
        try:
            if self._limit and backend.in_flight - len(backend.queued) > self._limit:
                turn = asyncio.get_running_loop().create_future()
                backend.queued.append(turn)
                await turn
            yield backend
        finally:
            backend.in_flight -= 1
            if turn is not None and turn in backend.queued:
                backend.queued.remove(turn)
            else:
                _next_turn(backend)
            self._dispatch()

    async def _wait(self) -> Backend:
        if len(self._waiting) >= _DEPTH:
            raise NotReady(FULL)
        future: asyncio.Future[Backend] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                # The slot was assigned at the same moment: free it.
                future.result().in_flight -= 1
                self._dispatch()
            raise
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _dispatch(self) -> None:
        """Assign free slots to waiting requests, the oldest first."""
        while self._waiting and (backend := self._choose()) is not None:
            future = self._waiting.popleft()
            if not future.done():
                backend.in_flight += 1
                future.set_result(backend)

    def _choose(self) -> Backend | None:
        free = [
            one
            for one in self._pods.values()
            if self._usable(one) and not (self._limit and one.in_flight >= self._limit)
        ]
        if not free:
            return None
        if self._limit == 0:
            pair = random.sample(free, min(2, len(free)))
            return min(pair, key=lambda one: one.in_flight)
        if self._limit <= 3:
            return free[0]
        self._turn += 1
        return free[self._turn % len(free)]

    def _usable(self, backend: Backend) -> bool:
        live = backend.ready and not backend.leaving
        return live and self._node.address(backend.uid) is not None

    async def _probe(self) -> None:
        """Probe the pods while requests wait: they answer before the API reports them ready."""
        while self._waiting:
            for backend in list(self._pods.values()):
                if not backend.ready and not backend.leaving:
                    backend.ready = await self._node.answers(backend.uid)
            self._dispatch()
            await asyncio.sleep(PROBE_S)


def _next_turn(backend: Backend) -> None:
    while backend.queued:
        future = backend.queued.popleft()
        if not future.done():
            future.set_result(None)
            return

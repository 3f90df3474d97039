"""What a control loop is, and the queue that all of them share.

A controller names the kinds that it watches, turns each change into the keys of the objects that
it answers for, and reconciles one key at a time from what the store holds then. One worker
takes the keys in order; a key that waits is queued once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.store import ObjectStore

log = logging.getLogger("qwenkit.sandbox.controllers")

Key = tuple[str, str]
ImageResolver = Callable[[str], str | None]
_RETRY_FIRST_S, _RETRY_LAST_S = 0.01, 60.0
_DOUBLINGS = 13


class Queue:
    """Keys to reconcile, each at most once, and timers that add them later."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Controller, Key]] = deque()
        self._known: set[tuple[str, Key]] = set()
        self._wake = asyncio.Event()
        self._timers: dict[tuple[str, Key], asyncio.TimerHandle] = {}

    def add(self, controller: Controller, key: Key) -> None:
        """Queue a key, unless it waits already."""
        if (controller.name, key) not in self._known:
            self._known.add((controller.name, key))
            self._waiting.append((controller, key))
            self._wake.set()

    def add_after(self, controller: Controller, key: Key, seconds: float) -> None:
        """Queue a key after real seconds, unless a timer queues it before that.

        One timer a key is enough: whoever reconciles asks again for what is still to come.
        """
        loop = asyncio.get_running_loop()
        timer, due = (controller.name, key), loop.time() + max(0.0, seconds)
        if (known := self._timers.get(timer)) and known.when() <= due:
            return
        if known:
            known.cancel()

        def fire() -> None:
            self._timers.pop(timer, None)
            self.add(controller, key)

        self._timers[timer] = loop.call_at(due, fire)

    async def get(self) -> tuple[Controller, Key]:
        """Wait for the next key."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        controller, key = self._waiting.popleft()
        self._known.discard((controller.name, key))
        return controller, key

    def close(self) -> None:
        """Cancel every timer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


@dataclass(frozen=True)
class Delays:
    """How long things take that the sandbox has no other reason to wait for, in seconds.

    They are what a small real cluster shows; tests shorten them.
    """

    resolve_image: float = 0.05
    program_gateway: float = 0.2
    collect_garbage: float = 0.02
    finalize_route: float = 0.04
    """Half way between the second and the fourth generation of what is collected, as recorded."""


@dataclass
class World:
    """What every controller works with."""

    store: ObjectStore
    clock: Clock
    queue: Queue = field(default_factory=Queue)
    delays: Delays = field(default_factory=Delays)
    resolve_image: ImageResolver = lambda image: None

    def config(self, name: str) -> Mapping[str, str]:
        """Return the data of a ConfigMap of knative-serving, empty if it is not there."""
        found = self.store.find("ConfigMap", "knative-serving", name) or {}
        data: Mapping[str, str] = found.get("data") or {}
        return data


@dataclass(frozen=True)
class _Failure:
    count: int
    why: str


class Controller:
    """One control loop. Subclasses set the class fields and ``reconcile``."""

    name: str
    kind: str
    watches: frozenset[str] = frozenset()

    def __init__(self, world: World) -> None:
        self.world, self.store = world, world.store
        self._failures: dict[Key, _Failure] = {}

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return whom a change concerns: the object itself, or its owner of our kind."""
        if change.kind == self.kind:
            return [key_of(change.object)]
        owner = controller_of(change.object)
        if owner and self._owns(owner):
            return [(change.object["metadata"].get("namespace", ""), owner["name"])]
        return []

    def reconcile(self, namespace: str, name: str) -> None:
        """Bring one object nearer to what its spec says."""
        raise NotImplementedError

    def run(self, key: Key) -> None:
        """Reconcile a key; queue it again, later and later, if that fails."""
        before = self._failures.get(key)
        try:
            self.reconcile(*key)
        except ApiError as error:
            self.retry(key, error.message)
        except Exception as error:  # one object that breaks a controller must not stop the others
            self.retry(key, repr(error), error)
        if before is not None and self._failures[key] is before:
            del self._failures[key]
            log.info("%s: fine again after %d failures", self._about(key), before.count)

    def retry(self, key: Key, why: str, error: Exception | None = None) -> None:
        """Queue a key that failed again, with a growing delay; log what is news of it."""
        before = self._failures.get(key, _Failure(0, ""))
        failure = self._failures[key] = _Failure(before.count + 1, why)
        # The first, each that differs, and else the 2nd, 4th, 8th …
        if why != before.why or failure.count.bit_count() == 1:
            times = f"failed {failure.count} times" if before.count else "failed"
            log.warning("%s: %s: %s", self._about(key), times, why, exc_info=error)
        self.later(key, min(_RETRY_FIRST_S * 2 ** min(before.count, _DOUBLINGS), _RETRY_LAST_S))

    def later(self, key: Key, seconds: float) -> None:
        """Queue a key after some seconds of real time."""
        self.world.queue.add_after(self, key, seconds)

    def after(self, key: Key, seconds: float) -> None:
        """Queue a key after some seconds of sandbox time."""
        self.later(key, self.world.clock.real(seconds))

    def _about(self, key: Key) -> str:
        return f"controller {self.name}: {self.kind} {'/'.join(filter(None, key))}"

    def _owns(self, owner: Object) -> bool:
        kind = self.store.kinds[self.kind]
        return (owner["apiVersion"], owner["kind"]) == (kind.api_version, kind.kind)


def key_of(obj: Object) -> Key:
    """Return the namespace and name of an object."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def controller_of(obj: Object) -> Object | None:
    """Return the owner reference of the object that manages this one."""
    references = obj["metadata"].get("ownerReferences", [])
    return next((reference for reference in references if reference.get("controller")), None)


def owned_by(obj: Object, owner: Object) -> bool:
    """Tell whether ``owner`` manages ``obj``."""
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def owner_reference(owner: Object) -> Object:
    """Return the reference that makes ``owner`` manage an object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def deleting(obj: Object) -> bool:
    """Tell whether the object waits for its deletion."""
    return "deletionTimestamp" in obj["metadata"]

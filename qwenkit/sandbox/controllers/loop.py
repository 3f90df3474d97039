"""What is a control loop, and the queue that all of them share.

A controller names the kinds that it watches, turns each change into the keys of the objects that
it is responsible for, and reconciles one key at a time from what the store holds then. One worker
takes the keys in order; a key that waits is queued once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from qwenkit.sandbox.controllers.clock import Clock, loop_time
from qwenkit.sandbox.controllers.events import EventRecorder
from qwenkit.sandbox.controllers.object_fields import Key, controller_of, key_of
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.history import WatchEvent
from qwenkit.sandbox.kube.storage.store import ObjectStore

log = logging.getLogger("qwenkit.sandbox.controllers")

KNATIVE_NAMESPACE = "knative-serving"
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

        One timer for each key is enough: a reconciliation asks again for what is still to come.
        """
        timer, due = (controller.name, key), loop_time() + max(0.0, seconds)
        if (known := self._timers.get(timer)) and known.when() <= due:
            return
        if known:
            known.cancel()

        def fire() -> None:
            self._timers.pop(timer, None)
            self.add(controller, key)

        self._timers[timer] = asyncio.get_running_loop().call_at(due, fire)

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
    """How long the steps take that nothing else in the sandbox slows down, in real seconds.

    The values are those of a small real cluster; tests shorten them.
    """

    resolve_image: float = 0.05
    program_gateway: float = 0.2
    collect_garbage: float = 0.02
    finalize_route: float = 0.04
    """As recorded: between the second and the fourth generation of dependents deleted."""


@dataclass
class Context:
    """What every controller works with.

    ``resolve_image`` returns why an image's tag cannot be resolved, or None when it can.
    """

    store: ObjectStore
    clock: Clock
    resolve_image: ImageResolver
    queue: Queue = field(default_factory=Queue)
    delays: Delays = field(default_factory=Delays)

    def config(self, name: str) -> Mapping[str, str]:
        """Return the data of a ConfigMap of knative-serving, empty if there is none."""
        found = self.store.find("ConfigMap", KNATIVE_NAMESPACE, name) or {}
        data: Mapping[str, str] = found.get("data") or {}
        return data


@dataclass(frozen=True)
class _Failure:
    count: int
    why: str


class Controller:
    """One control loop. Subclasses set the class fields and ``reconcile``.

    ``configs`` are the ConfigMaps that concern every object of the kind, ``component`` is the
    source of the events.
    """

    name: str
    kind: str
    component = ""
    watches: frozenset[str] = frozenset()
    configs: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        self.context, self.store = context, context.store
        self.recorder = EventRecorder(context.store, self.component)
        self._failures: dict[Key, _Failure] = {}
        self._waits: dict[Key, tuple[object, float]] = {}

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return the keys that a change concerns: the object itself, or its owner of our kind."""
        if change.kind == self.kind:
            return [key_of(change.object)]
        if change.kind == "ConfigMap":
            ours = change.object["metadata"]["name"] in self.configs
            return [key_of(obj) for obj in self.store.list(self.kind)] if ours else []
        owner = controller_of(change.object)
        if owner and self._owns(owner):
            return [(change.object["metadata"].get("namespace", ""), owner["name"])]
        return []

    def reconcile(self, namespace: str, name: str) -> None:
        """Bring one object nearer to what its spec says."""
        raise NotImplementedError

    def run(self, key: Key) -> None:
        """Reconcile a key; queue it again, with a growing delay, if that fails."""
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
        """Queue a key that failed again, with a growing delay; log what is new about it."""
        before = self._failures.get(key, _Failure(0, ""))
        failure = self._failures[key] = _Failure(before.count + 1, why)
        # The first, each that differs, and else the 2nd, 4th, 8th …
        if why != before.why or failure.count.bit_count() == 1:
            times = f"failed {failure.count} times" if before.count else "failed"
            log.warning("%s: %s: %s", self._about(key), times, why, exc_info=error)
        self.later(key, min(_RETRY_FIRST_S * 2 ** min(before.count, _DOUBLINGS), _RETRY_LAST_S))

    def later(self, key: Key, seconds: float) -> None:
        """Queue a key after some seconds of real time."""
        self.context.queue.add_after(self, key, seconds)

    def after(self, key: Key, seconds: float) -> None:
        """Queue a key after some seconds of sandbox time."""
        self.later(key, self.context.clock.real(seconds))

    def waited(self, key: Key, what: object, seconds: float) -> bool:
        """Return whether real seconds have passed since the first call with the same ``what``.

        Until then each call queues the key for that moment. A key waits for one thing at a time.
        """
        known, due = self._waits.get(key, (None, 0.0))
        if known != what:
            due = loop_time() + seconds
            self._waits[key] = (what, due)
        left = due - loop_time()
        if left > 0:
            self.later(key, left)
        return left <= 0

    def write_status(self, obj: Object, status: Object) -> None:
        """Write an object's status, also if the object has changed since it was read."""
        metadata = {**obj["metadata"], "resourceVersion": None}
        self.store.update_status(self.kind, {**obj, "metadata": metadata, "status": status})

    def _about(self, key: Key) -> str:
        return f"controller {self.name}: {self.kind} {'/'.join(filter(None, key))}"

    def _owns(self, owner: Object) -> bool:
        kind = self.store.kinds[self.kind]
        return (owner["apiVersion"], owner["kind"]) == (kind.api_version, kind.kind)

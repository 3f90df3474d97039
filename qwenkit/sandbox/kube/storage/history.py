"""The latest changes of objects: watches replay them and subscribe to new ones."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from qwenkit.sandbox.kube.api_error import expired
from qwenkit.sandbox.kube.objects import Object, copied

WatchEventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True)
class WatchEvent:
    """One change of one object. ``kind`` is the unique name of its kind.

    ``previous`` is the object before the change (None for ADDED); do not modify it. ``size`` is
    that of the object as JSON, in bytes.
    """

    type: WatchEventType
    kind: str
    object: Object
    revision: int
    previous: Object | None = None
    size: int = 0


class Subscription:
    """New changes as an async iterator, until ``close()``."""

    def __init__(
        self,
        kinds: frozenset[str] | None,
        forget: Callable[[Subscription], None],
        most_bytes: float = math.inf,
    ) -> None:
        self._kinds, self._forget = kinds, forget
        self._waiting, self._most_bytes = 0, most_bytes
        self._queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        self._closed = False

    def offer(self, change: WatchEvent) -> None:
        """Queue a change of a subscribed kind; ignore others.

        A subscriber that is too far behind is closed: it must list again.
        """
        if self._kinds is None or change.kind in self._kinds:
            self._waiting += change.size
            if self._waiting > self._most_bytes:
                self.close()
            else:
                self._queue.put_nowait(change)

    def close(self) -> None:
        """End the iteration, also one that is waiting now."""
        if not self._closed:
            self._closed = True
            self._forget(self)
            self._queue.put_nowait(None)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> WatchEvent:
        if self._closed:
            raise StopAsyncIteration
        change = await self._queue.get()
        if change is None:
            raise StopAsyncIteration
        self._waiting -= change.size
        return replace(change, object=copied(change.object))


class History:
    """The last ``window`` changes, of ``most_bytes`` in all, and the subscriptions to new ones."""

    def __init__(self, window: int, most_bytes: int) -> None:
        self._changes: deque[WatchEvent] = deque()
        self._window, self._most_bytes, self._bytes = window, most_bytes, 0
        self._floor = 0
        self._subscriptions: list[Subscription] = []

    def restart(self, floor: int) -> None:
        """Forget all changes, up to a revision."""
        self._changes.clear()
        self._floor, self._bytes = floor, 0

    def add(self, change: WatchEvent) -> None:
        """Record a change and pass it to the subscriptions."""
        self._changes.append(change)
        self._bytes += change.size
        while len(self._changes) > self._window or self._bytes > self._most_bytes:
            oldest = self._changes.popleft()
            self._floor, self._bytes = oldest.revision, self._bytes - oldest.size
        for subscription in list(self._subscriptions):
            subscription.offer(change)

    def subscribe(self, kinds: Iterable[str] | None, most_bytes: float = math.inf) -> Subscription:
        """Start a subscription; None means every kind."""
        chosen = None if kinds is None else frozenset(kinds)
        subscription = Subscription(chosen, self._subscriptions.remove, most_bytes)
        self._subscriptions.append(subscription)
        return subscription

    def since(self, kind: str, revision: int) -> list[WatchEvent]:
        """Return the changes of a kind after a revision.

        Raises:
            ApiError: 410, the window does not reach back to the revision.
        """
        if revision < self._floor:
            raise expired(f"too old resource version: {revision} ({self._floor})")
        return [
            change for change in self._changes if change.revision > revision and change.kind == kind
        ]

    def rewind(
        self, kind: str, objects: Mapping[tuple[str, str], Object], revision: int
    ) -> dict[tuple[str, str], Object]:
        """Return the objects of a kind as they were at a revision.

        Raises:
            ApiError: 410, as for ``since``.
        """
        then = dict(objects)
        for change in reversed(self.since(kind, revision)):
            metadata = change.object["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            if change.previous is None:
                then.pop(key, None)
            else:
                then[key] = change.previous
        return then

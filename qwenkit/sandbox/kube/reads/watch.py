"""What a watch sends: the current state or the history, then each change as a line of JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.reads.selectors import Predicate
from qwenkit.sandbox.kube.storage.history import Subscription, WatchEvent
from qwenkit.sandbox.kube.storage.store import ObjectStore

BOOKMARK_EVERY_S = 60.0


@dataclass(frozen=True)
class Watch:
    """The parameters of a watch; with ``since`` None it starts with the existing objects."""

    kind: ResourceKind
    selects: Predicate
    render: Callable[[Object], Object]
    since: int | None
    timeout_s: float
    bookmarks: bool = False


async def lines(
    store: ObjectStore, watch: Watch, subscription: Subscription
) -> AsyncIterator[bytes]:
    """Yield the watch's events; ends at the timeout or when the subscription is closed.

    ``subscription`` must have been made in the same step of the event loop that starts this.
    """
    try:
        for first in _first(store, watch):
            yield first
    except ApiError as error:
        # Like the real server, report a version that is too old inside the stream.
        yield _line("ERROR", error.body())
        return
    deadline = time.monotonic() + watch.timeout_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(min(left, BOOKMARK_EVERY_S)):
                change = await anext(subscription)
        except TimeoutError:
            if watch.bookmarks:
                yield _bookmark(store, watch)
        except StopAsyncIteration:
            return
        else:
            if event := _event(watch, change):
                yield event


def _first(store: ObjectStore, watch: Watch) -> Iterator[bytes]:
    if watch.since is None:
        for obj in store.list(watch.kind):
            if watch.selects(obj):
                yield _line("ADDED", watch.render(obj))
        return
    for change in store.changes_since(watch.kind, watch.since):
        if event := _event(watch, change):
            yield event


def _event(watch: Watch, change: WatchEvent) -> bytes | None:
    """Return the event of a change: the selectors may begin or cease to match the object."""
    was = change.previous is not None and watch.selects(change.previous)
    if change.type != "DELETED" and watch.selects(change.object):
        return _line("MODIFIED" if was else "ADDED", watch.render(change.object))
    if not was:
        return None
    return _line("DELETED", watch.render(_last(change).object))


def _last(change: WatchEvent) -> WatchEvent:
    """Return the change with the last object that the selectors matched, at the new version."""
    if change.type == "DELETED" or change.previous is None:
        return change
    version = {"resourceVersion": str(change.revision)}
    last = {**change.previous, "metadata": {**change.previous["metadata"], **version}}
    return replace(change, object=last)


def _bookmark(store: ObjectStore, watch: Watch) -> bytes:
    metadata = {"resourceVersion": str(store.revision), "creationTimestamp": None}
    kind = watch.kind
    mark = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    return _line("BOOKMARK", mark)


def _line(event: str, obj: Any) -> bytes:
    text = json.dumps({"type": event, "object": obj}, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"

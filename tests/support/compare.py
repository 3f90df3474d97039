"""What does a sequence of changes in the sandbox do that a real cluster's recording does not?

Both are lines ``(seconds, type, object)``; type is ADDED, MODIFIED, DELETED, or ACTION for what was
done. For every object up to the delete: the ordered, distinct (status, reason, message) of its
Ready condition (what lasted under 0.2 s may be missing), the last value of every condition, the
events, the fields of the status. After the delete: the kinds that go, in order. Generated suffixes,
uids, times, versions and addresses do not count.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenkit.sandbox.kube.objects import Object, at, condition

SHORT_S = 0.2
TOGETHER_S = 0.05
Line = tuple[float, str, Object]
Mark = tuple[str, str, str]
_DROPPED = ("resourceVersion", "uid", "managedFields", "creationTimestamp", "generateName")
_TIMES = re.compile(r"(Time|Timestamp|startedAt|finishedAt|Modified)$")
_ADDRESSES = {"podIP", "hostIP", "ip", "containerID", "imageID"}
_SUFFIX = re.compile(r"-deployment-[0-9a-z]{6,10}(-[0-9a-z]{5})?(?![0-9a-z])")
_UID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_TOKEN = re.compile(r"kube-api-access-\w{5}")


@dataclass
class ObjectHistory:
    """What happened to one object."""

    ready: list[tuple[float, Mark]] = field(default_factory=list)
    last: Object = field(default_factory=dict)
    events: set[Mark] = field(default_factory=set)


@dataclass
class History:
    """What happened to all of them."""

    objects: dict[tuple[str, str], ObjectHistory] = field(default_factory=dict)
    gone: list[tuple[float, str]] = field(default_factory=list)
    leaving: set[str] = field(default_factory=set)
    end: float = 0.0

    def of(self, kind: str, name: str) -> ObjectHistory:
        """Return the history of an object, empty if it is new."""
        return self.objects.setdefault((kind, name), ObjectHistory())


def read(path: Path) -> list[Line]:
    """Read the lines of a recording."""
    lines = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    return [(seconds, kind, obj) for seconds, kind, obj in lines]


def history(lines: Iterable[Line]) -> History:
    """Sum up a sequence of changes."""
    lines = list(lines)
    made, deleted = History(), False
    objects = [obj for _, kind, obj in lines if kind == "ADDED" and obj["kind"] != "Event"]
    ours = {obj["metadata"]["name"] for obj in objects}
    for seconds, kind, obj in lines:
        if kind == "ACTION":
            deleted = deleted or obj.get("verb") == "delete"
        elif kind == "DELETED":
            deleted = deleted or (obj["kind"] == "Service" and "knative" in obj["apiVersion"])
            if obj["kind"] != "Event" and obj["metadata"]["name"] in ours:
                made.gone.append((seconds, obj["kind"]))
        elif kind in ("ADDED", "MODIFIED"):
            if "deletionTimestamp" in obj["metadata"]:
                made.leaving.add(obj["kind"])
            if not deleted:
                made.end = seconds
                _add(made, ours, seconds, obj)
    return made


def differences(recorded: History, seen: History) -> list[str]:
    """Return what differs, one line each; nothing if the two agree."""
    found = []
    for key in sorted(recorded.objects.keys() | seen.objects.keys()):
        label = "/".join(key)
        if key not in seen.objects:
            found.append(f"{label}: is missing")
        elif key not in recorded.objects:
            found.append(f"{label}: is not in the recording")
        else:
            theirs, mine = recorded.objects[key], seen.objects[key]
            found += [f"{label}: {line}" for line in _compare(theirs, mine, recorded.end)]
    return found + _compare_order(recorded, seen)


def _normalized(value: Any, key: str = "") -> Any:
    """Return a value with everything generated replaced by a fixed word."""
    if isinstance(value, Mapping):
        return {
            name: _normalized(item, name)
            for name, item in value.items()
            if name not in _DROPPED and not _TIMES.search(name)
        }
    if isinstance(value, list):
        return [_normalized(item, key) for item in value]
    if key in _ADDRESSES and value:
        return "<generated>"
    return _plain(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    text = _SUFFIX.sub(lambda m: f"-deployment-HASH{'-POD' if m[1] else ''}", text)
    return _TOKEN.sub("kube-api-access-TOKEN", _UID.sub("UID", text))


def _add(made: History, ours: set[str], seconds: float, obj: Object) -> None:
    if obj["kind"] == "Event":
        about = obj["involvedObject"]
        if about["kind"] == "ReplicaSet" or about["name"] in ours:
            event = (obj["type"], obj["reason"], _plain(obj["message"]))
            made.of(about["kind"], _plain(about["name"])).events.add(event)
    elif obj["metadata"]["name"] in ours:
        one = made.of(obj["kind"], _plain(obj["metadata"]["name"]))
        one.last = obj
        if ready := condition(obj, "Ready"):
            mark = (ready["status"], ready.get("reason", ""), _plain(ready.get("message", "")))
            if not one.ready or one.ready[-1][1] != mark:
                one.ready.append((seconds, mark))


def _compare(theirs: ObjectHistory, mine: ObjectHistory, end: float) -> Iterator[str]:
    yield from _compare_ready(theirs.ready, [mark for _, mark in mine.ready], end)
    yield from _compare_values(_status(theirs.last), _status(mine.last), "status")
    for event in sorted(theirs.events - mine.events):
        yield f"event missing: {' | '.join(event)}"
    for event in sorted(mine.events - theirs.events):
        yield f"event added: {' | '.join(event)}"


def _compare_ready(theirs: list[tuple[float, Mark]], mine: list[Mark], end: float) -> Iterator[str]:
    """Walk both sequences; ours must be theirs, of which short states may be left out."""
    until = [seconds for seconds, _ in theirs[1:]] + [end]
    position = 0
    for (seconds, mark), next_seconds in zip(theirs, until, strict=False):
        if position < len(mine) and mine[position] == mark:
            position += 1
        elif next_seconds - seconds >= SHORT_S:
            yield f"Ready missing: {mark} (lasted {next_seconds - seconds:.2f} s)"
    for mark in mine[position:]:
        yield f"Ready added: {mark}"


def _status(obj: Object) -> Any:
    conditions = {one["type"]: one for one in at(obj, "status", "conditions") or []}
    return _normalized({**(obj.get("status") or {}), "conditions": conditions})


def _compare_values(theirs: Any, mine: Any, path: str) -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for key in sorted(theirs.keys() | mine.keys()):
            if key not in mine:
                yield f"{path}.{key} missing: {theirs[key]!r}"
            elif key not in theirs:
                yield f"{path}.{key} added: {mine[key]!r}"
            else:
                yield from _compare_values(theirs[key], mine[key], f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        for index, (one, other) in enumerate(zip(theirs, mine, strict=True)):
            yield from _compare_values(one, other, f"{path}[{index}]")
    elif theirs != mine:
        yield f"{path}: {theirs!r} became {mine!r}"


def _compare_order(theirs: History, mine: History) -> list[str]:
    """Compare when each kind was first gone; kinds that went within a moment may change places.

    What was still leaving when the recording stopped may be gone or not.
    """
    first: dict[str, float] = {}
    for seconds, kind in theirs.gone:
        first.setdefault(kind, seconds)
    order = list(dict.fromkeys(kind for _, kind in mine.gone))
    order = [kind for kind in order if kind in first or kind not in theirs.leaving]
    found = [f"not gone: {kind}" for kind in first if kind not in order]
    found += [f"gone, but not in the recording: {kind}" for kind in order if kind not in first]
    known = [kind for kind in order if kind in first]
    for index, kind in enumerate(known):
        for later in known[index + 1 :]:
            if first[kind] - first[later] > TOGETHER_S:
                found.append(f"{kind} went before {later}; in the recording after it")
    return found

"""What counts as a change of an object, and how long its deletion waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at, parse_timestamp, timestamp
from qwenkit.sandbox.kube.storage import defaults

SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "generation",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_MOST_GRACE_S = 2**31 - 1  # 68 years: no date of Python reaches as far as Go's


def keep(new: Object, old: Object, fields: tuple[str, ...]) -> None:
    """Copy fields from ``old`` to ``new``; remove those that ``old`` does not have."""
    for field in fields:
        if old.get(field) is None:
            new.pop(field, None)
        else:
            new[field] = old[field]


def substance(obj: Object) -> Any:
    """Return what makes a write a change: everything but the times of ``managedFields``."""
    metadata = dict(obj["metadata"])
    managers = metadata.pop("managedFields", None)
    stamped = [{**entry, "time": None} for entry in managers or []]
    return {**obj, "metadata": metadata}, stamped


def spec_part(kind: ResourceKind, obj: Object) -> Object:
    """Return the part of an object whose changes count as a new generation."""
    if kind.name == "Pod":  # binding a pod to a node is not a new generation
        return {"spec": {key: value for key, value in obj["spec"].items() if key != "nodeName"}}
    if not kind.custom:
        return {"spec": obj.get("spec")}
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def grace_seconds(kind: ResourceKind, obj: Object, requested: int | None) -> int:
    """Return the grace period of a deletion, in seconds: 0 but for unfinished pods on a node."""
    if kind.name != "Pod" or not at(obj, "spec", "nodeName"):
        return 0
    if at(obj, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    if "deletionTimestamp" in obj["metadata"] and requested is None:
        return int(obj["metadata"].get("deletionGracePeriodSeconds", 0))
    own = at(obj, "spec", "terminationGracePeriodSeconds")
    default = defaults.DEFAULT_GRACE_SECONDS if own is None else int(own)
    grace = default if requested is None else requested
    return min(max(0, grace), _MOST_GRACE_S)


def mark_deleted(kind: ResourceKind, metadata: Object, grace: int, now: datetime) -> None:
    """Set the deletion fields; a later request can only shorten the grace period."""
    if "deletionTimestamp" not in metadata:
        metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace))
        metadata["deletionGracePeriodSeconds"] = grace
        if kind.generation:
            metadata["generation"] = metadata.get("generation", 0) + 1
        return
    given = metadata.get("deletionGracePeriodSeconds", 0)
    if grace < given:
        deleted_at = parse_timestamp(metadata["deletionTimestamp"]) - timedelta(seconds=given)
        metadata["deletionTimestamp"] = timestamp(max(now, deleted_at + timedelta(seconds=grace)))
        metadata["deletionGracePeriodSeconds"] = grace


def add_keeper(metadata: Object, propagation: str) -> None:
    """Add the garbage collector's finalizer for a Foreground or Orphan deletion."""
    keeper = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation)
    if keeper and keeper not in metadata.get("finalizers", []):
        metadata["finalizers"] = [*metadata.get("finalizers", []), keeper]

"""Whose an object is: the labels say ours, the rest of its metadata says who else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.cluster.kinds import (
    MANAGED_BY,
    RUN,
    annotations_of,
    is_going,
    kind_of,
    labels_of,
    name_of,
)
from qwenkit.errors import Conflict

_CREATORS = ("serving.knative.dev/creator", "meta.helm.sh/release-name")


def is_ours(obj: Mapping[str, Any], *, run: str) -> bool:
    """Tell whether an object carries both labels of this run."""
    labels = labels_of(obj)
    return labels.get(MANAGED_BY) == "qwenkit" and labels.get(RUN) == run


def require_ours(obj: Mapping[str, Any], *, run: str) -> None:
    """Refuse to touch what is not this run's.

    Raises:
        Conflict: names the owner as far as the object tells.
    """
    if is_ours(obj, run=run):
        return
    labels = labels_of(obj)
    kind, name = kind_of(obj), name_of(obj)
    if labels.get(MANAGED_BY) == "qwenkit":
        other = labels.get(RUN, "")
        why = f"it belongs to run {other!r}, this is run {run!r}"
        fix = f"tear that run down (--set run={other}), or choose other names for this one"
    else:
        why = f"it has no label {MANAGED_BY}=qwenkit; {owner(obj)}"
        fix = "choose another name (service, volume or namespace), or remove it yourself"
    raise Conflict(
        f"{kind} {name} exists and is not ours; it was left as it is",
        why,
        fix,
        kind=kind.kind,
        name=name,
    )


def require_staying(obj: Mapping[str, Any]) -> None:
    """Refuse to change what is being deleted: the change would go with it.

    Raises:
        Conflict: says what holds it.
    """
    if not is_going(obj):
        return
    kind, name = kind_of(obj), name_of(obj)
    holders = obj["metadata"].get("finalizers") or []
    raise Conflict(
        f"{kind} {name} is being deleted",
        f"it goes when its finalizers have: {', '.join(holders) or 'none'}",
        "qwenkit teardown waits for that and says what holds it; then try again",
        kind=kind.kind,
        name=name,
    )


def owner(obj: Mapping[str, Any]) -> str:
    """Say who made an object, from annotations and managed fields."""
    notes = annotations_of(obj)
    said = [f"{key.rpartition('/')[2]} {notes[key]!r}" for key in _CREATORS if key in notes]
    label = labels_of(obj).get(MANAGED_BY)
    if label:
        said.append(f"managed by {label!r}")
    managers = dict.fromkeys(
        str(field.get("manager"))
        for field in obj.get("metadata", {}).get("managedFields") or []
        if field.get("manager") and not field.get("subresource")
    )
    if managers:
        said.append(f"written by {', '.join(managers)}")
    return "; ".join(said) or "nothing in it says whose it is"

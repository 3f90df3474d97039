"""Who owns an object: the labels mark ours; annotations and managers name other owners."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from qwenkit.cluster.kinds import (
    PV,
    PVC,
    annotations_of,
    is_terminating,
    kind_of,
    labels_of,
    moment,
    name_of,
)
from qwenkit.errors import Conflict
from qwenkit.settings import ADMIN, EXPIRES_AT, MANAGED_BY, RUN_LABEL, WEIGHTS

ADMIN_MAKES = "an administrator makes it: qwenkit render --admin | kubectl apply -f -"
# What makes a volume another one; an administrator may choose the rest, such as the endpoint.
_SAME = (
    "volumeName",
    "claimRef.name",
    "csi.driver",
    "csi.nodePublishSecretRef.name",
    "csi.volumeAttributes.bucket",
    "csi.volumeAttributes.path",
    "csi.volumeAttributes.server",
)
_OTHER_NAME = "choose another name (service, volume or namespace), or remove it yourself"
_CREATORS = ("serving.knative.dev/creator", "meta.helm.sh/release-name")


def workshop_run(workshop: str) -> str:
    """Return the run whose label the objects of a workshop carry: no participant's own."""
    return f"workshop-{workshop}"


def is_ours(obj: Mapping[str, Any], *, run: str) -> bool:
    """Return whether an object carries both labels of this run; it may be its administrator's."""
    labels = labels_of(obj)
    return labels.get(MANAGED_BY) in ("qwenkit", ADMIN) and labels.get(RUN_LABEL, "") == run


def is_admins(obj: Mapping[str, Any], namespace: str) -> bool:
    """Return whether a volume or claim is an administrator's, made for a claim of ``namespace``.

    It carries that label, or it is a PV that nobody's label marks and that names the claim.
    """
    manager = labels_of(obj).get(MANAGED_BY)
    if kind_of(obj) == PVC or manager:
        return manager == ADMIN and not foreign_claim(obj, namespace)
    return ((obj.get("spec") or {}).get("claimRef") or {}).get("namespace") == namespace


def require_same(obj: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Require of a volume or claim that it holds what the settings say, whoever made it.

    Raises:
        Conflict: names the fields that differ.
    """
    fields = [path for path in _SAME if _field(obj, path) != _field(wanted, path)]
    if fields:
        found = ", ".join(f"{path} is {_field(obj, path)!r}" for path in fields)
        asked = ", ".join(f"{path} {_field(wanted, path)!r}" for path in fields)
        fix = f"the settings want {asked}: change them, or --set volume=NAME: {ADMIN_MAKES}"
        what = "is an administrator's and is for something else"
        raise _conflict(obj, what, f"its {found}", fix)


def _field(obj: Mapping[str, Any], path: str) -> Any:
    node: Any = obj.get("spec")
    for step in path.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


def expiry(obj: Mapping[str, Any]) -> datetime | None:
    """Return when an object expires; None if never, or if its annotation cannot be read."""
    try:
        found = moment(annotations_of(obj).get(EXPIRES_AT, ""))
    except ValueError:
        return None
    return found if found.tzinfo else None


def has_expired(obj: Mapping[str, Any]) -> bool:
    """Return whether an object of qwenkit's may be removed because its time is over."""
    end = expiry(obj)
    ours = labels_of(obj).get(MANAGED_BY) == "qwenkit"
    return ours and end is not None and end <= datetime.now(UTC)


def holds_weights(obj: Mapping[str, Any]) -> bool:
    """Return whether an object is a claim whose volume a Job has filled with weights."""
    return kind_of(obj) == PVC and WEIGHTS in annotations_of(obj)


def require_ours(obj: Mapping[str, Any], *, run: str, namespace: str = "") -> None:
    """Refuse to change an object that is not this run's.

    With ``namespace``, a PV for the claim of another one is refused, too.

    Raises:
        Conflict: names the owner as far as the object shows it.
    """
    labels = labels_of(obj)
    if namespace and (foreign := foreign_claim(obj, namespace)):
        why = f"it belongs to the claim {foreign}; a PV is one for the whole cluster"
        fix = another_volume(name_of(obj), namespace)
    elif is_ours(obj, run=run):
        return
    elif labels.get(MANAGED_BY) == "qwenkit":
        other = labels.get(RUN_LABEL, "")
        why = f"it belongs to run {other!r}, this is run {run!r}"
        fix = f"tear that run down (--set run={other}), or choose other names for this one"
    else:
        why = f"it has no label {MANAGED_BY}=qwenkit; {owner(obj)}"
        fix = _OTHER_NAME
    raise _conflict(obj, "exists and is not ours; it was not changed", why, fix)


def foreign_claim(obj: Mapping[str, Any], namespace: str) -> str:
    """Return the claim of another namespace that a PV is for, empty if there is none."""
    claim = (obj.get("spec") or {}).get("claimRef") or {} if kind_of(obj) == PV else {}
    there = claim.get("namespace")
    return f"{there}/{claim.get('name')}" if there and there != namespace else ""


def another_volume(name: str, namespace: str) -> str:
    """Say how to do without a PV that is another's: a name of one's own, as a command."""
    own = f"{name}-{namespace}"[:63].rstrip("-")
    return f"choose another volume: --set volume={own}"


def require_unshared(obj: Mapping[str, Any], *, manager: str) -> None:
    """Refuse an object that we meant to create, if others have written to it.

    The answer to a creation names one manager, the one who sent it.

    Raises:
        Conflict: names the owner as far as the object shows it.
    """
    fields = obj["metadata"].get("managedFields") or []
    if any(field.get("manager") != manager for field in fields):
        what = "was created by somebody else at the same time"
        raise _conflict(obj, what, owner(obj), _OTHER_NAME)


def require_not_terminating(obj: Mapping[str, Any]) -> None:
    """Refuse to change an object that is being deleted: the change would be lost.

    Raises:
        Conflict: names the finalizers.
    """
    if is_terminating(obj):
        finalizers = ", ".join(obj["metadata"].get("finalizers") or []) or "none"
        why = f"it is removed once its finalizers are: {finalizers}"
        fix = "qwenkit teardown waits for that and names what blocks it; then try again"
        raise _conflict(obj, "is being deleted", why, fix)


def _conflict(obj: Mapping[str, Any], what: str, why: str, fix: str) -> Conflict:
    kind, name = kind_of(obj), name_of(obj)
    return Conflict(f"{kind} {name} {what}", why, fix, kind=kind.kind, name=name)


def owner(obj: Mapping[str, Any]) -> str:
    """Describe who made an object, from annotations and managed fields."""
    notes = annotations_of(obj)
    facts = [f"{key.rpartition('/')[2]} {notes[key]!r}" for key in _CREATORS if key in notes]
    label = labels_of(obj).get(MANAGED_BY)
    if label:
        facts.append(f"managed by {label!r}")
    managers = dict.fromkeys(
        str(field.get("manager"))
        for field in obj.get("metadata", {}).get("managedFields") or []
        if field.get("manager") and not field.get("subresource")
    )
    if managers:
        facts.append(f"written by {', '.join(managers)}")
    return "; ".join(facts) or "it names no owner"

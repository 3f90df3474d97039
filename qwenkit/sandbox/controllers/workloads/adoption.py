"""Who manages what by its labels: adopting what nobody controls, letting go of what no longer fits.

So ``kubectl delete --cascade=orphan`` can be followed by a new owner, and a pod whose label was
changed runs on for whoever wants to look at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qwenkit.sandbox.controllers.loop import (
    Key,
    controller_of,
    deleting,
    key_of,
    owned_by,
    owner_reference,
)
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.store import ObjectStore


def claim(store: ObjectStore, owner: Object, kind: str) -> list[Object]:
    """Return the objects of a kind that ``owner`` manages, once it has adopted and let go.

    An owner that is being deleted does neither: its orphans are not to come back to it.
    """
    claimed = []
    for obj in store.list(kind, owner["metadata"]["namespace"]):
        fits = selects(owner["spec"]["selector"], _labels(obj))
        if owned_by(obj, owner):
            if fits:
                claimed.append(obj)
            elif not deleting(owner):
                _release(store, owner, kind, obj)
        elif fits and controller_of(obj) is None and not (deleting(owner) or deleting(obj)):
            claimed.append(_adopt(store, owner, kind, obj))
    return claimed


def claimants(store: ObjectStore, kind: str, obj: Object) -> Iterable[Key]:
    """Return who of a kind may adopt an object: none if somebody controls it."""
    if controller_of(obj) is not None:
        return []
    owners = store.list(kind, obj["metadata"]["namespace"])
    return [key_of(one) for one in owners if selects(one["spec"]["selector"], _labels(obj))]


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Tell whether a ``LabelSelector`` selects what has these labels."""
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    return all(_meets(labels, rule) for rule in selector.get("matchExpressions") or [])


def _meets(labels: Mapping[str, str], rule: Object) -> bool:
    key, operator, values = rule["key"], rule["operator"], rule.get("values", [])
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return bool((key in labels) == (operator == "Exists"))


def _adopt(store: ObjectStore, owner: Object, kind: str, obj: Object) -> Object:
    metadata = obj["metadata"]
    metadata["ownerReferences"] = [*metadata.get("ownerReferences", []), owner_reference(owner)]
    return store.update(kind, obj)


def _release(store: ObjectStore, owner: Object, kind: str, obj: Object) -> None:
    metadata, uid = obj["metadata"], owner["metadata"]["uid"]
    others = [one for one in metadata.pop("ownerReferences") if one["uid"] != uid]
    if others:
        metadata["ownerReferences"] = others
    store.update(kind, obj)


def _labels(obj: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return labels

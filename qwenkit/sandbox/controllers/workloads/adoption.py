"""Which objects does an owner manage by their labels? It adopts orphans and releases others.

So a new owner can follow ``kubectl delete --cascade=orphan``, and a pod whose label was changed
keeps running for a person to inspect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qwenkit.sandbox.controllers.object_fields import (
    Key,
    controller_of,
    deleting,
    key_of,
    labels_of,
    owned_by,
    owner_reference,
)
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore


def adopt_and_release(store: ObjectStore, owner: Object, kind: str) -> list[Object]:
    """Return the objects of a kind that ``owner`` manages, after it has adopted and released some.

    An owner that is being deleted does neither: it must not adopt its own orphans.
    """
    managed = []
    for obj in store.list(kind, owner["metadata"]["namespace"]):
        fits = selects(owner["spec"]["selector"], labels_of(obj))
        if owned_by(obj, owner):
            if fits:
                managed.append(obj)
            elif not deleting(owner):
                _release(store, owner, kind, obj)
        elif fits and controller_of(obj) is None and not (deleting(owner) or deleting(obj)):
            managed.append(_adopt(store, owner, kind, obj))
    return managed


def possible_owners(store: ObjectStore, kind: str, obj: Object) -> Iterable[Key]:
    """Return the objects of a kind that may adopt an object: none if it has a controller."""
    if controller_of(obj) is not None:
        return []
    owners = store.list(kind, obj["metadata"]["namespace"])
    return [key_of(one) for one in owners if selects(one["spec"]["selector"], labels_of(obj))]


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Return whether a ``LabelSelector`` matches these labels."""
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

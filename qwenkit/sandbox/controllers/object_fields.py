"""What do controllers read and write in any object: key, labels, owners, finalizers?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore

Key = tuple[str, str]


def key_of(obj: Object) -> Key:
    """Return the namespace and name of an object."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def labels_of(obj: Object) -> dict[str, Any]:
    """Return the labels of an object."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, Any]:
    """Return the annotations of an object."""
    return obj["metadata"].get("annotations") or {}


def deleting(obj: Object) -> bool:
    """Return whether the object waits for its deletion."""
    return "deletionTimestamp" in obj["metadata"]


def controller_of(obj: Object) -> Object | None:
    """Return the owner reference of the object that manages this one."""
    references = obj["metadata"].get("ownerReferences", [])
    return next((reference for reference in references if reference.get("controller")), None)


def owned_by(obj: Object, owner: Object) -> bool:
    """Return whether ``owner`` manages ``obj``."""
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


def child_metadata(
    owner: Object, name: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Object:
    """Return the metadata of an object that ``owner`` manages."""
    return {
        "name": name,
        "namespace": owner["metadata"]["namespace"],
        "labels": dict(labels),
        "annotations": dict(annotations),
        "ownerReferences": [owner_reference(owner)],
    }


def set_finalizer(
    store: ObjectStore, kind: str, obj: Object, finalizer: str, *, present: bool
) -> bool:
    """Add or remove a finalizer; return whether that changed the object."""
    finalizers = obj["metadata"].get("finalizers", [])
    if (finalizer in finalizers) == present:
        return False
    others = [one for one in finalizers if one != finalizer]
    obj["metadata"]["finalizers"] = [*others, finalizer] if present else others
    obj.update(store.update(kind, obj))
    return True


def set_condition(status: Object, new: Object) -> None:
    """Put a condition in the place of the one of the same type."""
    others = [one for one in status.get("conditions", []) if one["type"] != new["type"]]
    status["conditions"] = [*others, new]

"""Objects as anyone may have written them down: a field of the wrong type is left out."""

from __future__ import annotations

from typing import Any

from qwenkit.cluster.kinds import Obj

# The type of each field that a rule reads, by its name. A ``status`` is a map in an object and a
# text in a condition.
_FIELDS = {
    dict: "metadata spec template labels annotations state lastState waiting running terminated "
    "series involvedObject resources limits requests allocatable persistentVolumeClaim csi "
    "claimRef data",
    list: "conditions containerStatuses initContainerStatuses containers initContainers volumes "
    "ownerReferences ports",
    str: "apiVersion kind name namespace uid reason message type status phase nodeName claimName "
    "driver volumeName storageClassName image creationTimestamp deletionTimestamp eventTime "
    "lastTimestamp lastObservedTime latestCreatedRevisionName volumeBindingMode",
    int: "restartCount exitCode count generation observedGeneration containerPort",
}
_TYPES: dict[str, type] = {name: kind for kind, names in _FIELDS.items() for name in names.split()}
_WORDS = ("labels", "annotations", "data", "limits", "requests", "allocatable")


def tidy(obj: Obj) -> Obj:
    """Return an object with the types that the rules rely on; a null is left out."""
    status = _map(obj["status"]) if isinstance(obj.get("status"), dict) else {}
    found = {"apiVersion": "v1", "kind": "", "metadata": {}, "spec": {}, **_map(obj)}
    return found | {"status": status}


def _map(value: dict[str, Any]) -> dict[str, Any]:
    found = {name: _field(name, each) for name, each in value.items()}
    return {name: each for name, each in found.items() if each is not None}


def _field(name: str, value: Any) -> Any:
    wanted = _TYPES.get(name)
    if wanted and not isinstance(value, wanted):
        return None
    if isinstance(value, dict):
        if name in _WORDS:
            return {key: each for key, each in value.items() if isinstance(each, str | int)}
        return _map(value)
    if isinstance(value, list):
        maps = [_map(each) if isinstance(each, dict) else each for each in value]
        return [each for each in maps if wanted is None or isinstance(each, dict)]
    return value

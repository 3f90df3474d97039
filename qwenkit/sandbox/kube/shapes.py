"""JSON types of the fields that the server itself reads, checked before anything reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qwenkit.sandbox.kube.api_error import bad_request
from qwenkit.sandbox.kube.kinds import Kind

QUANTITY = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
QUANTITY_RULE = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
# str and dict stand for themselves, a one-item list for a list, "*" for any key, the pattern for
# a quantity.
_STRINGS = {"*": str}
_QUANTITIES = {"*": QUANTITY}
_STATUS = {"conditions": [{"type": str, "status": str}]}
_METADATA = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "labels": _STRINGS,
    "annotations": _STRINGS,
    "finalizers": [str],
    "ownerReferences": [{}],
}
_CONTAINER = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "env": [{}],
    "volumeMounts": [{}],
    "ports": [{}],
    "resources": {"limits": _QUANTITIES, "requests": _QUANTITIES},
    "readinessProbe": {},
    "livenessProbe": {},
    "startupProbe": {},
}
_SHAPES: dict[str, Mapping[str, Any]] = {
    "ConfigMap": {"data": _STRINGS, "binaryData": _STRINGS},
    "Secret": {"data": _STRINGS, "stringData": _STRINGS, "type": str},
    "Pod": {
        "spec": {"containers": [_CONTAINER], "initContainers": [_CONTAINER], "volumes": [{}]},
    },
    "Node": {"status": {"allocatable": _QUANTITIES, "capacity": _QUANTITIES}},
    "PersistentVolume": {
        "spec": {"accessModes": [str], "capacity": {}, "csi": {}, "claimRef": {}},
    },
    "PersistentVolumeClaim": {"spec": {"accessModes": [str], "resources": {"requests": {}}}},
    "Service": {"spec": {"ports": [{}]}},
    "Deployment": {"spec": {}},
    "ReplicaSet": {"spec": {}},
    "Namespace": {"spec": {}},
    "CSIDriver": {"spec": {}},
}
_GO_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}


def check(kind: Kind, obj: Mapping[str, Any]) -> None:
    """Check the JSON types of an object's fields, as decoding into Go's types does.

    Raises:
        ApiError: 400; the message names the field and the types, never the value.
    """
    problem = next(_problems({"metadata": _METADATA, "status": _STATUS}, obj, ""), None)
    struct = "ObjectMeta"
    if problem is None:
        problem = next(_problems(_SHAPES.get(kind.name, {}), obj, ""), None)
        struct = kind.kind
    if problem:
        path, found, wanted = problem
        if wanted == QUANTITY_RULE:
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"{QUANTITY_RULE}"
            )
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: json: '
            f"cannot unmarshal {found} into Go struct field {struct}.{path} of type {wanted}"
        )


def without_nulls(value: Any) -> Any:
    """Return a deep copy without null fields: to the API, null and absent are the same."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _problems(shape: Any, value: Any, path: str) -> Iterator[tuple[str, str, str]]:
    found = _GO_NAMES.get(type(value), "object")
    if shape is str:
        if not isinstance(value, str):
            yield path, found, "string"
    elif shape is QUANTITY:
        if isinstance(value, bool) or not QUANTITY.fullmatch(str(value)):
            yield path, found, QUANTITY_RULE
    elif isinstance(shape, list):
        if isinstance(value, list):
            for item in value:
                yield from _problems(shape[0], item, path)
        else:
            yield path, found, "slice"
    elif not isinstance(value, dict):
        yield path, found, "map" if "*" in shape else "object"
    else:
        for key, item in value.items():
            below = shape.get(key, shape.get("*"))
            if below is not None:
                # Go names the map, not its key.
                yield from _problems(below, item, _join(path, key) if key in shape else path)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key

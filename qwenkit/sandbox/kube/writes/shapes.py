"""JSON types of the fields that the server itself reads, checked before anything reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.schema import builtin, fields

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
_CONTAINERS: Mapping[str, type[Any]] = {"list": list, "dict": dict}
# Of the models' types: what Go calls them, and what JSON gives.
_TYPES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "str": ("string", (str,)),
    "bytes": ("[]uint8", (str,)),
    "datetime": ("v1.Time", (str,)),
    "int": ("int32", (int,)),
    "float": ("float64", (int, float)),
    "bool": ("bool", (bool,)),
}
_GO_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}


def check(kind: Kind, obj: Mapping[str, Any]) -> None:
    """Check the JSON types of an object's fields, as decoding into Go's types does.

    Raises:
        ApiError: 400; the message names the field and the types, never the value.
    """
    everyone = {"metadata": _METADATA, "status": _STATUS}
    for struct, shape in (("ObjectMeta", everyone), (kind.kind, _SHAPES.get(kind.name, {}))):
        for path, found, wanted in _problems(shape, obj, ""):
            raise _misfit(kind, struct, path, found, wanted)
    if fields.is_declared_elsewhere(kind):
        for struct, path, found, wanted in _mistyped(builtin.model_of(kind), obj, ""):
            raise _misfit(kind, struct, path, found, wanted)


def _misfit(kind: Kind, struct: str, path: str, found: str, wanted: str) -> ApiError:
    text = f"json: cannot unmarshal {found} into Go struct field {struct}.{path} of type {wanted}"
    return bad_request(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
        f"{QUANTITY_RULE if wanted == QUANTITY_RULE else text}"
    )


def without_nulls(value: Any) -> Any:
    """Return a deep copy without null fields: to the API, null and absent are the same."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _problems(shape: Any, value: Any, path: str) -> Iterator[tuple[str, str, str]]:
    found = _go_name(value)
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


def _mistyped(model: str, obj: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield struct, field, found and wanted type of what does not fit a model."""
    for field in builtin.fields(model):
        value, here = obj.get(field.name), _join(path, field.name)
        struct, container = builtin.title(model), _CONTAINERS.get(field.form)
        if value is None:
            continue
        if container is None:
            yield from _mistyped_item(field, value, struct, here)
        elif not isinstance(value, container):
            yield struct, here, _go_name(value), "map" if container is dict else "slice"
        else:
            for item in value.values() if container is dict else value:
                yield from _mistyped_item(field, item, struct, here)


def _mistyped_item(
    field: builtin.Field, value: Any, struct: str, path: str
) -> Iterator[tuple[str, str, str, str]]:
    if builtin.is_model(field.type):
        if isinstance(value, dict):
            yield from _mistyped(field.type, value, path)
        else:
            yield struct, path, _go_name(value), f"v1.{builtin.title(field.type)}"
    elif not field.is_quantity and field.type in _TYPES:
        go, python = _TYPES[field.type]
        if not isinstance(value, python) or isinstance(value, bool) is not (go == "bool"):
            yield struct, path, _go_name(value), go


def _go_name(value: Any) -> str:
    return _GO_NAMES.get(type(value), "object")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key

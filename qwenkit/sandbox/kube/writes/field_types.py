"""Check that the fields of a written object have the JSON types that Go's decoder accepts.

This comes before anything reads the fields. The types are those of the official client's models;
the specs of Knative's kinds are left to its webhook, which decodes them itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

from qwenkit.admission.schema import quantities
from qwenkit.sandbox.kube.api_error import bad_request
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import parse_timestamp
from qwenkit.sandbox.kube.schema.built_in_kinds import ModelField, fields, is_model, model_of, title

_CONTAINERS: Mapping[str, type[Any]] = {"list": list, "dict": dict}
# The models' types: their names in Go, and their types in decoded JSON.
_TYPES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "str": ("string", (str,)),
    "bytes": ("[]uint8", (str,)),
    "datetime": ("v1.Time", (str,)),
    "int": ("int32", (int,)),
    "float": ("float64", (int, float)),
    "bool": ("bool", (bool,)),
}
# The status of a Knative kind has conditions, like that of a Service.
_OF_CUSTOM_KINDS = (
    ModelField("metadata", "", "V1ObjectMeta", "", True),
    ModelField("status", "", "V1ServiceStatus", "", False),
)
_GO_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}


def check(kind: ResourceKind, obj: Mapping[str, Any]) -> None:
    """Check the JSON types of an object's fields, as decoding into Go's types does.

    Raises:
        ApiError: 400; the message names the field and the types, never the value.
    """
    for problem in _problems(kind, obj):
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {problem}'
        )


def without_nulls(value: Any) -> Any:
    """Return a deep copy without null fields: to the API, null and absent are the same."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _problems(kind: ResourceKind, obj: Mapping[str, Any]) -> Iterator[str]:
    if not kind.custom:
        yield from _of(model_of(kind), obj, "")
        return
    for field in _OF_CUSTOM_KINDS:
        value = obj.get(field.name)
        if isinstance(value, Mapping) and field.name == "metadata":
            yield from _of(field.type, value, "")  # decoded by itself
        elif value is not None:
            yield from _item(field, value, kind.kind, field.name)


def _of(model: str, obj: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield what does not fit a model."""
    for field in fields(model):
        value, here = obj.get(field.name), f"{path}.{field.name}" if path else field.name
        struct, container = title(model), _CONTAINERS.get(field.form)
        if value is None:
            continue
        if container is None:
            yield from _item(field, value, struct, here)
        elif not isinstance(value, container):
            yield _misfit(struct, here, value, "map" if container is dict else "slice")
        else:
            for item in value.values() if container is dict else value:
                yield from _item(field, item, struct, here)


def _item(field: ModelField, value: Any, struct: str, path: str) -> Iterator[str]:
    if is_model(field.type):
        if isinstance(value, dict):
            yield from _of(field.type, value, path)
        else:
            yield _misfit(struct, path, value, f"v1.{title(field.type)}")
    elif field.is_quantity:
        try:
            quantities.parse(value)
        except ValueError as error:
            yield str(error)
    elif field.type in _TYPES:
        go, python = _TYPES[field.type]
        if not isinstance(value, python) or isinstance(value, bool) is not (go == "bool"):
            yield _misfit(struct, path, value, go)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield _misfit(struct, path, value, "int64")
        elif field.name == "replicas" and isinstance(value, int) and abs(value) >= 2**31:
            yield _misfit(struct, path, value, go)
        elif field.type == "datetime" and isinstance(value, str) and not _is_time(value):
            layout = '"\\"2006-01-02T15:04:05Z07:00\\""'
            yield f"parsing time {json.dumps(json.dumps(value[:40]))} as {layout}: cannot parse"


def _is_time(text: str) -> bool:
    """Return whether a text is a time of RFC 3339 that this server can compare."""
    try:
        return "T" in text and parse_timestamp(text).astimezone(UTC) is not None
    except (ValueError, OverflowError):
        return False


def _misfit(struct: str, path: str, value: Any, wanted: str) -> str:
    found = _GO_NAMES.get(type(value), "object")
    return f"json: cannot unmarshal {found} into Go struct field {struct}.{path} of type {wanted}"

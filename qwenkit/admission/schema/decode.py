"""Decode an object as the API server and then the webhook's Go code do.

Unknown fields and empty values are dropped, quantities take their canonical form, and a value of
the wrong type is refused in the words of Go's ``encoding/json``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from qwenkit.admission.schema import knative, quantities
from qwenkit.admission.schema.types import (
    INT32,
    INT_OR_STRING,
    QUANTITY,
    STRING,
    URL,
    ListOf,
    MapOf,
    Opaque,
    Scalar,
    Struct,
    Type,
    zero,
)

_BITS = {"int32": 32, "int64": 64}
_OWN_METADATA = "ObjectMeta"
_TOP_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


class DecodeError(Exception):
    """A value does not fit its field; the text is that of Go's decoder."""


def decode(obj: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a copy of ``obj`` with the fields that its kind has.

    Raises:
        DecodeError: a value has the wrong type.
    """
    found = {name: obj[name] for name in _TOP_FIELDS if obj.get(name) is not None}
    if "spec" in found:
        found["spec"] = _value(found["spec"], knative.SPECS[kind], kind, ("spec",))
    if "status" in found:
        found["status"] = _value(found["status"], Opaque("v1.Status"), kind, ("status",))
    return found


def decode_metadata(metadata: object) -> dict[str, Any]:
    """Return a copy of an object's metadata with the fields that metadata has.

    Raises:
        DecodeError: a value has the wrong type.
    """
    found: dict[str, Any] = _value(metadata, knative.METADATA, _OWN_METADATA, ("metadata",))
    return found


def duplicates(spec: object, of: Type, path: str) -> list[tuple[str, str]]:
    """Return the list entries whose key repeats: ``(path, key as JSON)`` for each.

    The API server does not look into the open parts.
    """
    if isinstance(of, Struct) and isinstance(spec, dict):
        return [
            found
            for name, child in spec.items()
            if name in of.fields and not of.open
            for found in duplicates(child, of.fields[name], f"{path}.{name}")
        ]
    if not isinstance(of, ListOf) or not isinstance(spec, list):
        return []
    found = []
    seen: set[str] = set()
    for index, item in enumerate(spec):
        here = f"{path}[{index}]"
        key = str(item.get(of.key, "")) if of.key and isinstance(item, dict) else None
        if key is not None and key in seen:
            found.append((here, _compact({of.key: key})))
        if key is not None:
            seen.add(key)
        found += duplicates(item, of.item, here)
    return found


def nulls(value: object, of: Type, path: str) -> list[str]:
    """Return the paths of required lists that are absent, which Go writes as ``null``."""
    if isinstance(of, ListOf) and isinstance(value, list):
        return [
            found
            for index, item in enumerate(value)
            for found in nulls(item, of.item, f"{path}[{index}]")
        ]
    if not isinstance(of, Struct) or not isinstance(value, dict):
        return []
    found = []
    for name, field in of.fields.items():
        if name in value:
            found += nulls(value[name], field, f"{path}.{name}")
        elif isinstance(field, ListOf) and field.required:
            found.append(f"{path}.{name}")
    return found


def _value(value: Any, of: Type, root: str, path: tuple[str, ...]) -> Any:
    match of:
        case Struct():
            return _struct(value, of, root, path)
        case MapOf():
            _need(value, dict, of, root, path)
            # The API server drops null entries, but not those of the object's own metadata.
            kept = (k for k in value if value[k] is not None or root == _OWN_METADATA)
            return {
                str(key): _item(value[key], of.value, root, (*path, str(key)))
                for key in sorted(kept, key=str)
            }
        case ListOf():
            _need(value, list, of, root, path)
            return [
                _item(item, of.item, root, (*path, str(index))) for index, item in enumerate(value)
            ]
        case Opaque():
            _need(value, of.kind, of, root, path)
            return copy.deepcopy(value)
        case Scalar():
            return _scalar(value, of, root, path)


def _item(value: Any, of: Type, root: str, path: tuple[str, ...]) -> Any:
    """Decode an entry of a list or map."""
    return zero(of) if value is None else _value(value, of, root, path)


def _struct(value: Any, of: Struct, root: str, path: tuple[str, ...]) -> dict[str, Any]:
    _need(value, dict, of, root, path)
    found: dict[str, Any] = zero(of)
    for name in sorted(value, key=str):
        if name in of.fields and value[name] is not None:
            decoded = _value(value[name], of.fields[name], root, (*path, name))
            if not _is_omitted(decoded, of.fields[name]):
                found[name] = decoded
    return found


def _is_omitted(decoded: Any, of: Type) -> bool:
    match of:
        case Struct():
            return False
        case Scalar():
            return not decoded and not of.pointer
        case ListOf():
            return not decoded and not of.required
        case MapOf():
            return not decoded
        case Opaque():
            return not decoded and of.kind is list


def _scalar(value: Any, of: Scalar, root: str, path: tuple[str, ...]) -> Any:
    if of == QUANTITY:
        return _quantity(value)
    if of == URL:
        _need(value, str, STRING, "", ())
        return value
    if of == INT_OR_STRING:
        return value if isinstance(value, str) else _integer(value, INT32, "", ())
    if of.go in _BITS:
        return _integer(value, of, root, path)
    _need(value, bool if of.go == "bool" else str, of, root, path)
    return value


def _quantity(value: Any) -> str:
    try:
        return quantities.canonical(value)
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _integer(value: Any, of: Scalar, root: str, path: tuple[str, ...]) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(_mismatch(_json_kind(value), of, root, path))
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # the API server already wrote 1.0 as 1
    bits = _BITS[of.go]
    if not isinstance(value, int) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise DecodeError(_mismatch(f"number {_compact(value)}", of, root, path))
    return value


def _need(value: Any, wanted: type, of: Type, root: str, path: tuple[str, ...]) -> None:
    if not isinstance(value, wanted):
        raise DecodeError(_mismatch(_json_kind(value), of, root, path))


def _mismatch(shown: str, of: Type, root: str, path: tuple[str, ...]) -> str:
    if not path:
        return f"json: cannot unmarshal {shown} into Go value of type {of.go}"
    if root == _OWN_METADATA and len(path) > 1:
        path = path[1:2]  # its decoder names only the fields of Go's struct
    pointer = ".".join(part.replace("~", "~0").replace("/", "~1") for part in path)
    # Go treats a field whose name is a number as an entry of a list.
    field = "" if re.fullmatch("[0-9]+", path[-1]) else "Go struct field "
    return f"json: cannot unmarshal {shown} into {field}{root}.{pointer} of type {of.go}"


def _json_kind(value: object) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "bool"),
        (str, "string"),
        (dict, "object"),
        (list, "array"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

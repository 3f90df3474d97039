"""How Go's comparison prints what an update changes: Go's names, in the order of Go's fields.

A whole struct that is added or removed (a probe, a volume) is shown as JSON: Go lists its fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from qwenkit.admission.schema import quantities
from qwenkit.admission.schema.types import (
    INT_OR_STRING,
    QUANTITY,
    ListOf,
    MapOf,
    Opaque,
    Scalar,
    Struct,
    Type,
)

_OWN_FIELDS_OF_A_REVISION = (
    "containerConcurrency",
    "idleTimeoutSeconds",
    "responseStartTimeoutSeconds",
    "timeoutSeconds",
)
_ACRONYM = re.compile("^(csi|dns|fs|grpc|http|se|tcp|tty|uid)(?![a-z])")
_ZEROS = {"bool": "false", "int32": "0", "int64": "0"}
_UNKNOWN = Opaque("")
_ADDRESS = "0xc000012345"  # Go prints the address of a pointer, which cannot be predicted


def changes(before: Any, new: Any, path: str, of: Type) -> Iterator[str]:
    """Print each change below ``path``: its place, then the old value, then the new one."""
    if before == new:
        return
    if isinstance(of, MapOf) and before and new:
        yield from _map(before, new, path, of)
    elif isinstance(before, Mapping) and isinstance(new, Mapping):
        fields = of.fields if isinstance(of, Struct) else {}
        for key in [*fields, *sorted({*before, *new} - {*fields})]:
            place = f"{path}.{_go_name(key, of)}"
            field = fields.get(key, _UNKNOWN)
            yield from changes(before.get(key), new.get(key), place, field)
    elif isinstance(before, list) and isinstance(new, list) and before and new:
        yield from _list(before, new, path, of.item if isinstance(of, ListOf) else _UNKNOWN)
    elif of == INT_OR_STRING:
        yield from _int_or_string(before, new, path)
    else:
        points = _is_pointer(of) and before is not None and new is not None
        old_text, new_text = (_shown(value, of, points=points) for value in (before, new))
        yield f"{'*' if points else ''}{path}:\n\t-: {old_text}\n\t+: {new_text}\n"


def _map(before: Mapping[str, Any], new: Mapping[str, Any], path: str, of: MapOf) -> Iterator[str]:
    for key in sorted({*before, *new}):
        if before.get(key) != new.get(key):
            yield f'{path}["{key}"]:\n'
            for sign, side in (("-", before), ("+", new)):
                if key in side:
                    shown = f'"{_entry(side[key], of)}"'
                    prefix = "resource.Quantity: " if of.value == QUANTITY else ""
                    yield f"\t{sign}: {prefix}{shown}\n"


def _list(before: list[Any], new: list[Any], path: str, item: Type) -> Iterator[str]:
    old_texts, new_texts = (
        [json.dumps(item, sort_keys=True) for item in side] for side in (before, new)
    )
    steps = SequenceMatcher(None, old_texts, new_texts, autojunk=False).get_opcodes()
    for _, start, end, new_start, new_end in steps:
        both = min(end - start, new_end - new_start)
        for step in range(both):
            left, right = start + step, new_start + step
            where = f"[{left}]" if left == right else f"[{left}->{right}]"
            yield from changes(before[left], new[right], f"{path}{where}", item)
        for index in range(start + both, end):
            yield f"{path}[{index}->?]:\n\t-: {_shown(before[index], item)}\n"
        for index in range(new_start + both, new_end):
            yield f"{path}[?->{index}]:\n\t+: {_shown(new[index], item)}\n"


def _int_or_string(before: Any, new: Any, path: str) -> Iterator[str]:
    sides = ((1, 0, port) if isinstance(port, str) else (0, port, "") for port in (before, new))
    for name, left, right in zip(("Type", "IntVal", "StrVal"), *sides, strict=True):
        if left != right:
            yield f'{path}.{name}:\n\t-: "{left}"\n\t+: "{right}"\n'


def _go_name(key: str, of: Type) -> str:
    name = "objectMeta" if key == "metadata" else key
    name = _ACRONYM.sub(lambda found: found[0].upper(), name)
    name = name[:1].upper() + name[1:]
    if not isinstance(of, Struct):
        return name
    # Go embeds these structs.
    if of.go == "v1.RevisionSpec" and key not in _OWN_FIELDS_OF_A_REVISION:
        return f"PodSpec.{name}"
    if of.go == "v1.Volume" and key != "name":
        return f"VolumeSource.{name}"
    if of.go == "v1.Probe" and isinstance(of.fields.get(key), Struct):
        return f"ProbeHandler.{name}"
    if key == "name" and "optional" in of.fields:
        return f"LocalObjectReference.{name}"
    return name


def _is_pointer(of: Type) -> bool:
    return isinstance(of, Scalar) and of.pointer and "." not in of.go


def _shown(value: Any, of: Type, *, points: bool = False) -> str:
    if _is_pointer(of) and not points:
        return '"<nil>"' if value is None else f'"{_ADDRESS}"'
    prefix = f"{of.go}: " if of.go in ("v1.EnvVar", "v1.ContainerPort") else ""
    return f'{prefix}"{_text(value, of)}"'


def _text(value: Any, of: Type) -> str:
    if value is None:
        return _zero(of)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        item = of.item if isinstance(of, ListOf) else _UNKNOWN
        return f"[{' '.join(_text(one, item) for one in value)}]"
    if isinstance(of, MapOf):
        return f"map[{' '.join(f'{key}:{_entry(value[key], of)}' for key in sorted(value))}]"
    if of.go == "v1.EnvVar" and "valueFrom" not in value:
        return f"{{Name:{value['name']} Value:{value.get('value', '')} ValueFrom:nil}}"
    if of.go == "v1.ContainerPort":
        name, number, protocol = value.get("name", ""), value["containerPort"], value["protocol"]
        return f"{{Name:{name} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:}}"
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def _zero(of: Type) -> str:
    if isinstance(of, MapOf):
        return "map[]"
    if isinstance(of, ListOf) or (isinstance(of, Opaque) and of.kind is list):
        return "[]"
    return _ZEROS.get(of.go, "") if isinstance(of, Scalar) else "nil"


def _entry(value: str, of: MapOf) -> str:
    return _quantity(value) if of.value == QUANTITY else value


def _quantity(text: str) -> str:
    value, scale = quantities.parse(text), 0
    while value.denominator != 1:
        value, scale = value * 1000, scale - 3
    form = "BinarySI" if text.endswith("i") else "DecimalSI"
    return f"{{i:{{value:{value} scale:{scale}}} d:{{Dec:<nil>}} s:{text} Format:{form}}}"

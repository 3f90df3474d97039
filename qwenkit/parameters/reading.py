"""Parameters as text and as YAML, and what is wrong with one of them.

Text is what the environment and ``--set`` can give; it is read by the type of the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from qwenkit.errors import NotFound, SettingsError
from qwenkit.untrusted.files import read_text
from qwenkit.untrusted.parsing import compose_yaml

# Python accepts both; YAML 1.1 reads the first as octal, and the second is a typing error.
_ODD_NUMBER = re.compile(r"\s*[-+]?0\d|.*_")
_MOST_DIGITS = 400
_NUMBER_RULE = (
    f"must be a number without leading zeros and underscores, at most {_MOST_DIGITS} digits"
)
_TEXTS = ("str", "timestamp", "merge", "value")
_NUMBERS = (int, float)
_TAG = "tag:yaml.org,2002:"
_MOST_BYTES = 2**18


def from_text(name: str, text: str, field: FieldInfo, origin: str) -> Any:
    """Return the value that ``text`` stands for in a field; empty is None where None is allowed.

    Raises:
        SettingsError: the text is not a value of the field's type.
    """
    kinds = get_args(field.annotation) or (field.annotation,)
    if NoneType in kinds and text.strip() in ("", "null"):
        return None
    if bool in kinds and text.lower() not in ("true", "false"):
        raise SettingsError(name, text, "must be true or false", came_from(origin))
    if _is_number(field) and _is_odd(text):
        raise SettingsError(name, text, _NUMBER_RULE, came_from(origin))
    adapter: TypeAdapter[Any] = TypeAdapter(field.annotation or str)
    try:
        return adapter.validate_python(text)
    except ValidationError as error:
        raise SettingsError(name, text, error.errors()[0]["msg"], came_from(origin)) from None


def read_mapping(path: Path, fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Read a params file: one YAML mapping of parameter names to scalars.

    Raises:
        SettingsError: it is no such file, or it names a parameter that does not exist.
        NotFound: it cannot be read.
    """
    try:
        root = compose_yaml(read_text(path, most=_MOST_BYTES))
    except OSError as error:
        raise NotFound(
            f"params file {path} cannot be read",
            error.strerror or str(error),
            "notebooks/params/ has three",
        ) from error
    except ValueError as error:
        raise SettingsError("params", str(path), f"must be a YAML file: {error}") from error
    if root is None or root.tag == f"{_TAG}null":
        return {}
    if not isinstance(root, MappingNode) or root.tag != f"{_TAG}map":
        raise SettingsError("params", str(path), "must be a mapping of parameter names to values")
    found: dict[str, Any] = {}
    origin = f"params file {path}"
    for key, value in root.value:
        name = key.value if isinstance(key, ScalarNode) else "?"
        if name not in fields:
            raise unknown(name, fields, origin)
        if name in found:
            raise SettingsError(name, "", "is given twice", came_from(origin))
        found[name] = _value(name, value, fields[name], origin)
    return found


def _value(name: str, node: Node, field: FieldInfo, origin: str) -> Any:
    """Return the value of a scalar; a number is written as ``--set`` takes it.

    What YAML reads as something else, such as a date, is text.
    """
    if not isinstance(node, ScalarNode):
        raise SettingsError(
            name,
            f"a {type(node).__name__.removesuffix('Node').lower()}",
            "must be a single value",
            came_from(origin),
        )
    text, kind = node.value, str(node.tag).removeprefix(_TAG)
    if kind == "null" or (kind == "bool" and text.lower() in ("true", "false")):
        return None if kind == "null" else text.lower() == "true"
    if kind in _TEXTS:
        return text
    if kind not in ("int", "float"):
        raise SettingsError(name, f"a {kind}", "must have no YAML tag", came_from(origin))
    if not _is_number(field):
        flag = field.annotation is bool
        rule, fix = ("true or false", "") if flag else ("a string", "write it in quotes; ")
        raise SettingsError(name, text, f"must be {rule}", fix + came_from(origin))
    try:
        if _is_odd(text):
            raise ValueError
        return int(text) if kind == "int" else float(text)
    except ValueError:
        raise SettingsError(name, text, _NUMBER_RULE, came_from(origin)) from None


def _is_number(field: FieldInfo) -> bool:
    return any(kind in _NUMBERS for kind in get_args(field.annotation) or (field.annotation,))


def _is_odd(number: str) -> bool:
    return len(number) > _MOST_DIGITS or _ODD_NUMBER.match(number) is not None


def unknown(name: str, fields: Mapping[str, FieldInfo], origin: str = "") -> SettingsError:
    """Return the error for an unknown parameter, with the nearest known one."""
    close = get_close_matches(name, fields, n=1)
    hint = f"did you mean {close[0]}?" if close else "`qwenkit settings` lists all of them"
    fix = "; ".join(filter(None, [hint, came_from(origin)]))
    return SettingsError(name, "", "is not a parameter of qwenkit", fix)


def readable(error: ValidationError, origins: Mapping[str, str]) -> SettingsError:
    """Return the first error of a validation as ours, with the layer it came from."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "parameters"
    value = first["input"] if first["loc"] else ""
    rule = first["msg"].removeprefix("Value error, ")
    hint = _type_hint(first["type"], value)
    return SettingsError(
        name, value, rule, "; ".join(filter(None, [hint, came_from(origins.get(name, ""))]))
    )


def came_from(origin: str) -> str:
    """Name the layer that gave a value; nothing for a value given in Python."""
    return f"it came from {origin}" if origin else ""


def _type_hint(kind: str, value: object) -> str:
    if kind not in ("bool_type", "int_type", "float_type", "string_type"):
        return ""
    if value is None:
        return "leave it out to keep the default"
    if kind == "string_type":
        return f"it has type {type(value).__name__}; write it in quotes"
    if isinstance(value, str):
        return (
            "write true or false, without quotes"
            if kind == "bool_type"
            else "write a number without quotes"
        )
    return f"it has type {type(value).__name__}"

"""Go types of fields: ``knative`` declares fields with them, ``decode`` follows them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scalar:
    """A string, boolean or number, by its Go name.

    A pointer keeps a zero (``""``, ``0``, ``false``) that was written; otherwise Go omits it.
    """

    go: str
    pointer: bool = False


@dataclass(frozen=True)
class Opaque:
    """A part that is passed on as it is; only whether it is an object or array is checked."""

    go: str
    kind: type = dict


@dataclass(frozen=True)
class Struct:
    """An object with known fields; ``preset`` holds what Go writes for absent ones.

    The API server's schema does not describe the fields of an ``open`` one: only the webhook does.
    """

    go: str
    fields: Mapping[str, Type]
    open: bool = False
    preset: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ListOf:
    """An array; ``key`` is the field whose values must differ.

    Go omits an empty array, unless it is ``required``; then it writes ``null`` for an absent one.
    """

    item: Type
    key: str = ""
    required: bool = False

    @property
    def go(self) -> str:
        """The Go type."""
        return f"[]{self.item.go}"


@dataclass(frozen=True)
class MapOf:
    """An object with free keys."""

    value: Type
    name: str = ""

    @property
    def go(self) -> str:
        """The Go type."""
        return self.name or f"map[string]{self.value.go}"


Type = Scalar | Opaque | Struct | ListOf | MapOf

# By their names in a Go declaration: ``string``, ``*string``.
SCALARS: Mapping[str, Scalar] = {
    **{kind: Scalar(kind) for kind in ("string", "bool", "int32", "int64")},
    **{f"*{kind}": Scalar(kind, pointer=True) for kind in ("string", "bool", "int32", "int64")},
    **{
        kind: Scalar(kind, pointer=True)
        for kind in ("resource.Quantity", "intstr.IntOrString", "apis.URL")
    },
}
_ZEROS: Mapping[str, Any] = {
    "bool": False,
    **dict.fromkeys(("int32", "int64", "intstr.IntOrString"), 0),
    "resource.Quantity": "0",
}


def zero(of: Type) -> Any:
    """Return what Go decodes ``null`` as, and writes for an absent field."""
    if isinstance(of, Struct):
        return copy.deepcopy(dict(of.preset))
    return _ZEROS.get(of.go, "") if isinstance(of, Scalar) else None


STRING, INT32, INT64 = (SCALARS[name] for name in ("string", "int32", "int64"))
QUANTITY, INT_OR_STRING = SCALARS["resource.Quantity"], SCALARS["intstr.IntOrString"]
URL = SCALARS["apis.URL"]

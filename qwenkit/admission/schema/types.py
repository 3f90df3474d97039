"""Types of fields, as Go declares them: what ``schema`` is made of and ``decode`` reads by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scalar:
    """A string, boolean, number or the like, by its Go name.

    A pointer keeps a zero (``""``, ``0``, ``false``) that was written; otherwise Go omits it.
    """

    go: str
    pointer: bool = False


@dataclass(frozen=True)
class Opaque:
    """A subtree that is passed on as it is; only object or array is checked."""

    go: str
    kind: type = dict


@dataclass(frozen=True)
class Struct:
    """An object with known fields; ``preset`` is what absent ones become when it is written.

    The API server's schema ends at an ``open`` one: what is in it, only the webhook judges.
    """

    go: str
    fields: Mapping[str, Type]
    open: bool = False
    preset: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ListOf:
    """An array; ``key`` is the field whose values must differ.

    A ``required`` one stays empty where others are omitted; Go writes ``null`` if it is absent.
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

STRING, BOOL, INT32, INT64 = Scalar("string"), Scalar("bool"), Scalar("int32"), Scalar("int64")
QUANTITY, INT_OR_STRING = Scalar("resource.Quantity", True), Scalar("intstr.IntOrString", True)
URL = Scalar("apis.URL", True)
STRING_POINTER, BOOL_POINTER = Scalar("string", True), Scalar("bool", True)
INT32_POINTER, INT64_POINTER = Scalar("int32", True), Scalar("int64", True)

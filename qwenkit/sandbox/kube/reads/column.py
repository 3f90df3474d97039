"""One column of ``kubectl get``, and the kinds of columns that many tables have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.reads.ages import since


@dataclass(frozen=True)
class Column:
    """One column, computed by ``cell(object, now)``; ``wide`` ones are for ``-o wide``."""

    name: str
    cell: Callable[[Object, datetime], Any]
    wide: bool = False
    type: str = "string"
    format: str = ""


def field(name: str, *path: str | int, wide: bool = False, empty: str = "") -> Column:
    """Make the column of what stands at a path of the object."""

    def cell(obj: Object, _: datetime) -> Any:
        value = at(obj, *path)
        return empty if value is None else str(value)

    return Column(name, cell, wide)


def number(name: str, *path: str) -> Column:
    """Make the column of a number, 0 where it is missing."""
    return Column(name, lambda obj, _: at(obj, *path) or 0, type="integer")


def custom(name: str, *path: str, integer: bool = False) -> Column:
    """Make a CRD's column: null if the path does not exist, as with JSONPath."""
    return Column(name, lambda obj, _: at(obj, *path), type="integer" if integer else "string")


def made(name: str, cell: Callable[[Object], Any], *, wide: bool = False) -> Column:
    """Make the column of what a function finds in the object."""
    return Column(name, lambda obj, _: cell(obj), wide)


def selector(*path: str) -> Callable[[Object], str]:
    """Return the cell that shows the labels at a path."""

    def cell(obj: Object) -> str:
        pairs = (at(obj, *path) or {}).items()
        return ",".join(f"{key}={value}" for key, value in sorted(pairs)) or "<none>"

    return cell


NAME = Column("Name", lambda obj, _: obj["metadata"]["name"], format="name")
AGE = Column("Age", lambda obj, now: since(at(obj, "metadata", "creationTimestamp"), now))
CREATED = field("Created At", "metadata", "creationTimestamp")

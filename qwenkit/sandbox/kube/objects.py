"""Helpers for Kubernetes objects as plain dicts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")
Object = dict[str, Any]


def copied(value: T) -> T:
    """Return a deep copy of a JSON value, several times faster than ``copy.deepcopy``.

    Mappings and lists of any class become plain dicts and lists.
    """
    copy: Any = value
    if isinstance(value, Mapping):
        copy = {key: copied(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        copy = [copied(item) for item in value]
    return copy  # type: ignore[no-any-return]


def at(obj: Any, *path: str | int) -> Any:
    """Return the value at a path of keys and list positions, or None where it ends early."""
    for step in path:
        if isinstance(step, str) and isinstance(obj, dict):
            obj = obj.get(step)
        elif isinstance(step, int) and isinstance(obj, list) and -len(obj) <= step < len(obj):
            obj = obj[step]
        else:
            return None
    return obj


def condition(obj: Object, kind: str) -> Object:
    """Return the status condition of that type, or an empty dict."""
    found = (entry for entry in at(obj, "status", "conditions") or [] if entry.get("type") == kind)
    return next(found, {})


def utc_now() -> datetime:
    """Return the wall clock in UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """Print a moment as ``metav1.Time`` does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    """Read a ``metav1.Time`` or ``metav1.MicroTime``."""
    return datetime.fromisoformat(text)

"""One remark about a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "advice"]


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, and what to do.

    ``error``: the cluster refuses it or it cannot work. ``warning``: it works and does something
    else than it seems to say. ``advice``: it works and could be better.
    """

    level: Level
    rule: str
    where: str
    message: str
    fix: str


def place(doc: dict[str, Any], path: str = "") -> str:
    """Return ``Kind/name path``."""
    name = at(doc, "metadata", "name") or at(doc, "metadata", "generateName") or "?"
    return f"{doc.get('kind', '?')}/{name} {path}".rstrip()


def at(node: Any, *path: str | int) -> Any:
    """Return what lies at ``path``, or ``None`` where the way ends."""
    for step in path:
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            return None
    return node


def table(node: Any, *path: str | int) -> dict[str, Any]:
    """Return the mapping at ``path``; an empty one if none is there."""
    found = at(node, *path)
    return found if isinstance(found, dict) else {}


def rows(node: Any, *path: str | int) -> list[Any]:
    """Return the list at ``path``; an empty one if none is there."""
    found = at(node, *path)
    return found if isinstance(found, list) else []

"""Read a document of any shape: names, mappings and lists by path."""

from __future__ import annotations

from typing import Any

Doc = dict[str, Any]


def place(doc: Doc, path: str = "") -> str:
    """Return ``Kind/name path``."""
    name = at(doc, "metadata", "name") or at(doc, "metadata", "generateName") or "?"
    return f"{doc.get('kind', '?')}/{name} {path}".rstrip()


def at(node: Any, *path: str | int) -> Any:
    """Return what is at ``path``, or ``None`` where the path ends early."""
    for step in path:
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            return None
    return node


def table(node: Any, *path: str | int) -> Doc:
    """Return the mapping at ``path``; an empty one if none is there."""
    found = at(node, *path)
    return found if isinstance(found, dict) else {}


def rows(node: Any, *path: str | int) -> list[Any]:
    """Return the list at ``path``; an empty one if none is there."""
    found = at(node, *path)
    return found if isinstance(found, list) else []

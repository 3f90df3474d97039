"""Read a document of any shape: names, mappings and lists by path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Doc = dict[str, Any]
_MOST_DEPTH, _MOST_BITS, _MOST_VALUES = 100, 1024, 100_000


class FieldPlace(str):
    """``Kind/name path``: where a finding is; it remembers the document."""

    doc: Doc
    path: str


def place(doc: Doc, path: str = "") -> FieldPlace:
    """Return ``Kind/name path``."""
    name = at(doc, "metadata", "name") or at(doc, "metadata", "generateName") or "?"
    made = FieldPlace(f"{doc.get('kind', '?')}/{name} {path}".rstrip())
    made.doc, made.path = doc, path
    return made


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


def unreadable(doc: Any) -> str:
    """Return why no API server would read a document, "" if it can."""
    waiting, seen = [(doc, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:  # as a few aliases of YAML can make of a few lines
            return f"it holds more than {_MOST_VALUES:,} values"
        if depth > _MOST_DEPTH:
            return f"it is nested more than {_MOST_DEPTH} levels deep"
        if isinstance(node, int) and node.bit_length() > _MOST_BITS:
            return f"it holds an integer of more than {_MOST_BITS} bits"
        if isinstance(node, str) and any("\ud800" <= letter <= "\udfff" for letter in node):
            return "it holds text that UTF-8 cannot hold"
        if isinstance(node, Mapping):
            waiting += [(key, depth + 1) for key in node]
            waiting += [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list | tuple):
            waiting += [(child, depth + 1) for child in node]
    return ""

"""Sets of field paths, and ``fieldsV1``, the form in which ``managedFields`` keeps them.

A path is a tuple of steps in the encoding of ``fieldsV1``: ``f:spec`` for a field,
``k:{"name":"x"}`` for the item of a keyed list, ``v:"x"`` for the member of a set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.schema import fields

Path = tuple[str, ...]
FieldSet = frozenset[Path]

# The API server owns these; no manager does.
_UNMANAGED = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        ("f:metadata", "f:creationTimestamp"),
        ("f:metadata", "f:deletionGracePeriodSeconds"),
        ("f:metadata", "f:deletionTimestamp"),
        ("f:metadata", "f:generation"),
        ("f:metadata", "f:managedFields"),
        ("f:metadata", "f:name"),
        ("f:metadata", "f:namespace"),
        ("f:metadata", "f:resourceVersion"),
        ("f:metadata", "f:selfLink"),
        ("f:metadata", "f:uid"),
    }
)
_KEY_DEFAULTS = {"protocol": "TCP"}


def leaves(kind: ResourceKind, obj: Object, *, status: bool = False) -> dict[Path, Any]:
    """Return every path that the manager of ``obj`` would own, with its value.

    ``status`` chooses the side: only status, or everything but status for kinds that have its
    subresource. Items of keyed lists appear themselves, with the value None.
    """
    found = dict(_walk(kind, obj, ()))
    if status:
        return {path: value for path, value in found.items() if path[0] == "f:status"}
    return {
        path: value
        for path, value in found.items()
        if path[:2] not in _UNMANAGED and not (kind.has_status and path[0] == "f:status")
    }


def _walk(kind: ResourceKind, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    field = path[-1][2:] if path and path[-1].startswith("f:") else ""
    if isinstance(value, dict) and value and not fields.is_atomic_map(field):
        for key, item in value.items():
            yield from _walk(kind, item, (*path, f"f:{key}"))
    elif isinstance(value, list) and (keys := fields.list_keys(kind, field)):
        for item in value:
            step = item_step(item, keys)
            yield (*path, step), None
            if keys != fields.SET:
                yield from _walk(kind, item, (*path, step))
    elif path:
        yield path, value


def item_step(item: Any, keys: tuple[str, ...]) -> str:
    """Return the step that names an item of a keyed list or set.

    Raises:
        ValueError: the item lacks a key.
    """
    if keys == fields.SET:
        return f"v:{json.dumps(item)}"
    named = {}
    for key in keys:
        value = item.get(key, _KEY_DEFAULTS.get(key)) if isinstance(item, dict) else None
        if value is None:
            raise ValueError(
                f'associative list with keys has an element that omits key field "{key}"'
            )
        named[key] = value
    return f"k:{json.dumps(named, separators=(',', ':'), sort_keys=True)}"


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """Return ``fieldsV1`` of a set."""
    tree: dict[str, Any] = {}
    members = []
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        members.append(node)
    # A member with others below it is marked with ".".
    for node in members:
        if node:
            node["."] = {}
    return tree


def decode(tree: dict[str, Any], path: Path = ()) -> FieldSet:
    """Return the set that ``fieldsV1`` holds."""
    if not tree:
        return frozenset([path]) if path else frozenset()
    found: set[Path] = set()
    for step, below in tree.items():
        found |= {path} if step == "." else decode(below, (*path, step))
    return frozenset(found)


def printed(path: Path) -> str:
    """Print a path as conflict messages do: ``.spec.env[name="X"].value``."""
    return "".join(_print_step(step) for step in path)


def _print_step(step: str) -> str:
    form, rest = step[0], step[2:]
    if form == "f":
        return f".{rest}"
    if form == "v":
        return f"[={rest}]"
    pairs = json.loads(rest).items()
    return "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in pairs) + "]"


def remove(kind: ResourceKind, obj: Any, path: Path) -> None:
    """Remove the field or item at a path, in place, and parents that become empty."""
    step, rest = path[0], path[1:]
    if step.startswith("f:"):
        key = step[2:]
        if not isinstance(obj, dict) or key not in obj:
            return
        if not rest:
            del obj[key]
        elif isinstance(obj[key], list):
            _remove_item(kind, obj, key, rest)
        else:
            remove(kind, obj[key], rest)
            if obj[key] == {}:
                del obj[key]


def _remove_item(kind: ResourceKind, obj: Object, field: str, path: Path) -> None:
    keys = fields.list_keys(kind, field)
    if keys is None:
        return
    kept = []
    for item in obj[field]:
        if item_step(item, keys) != path[0]:
            kept.append(item)
        elif len(path) > 1:
            # An item that stays keeps its key.
            if path[1].removeprefix("f:") not in keys:
                remove(kind, item, path[1:])
            kept.append(item)
    obj[field] = kept
    if not kept:
        del obj[field]

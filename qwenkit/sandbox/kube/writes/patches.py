"""JSON merge patch (RFC 7386), JSON patch (RFC 6902) and Kubernetes' strategic merge patch."""

from __future__ import annotations

from typing import Any

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.objects import copied
from qwenkit.sandbox.kube.schema import fields
from qwenkit.sandbox.kube.writes import fieldsets


def merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` with a merge patch applied; null removes, lists are replaced."""
    if not isinstance(patch, dict):
        return copied(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(kind: Kind, target: Any, patch: Any, field: str = "") -> Any:
    """Return ``target`` with a strategic merge patch applied: keyed lists merge item by item.

    Knows the directives ``$patch: delete|replace`` and ``$deleteFromPrimitiveList``; the hints
    ``$setElementOrder`` and ``$retainKeys`` concern order and unions, and change nothing here.

    Raises:
        ApiError: 400, an item of a keyed list lacks its key.
    """
    keys = fields.list_keys(kind, field) if isinstance(patch, list) else None
    if keys:
        return _merge_items(kind, target or [], patch, keys)
    if not isinstance(patch, dict):
        return copied(patch)
    if patch.get("$patch") == "replace":
        return {key: copied(value) for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        name = key.partition("/")[2]
        if key.startswith("$deleteFromPrimitiveList/"):
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        else:
            result[key] = strategic_merge(kind, result.get(key), value, key)
    return result


def _merge_items(kind: Kind, target: list[Any], patch: list[Any], keys: tuple[str, ...]) -> Any:
    try:
        items = {fieldsets.item_step(item, keys): item for item in target}
        if {"$patch": "replace"} in patch:
            patch, items = [item for item in patch if item != {"$patch": "replace"}], {}
        for item in patch:
            step = fieldsets.item_step(item, keys)
            if isinstance(item, dict) and item.get("$patch") == "delete":
                items.pop(step, None)
            else:
                items[step] = strategic_merge(kind, items.get(step), item)
    except ValueError as error:
        raise bad_request(f"error decoding patch: {error}") from error
    return list(items.values())


def json_patch(target: Any, operations: Any) -> Any:
    """Return a copy of ``target`` with JSON patch operations applied in order.

    Raises:
        ApiError: 400 for what is no patch; 422 for one that does not fit the object.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal into jsonpatch.Patch")
    document = copied(target)
    for operation in operations:
        try:
            document = _apply(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            # No more words than the real server has: the value may be a Secret's.
            text = "the server rejected our request due to an error in our request"
            raise ApiError(422, "Invalid", text) from error
    return document


def _apply(document: Any, operation: Any) -> Any:
    name, path = operation["op"], _pointer(operation["path"])
    if name in ("move", "copy"):
        value = copied(_get(document, _pointer(operation["from"])))
        if name == "move":
            document = _remove(document, _pointer(operation["from"]))
        return _add(document, path, value)
    if name == "remove":
        return _remove(document, path)
    if name == "test":
        if _get(document, path) != operation["value"]:
            raise ValueError("test failed")
        return document
    if name == "replace":
        _get(document, path)
        document = _remove(document, path) if path else document
    elif name != "add":
        raise ValueError("unknown operation")
    return _add(document, path, copied(operation["value"]))


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise ValueError("a JSON pointer starts with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _get(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_index(document, part)]
    return document


def _index(container: Any, part: str, *, end: int = 0) -> Any:
    """Return the key or list position that a pointer's part names; ``end`` 1 allows appending."""
    if not isinstance(container, list):
        return part
    position = len(container) if part == "-" else int(part)
    if not 0 <= position < len(container) + end:
        raise IndexError(f"no position {part}")
    return position


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    key = _index(parent, path[-1], end=1)
    if isinstance(parent, list):
        parent.insert(key, value)
    else:
        parent[key] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    parent = _get(document, path[:-1])
    del parent[_index(parent, path[-1])]
    return document

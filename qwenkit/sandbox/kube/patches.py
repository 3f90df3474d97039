"""JSON merge patch (RFC 7386) and JSON patch (RFC 6902)."""

from __future__ import annotations

from typing import Any

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.objects import copied


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
            raise ApiError(
                422,
                "Invalid",
                f"the server rejected our request due to an error in our request: "
                f"{operation}: {error}",
            ) from error
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


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
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

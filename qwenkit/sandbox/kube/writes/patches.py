"""JSON merge patch (RFC 7386), JSON patch (RFC 6902) and Kubernetes' strategic merge patch."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException, resolve_pointer

from qwenkit.sandbox.kube.api_error import ApiError, bad_request, too_large
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import copied
from qwenkit.sandbox.kube.schema import fields
from qwenkit.sandbox.kube.writes import fieldsets

_MOST_OPERATIONS = 10_000
_MOST_COPIED_BYTES = 3 * 2**20  # apiserver: the accumulated size of a patch's copies


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


def strategic_merge(kind: ResourceKind, target: Any, patch: Any, field: str = "") -> Any:
    """Return ``target`` with a strategic merge patch applied: keyed lists merge item by item.

    It follows the directives ``$patch: delete|replace`` and ``$deleteFromPrimitiveList``, and
    ignores ``$setElementOrder`` and ``$retainKeys``, which concern order and unions.

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
            before = result.get(name) or []
            if not isinstance(value, list) or not isinstance(before, list):
                raise bad_request(f"error decoding patch: {key} must be a list")
            result[name] = [item for item in before if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        else:
            result[key] = strategic_merge(kind, result.get(key), value, key)
    return result


def _merge_items(kind: ResourceKind, target: Any, patch: list[Any], keys: tuple[str, ...]) -> Any:
    try:
        if not isinstance(target, list):
            raise ValueError("a list was expected")
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
    """Return a copy of ``target`` with the operations of a JSON patch applied in order.

    Raises:
        ApiError: 400, this is no patch; 422, it does not fit the object.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal into jsonpatch.Patch")
    if len(operations) > _MOST_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}"
        raise ApiError(
            413, "RequestEntityTooLarge", f"Request entity too large: {text}, got {len(operations)}"
        )
    result, copies = copied(target), 0
    try:
        for operation in operations:
            if operation.get("op") == "copy":
                copies += len(json.dumps(resolve_pointer(result, operation["from"])))
                if copies > _MOST_COPIED_BYTES:
                    raise too_large(_MOST_COPIED_BYTES)
            result = jsonpatch.apply_patch(result, [operation], in_place=True)
        return result
    except (
        *(jsonpatch.JsonPatchException, JsonPointerException),
        *(TypeError, ValueError, LookupError, AttributeError),
    ) as error:
        # Like the real server, give no details: the value may be a Secret's.
        text = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", text) from error

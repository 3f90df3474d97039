"""JSON merge patch (RFC 7386), JSON patch (RFC 6902) and Kubernetes' strategic merge patch."""

from __future__ import annotations

from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.kinds import ResourceKind
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
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        else:
            result[key] = strategic_merge(kind, result.get(key), value, key)
    return result


def _merge_items(
    kind: ResourceKind, target: list[Any], patch: list[Any], keys: tuple[str, ...]
) -> Any:
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
    """Return a copy of ``target`` with the operations of a JSON patch applied in order.

    Raises:
        ApiError: 400, this is no patch; 422, it does not fit the object.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal into jsonpatch.Patch")
    try:
        return jsonpatch.apply_patch(target, operations)
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError) as error:
        # Like the real server, give no details: the value may be a Secret's.
        text = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", text) from error

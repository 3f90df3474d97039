"""Server-side apply and the bookkeeping of ``metadata.managedFields``.

``managedFields`` records which manager owns which fields. An apply owns the fields that it names,
gives up those that it no longer names, and conflicts where another manager owns another value; any
other write owns whatever it changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, copied
from qwenkit.sandbox.kube.schema import fields as schema
from qwenkit.sandbox.kube.writes import fieldsets
from qwenkit.sandbox.kube.writes.fieldsets import FieldSet, Path


@dataclass(frozen=True)
class Manager:
    """Who wrote: an entry of ``managedFields``, without its fields."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        text = json.dumps(self.name)
        if self.subresource:
            text += f" with subresource {json.dumps(self.subresource)}"
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


def server_side_apply(
    kind: ResourceKind,
    live: Object | None,
    config: Object,
    *,
    manager: str,
    force: bool,
    now: str,
    subresource: str = "",
) -> Object:
    """Return the object after ``manager`` applied ``config``.

    Raises:
        ApiError: 409, fields belong to others with other values (and not ``force``);
            500, ``config`` does not fit the kind's schema, in the API server's own way.
    """
    _check(kind, config)
    mine = Manager(manager, "Apply", kind.api_version, subresource)
    wanted = fieldsets.leaves(kind, config, status=subresource == "status")
    owners = _owners(live)
    current = _both_sides(kind, live or {})
    lost = {
        other: frozenset(
            path for path in paths & current.keys() & wanted.keys() if current[path] != wanted[path]
        )
        for other, paths in owners.items()
        if other != mine
    }
    if any(lost.values()) and not force:
        raise _conflict(lost)
    result = _merge(kind, live or {}, config)
    for other, paths in lost.items():
        owners[other] -= paths
    dropped = owners.get(mine, frozenset()) - wanted.keys()
    owners[mine] = frozenset(wanted)
    _drop(kind, result, dropped, owners)
    return _with_managers(result, live, owners, now)


def track(
    kind: ResourceKind,
    live: Object | None,
    new: Object,
    *,
    manager: str,
    now: str,
    subresource: str = "",
) -> Object:
    """Return ``new`` with ``manager`` as the owner of whatever differs from ``live``."""
    mine = Manager(manager, "Update", kind.api_version, subresource)
    status = subresource == "status"
    try:
        before = fieldsets.leaves(kind, live or {}, status=status)
        after = fieldsets.leaves(kind, new, status=status)
    except ValueError:
        # An item without its key cannot be owned: like the real server, keep the owners.
        return _with_managers(new, live, _owners(live), now)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    not_theirs = changed | (before.keys() - after.keys())
    owners = {other: paths - not_theirs for other, paths in _owners(live).items()}
    owners[mine] = owners.get(mine, frozenset()) | changed
    return _with_managers(new, live, owners, now)


def _both_sides(kind: ResourceKind, obj: Object) -> dict[Path, Any]:
    return fieldsets.leaves(kind, obj) | fieldsets.leaves(kind, obj, status=True)


def _owners(live: Object | None) -> dict[Manager, FieldSet]:
    entries = ((live or {}).get("metadata") or {}).get("managedFields") or []
    return {_manager(entry): fieldsets.decode(entry.get("fieldsV1") or {}) for entry in entries}


def _manager(entry: Mapping[str, Any]) -> Manager:
    return Manager(
        entry.get("manager", ""),
        entry.get("operation", ""),
        entry.get("apiVersion", ""),
        entry.get("subresource", ""),
    )


def _with_managers(
    obj: Object, live: Object | None, owners: Mapping[Manager, FieldSet], now: str
) -> Object:
    """Write the owners to ``managedFields``; entries that do not change keep their time."""
    before = ((live or {}).get("metadata") or {}).get("managedFields") or []
    times = {_manager(entry): (entry.get("fieldsV1"), entry.get("time")) for entry in before}
    entries = []
    for manager, paths in owners.items():
        if not paths:
            continue
        fields = fieldsets.encode(paths)
        old_fields, old_time = times.get(manager, (None, None))
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": old_time if fields == old_fields else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        entries.append(
            entry | ({"subresource": manager.subresource} if manager.subresource else {})
        )
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}


def _merge(kind: ResourceKind, live: Any, config: Any, field: str = "") -> Any:
    if isinstance(live, dict) and isinstance(config, dict) and not schema.is_atomic_map(field):
        merged = copied(live)
        for key, value in config.items():
            merged[key] = _merge(kind, live.get(key), value, key)
        return merged
    keys = schema.list_keys(kind, field)
    if keys and isinstance(live, list) and isinstance(config, list):
        return _merge_list(kind, live, config, keys)
    return copied(config)


def _merge_list(
    kind: ResourceKind, live: list[Any], config: list[Any], keys: tuple[str, ...]
) -> list[Any]:
    """Merge item by item: first the applied items in their order, then the other live ones."""
    ours = {fieldsets.item_step(item, keys): item for item in config}
    theirs = {fieldsets.item_step(item, keys): item for item in live}
    merged = [_merge(kind, theirs.get(step), item) for step, item in ours.items()]
    return merged + [copied(item) for step, item in theirs.items() if step not in ours]


def _drop(
    kind: ResourceKind, obj: Object, dropped: FieldSet, owners: Mapping[Manager, FieldSet]
) -> None:
    """Remove fields that their manager gave up, unless others own them or fields below."""
    kept = {
        path[:depth]
        for paths in owners.values()
        for path in paths
        for depth in range(1, len(path) + 1)
    }
    for path in sorted(dropped, key=len):
        if path not in kept:
            fieldsets.remove(kind, obj, path)


def _conflict(lost: Mapping[Manager, FieldSet]) -> ApiError:
    found = sorted(
        (
            (str(manager), fieldsets.printed(path))
            for manager, paths in lost.items()
            for path in paths
        )
    )
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path}
        for manager, path in found
    ]
    if len(found) == 1:
        text = f"Apply failed with 1 conflict: conflict with {found[0][0]}: {found[0][1]}"
    else:
        lines = []
        for manager in dict.fromkeys(manager for manager, _ in found):
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {path}" for owner, path in found if owner == manager]
        text = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", text, {"causes": causes})


def _check(kind: ResourceKind, config: Object) -> None:
    """Refuse undeclared fields, and keyed lists whose keys are absent or equal."""
    problems = [
        f".{path}: field not declared in schema" for path in schema.prune(kind, copied(config))
    ]
    problems = problems or list(_list_problems(kind, config, ()))
    if not problems:
        return
    metadata = config["metadata"]
    space = f"{metadata['namespace']}/" if metadata.get("namespace") else "/"
    subject = f"{space}{metadata.get('name', '')}; {kind.api_version}, Kind={kind.kind}"
    text = problems[0] if len(problems) == 1 else "errors:\n  " + "\n  ".join(problems)
    raise ApiError(500, "", f"failed to create typed patch object ({subject}): {text}")


def _list_problems(kind: ResourceKind, value: Any, path: Path) -> list[str]:
    field = path[-1][2:] if path else ""
    if isinstance(value, dict):
        return [
            problem
            for key, item in value.items()
            for problem in _list_problems(kind, item, (*path, f"f:{key}"))
        ]
    keys = schema.list_keys(kind, field) if isinstance(value, list) else None
    if not keys:
        return []
    where = fieldsets.printed(path)
    problems, seen = [], set()
    for position, item in enumerate(value):
        try:
            step = fieldsets.item_step(item, keys)
        except ValueError as error:
            problems.append(f"{where}: element {position}: {error}")
            continue
        if step in seen:
            problems.append(f"{where}: duplicate entries for key {fieldsets.printed((step,))}")
        seen.add(step)
        problems += _list_problems(kind, item, (*path, step))
    return problems

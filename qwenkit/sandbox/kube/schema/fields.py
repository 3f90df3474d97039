"""Which fields a kind declares, and by which keys its lists merge.

Built-in kinds declare what the models of the official client do (``built_in_kinds``). Knative's
kinds declare what their Go types do (``admission.schema.knative``), as far as their CRDs describe
them; unlike a pod's, their ``containers`` are one atomic list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qwenkit.admission.schema.knative import METADATA, SPECS
from qwenkit.admission.schema.types import ListOf, Struct, Type
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.schema import built_in_kinds

# A dict declares an object's fields, a one-item list a list's items, None anything at all.
Schema = Mapping[str, Any] | list[Any] | None
SET = ("",)


def _declared(of: Type) -> Schema:
    if isinstance(of, ListOf):
        below = _declared(of.item)
        return None if below is None else [below]
    if isinstance(of, Struct) and not of.open:
        return {name: _declared(field) for name, field in of.fields.items()}
    return None


def _keyed(fields: Mapping[str, Type]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the lists with a key, at any depth, and the key."""
    for name, of in fields.items():
        if isinstance(of, ListOf) and of.key:
            yield name, (of.key,)
        item = of.item if isinstance(of, ListOf) else of
        if isinstance(item, Struct):
            yield from _keyed(item.fields)


_KNATIVE: Mapping[str, Mapping[str, Any]] = {
    kind: {
        **dict.fromkeys(("apiVersion", "kind", "status")),
        "metadata": _declared(METADATA),
        "spec": _declared(spec),
    }
    for kind, spec in SPECS.items()
}
_CUSTOM_LISTS = {
    "finalizers": SET,
    "ownerReferences": ("uid",),
    **dict(_keyed(SPECS["Service"].fields)),
}
_BUILT_IN_LISTS = _CUSTOM_LISTS | {
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "ports": ("containerPort", "protocol"),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
}
# References and selectors change as a whole.
_ATOMIC_MAP = re.compile(
    "(configMap|configMapKey|controllerExpandSecret|controllerPublishSecret|field|nodeExpandSecret"
    "|nodePublishSecret|nodeStageSecret|object|resourceField|scaleTarget|secret|secretKey)Ref"
    "|namespaceSelector|nodeSelector|podSelector|selector"
)


def list_keys(kind: ResourceKind, field: str) -> tuple[str, ...] | None:
    """Return the keys by which a list merges; ``SET`` for a set of scalars; None if atomic."""
    if kind.name == "Service" and field == "ports":
        return ("port", "protocol")
    if kind.name == "NetworkPolicy" and field == "ports":
        return None
    return (_CUSTOM_LISTS if kind.custom else _BUILT_IN_LISTS).get(field)


def is_atomic_map(field: str) -> bool:
    """Return whether the map under a field of this name has one owner."""
    return _ATOMIC_MAP.fullmatch(field) is not None


def prune(kind: ResourceKind, obj: dict[str, Any]) -> list[str]:
    """Remove undeclared fields in place; return their paths, e.g. ``spec.containers[0].imge``."""
    if kind.custom:
        return _prune(_KNATIVE.get(kind.kind), obj, "")
    return _prune(built_in_kinds.declared(built_in_kinds.model_of(kind)), obj, "")


def _prune(schema: Schema, value: Any, path: str) -> list[str]:
    if isinstance(schema, list) and isinstance(value, list):
        return [
            found
            for position, item in enumerate(value)
            for found in _prune(schema[0], item, f"{path}[{position}]")
        ]
    if not isinstance(schema, Mapping) or not isinstance(value, dict):
        return []
    unknown: list[str] = []
    for field in list(value):
        here = f"{path}.{field}" if path else field
        if field in schema:
            unknown += _prune(schema[field], value[field], here)
        else:
            del value[field]
            unknown.append(here)
    return unknown

"""How objects are returned: as a ``List``, or as the ``Table`` that kubectl prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.reads.columns import columns


def wants_table(accept: str) -> bool:
    """Return whether an ``Accept`` header prefers a ``Table`` to the plain object."""
    first = accept.partition(",")[0].replace(" ", "")
    return first.startswith("application/json") and "as=Table" in first


def as_list(kind: ResourceKind, items: Iterable[Object], metadata: Mapping[str, Any]) -> Object:
    """Return a list, e.g. a ``PodList``; built-in items do not repeat kind and apiVersion."""
    omitted = () if kind.custom else ("kind", "apiVersion")
    return {
        "kind": f"{kind.kind}List",
        "apiVersion": kind.api_version,
        "metadata": dict(metadata),
        "items": [{key: obj[key] for key in obj if key not in omitted} for obj in items],
    }


def as_table(
    kind: ResourceKind,
    items: Iterable[Object],
    metadata: Mapping[str, Any],
    *,
    now: datetime,
    include: str = "Metadata",
) -> Object:
    """Return a ``Table``; ``include`` is how much of each object a row has."""
    shown = columns(kind)
    rows = [
        {"cells": [column.cell(obj, now) for column in shown], "object": _included(obj, include)}
        for obj in items
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(metadata),
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": "",
                "priority": int(column.wide),
            }
            for column in shown
        ],
        "rows": rows,
    }


def _included(obj: Object, include: str) -> Object | None:
    if include == "None":
        return None
    if include == "Object":
        return obj
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }

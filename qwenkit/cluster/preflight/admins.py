"""Which documents of a deployment are an administrator's to make?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import PV, PVC, Kind, kind_of, name_of
from qwenkit.cluster.ownership import ADMIN_MAKES, is_admins, require_same
from qwenkit.errors import Forbidden


def others_of(cluster: Cluster, docs: Iterable[Mapping[str, Any]]) -> set[Kind]:
    """Dry-run documents; return the kinds of volume and claim that are an administrator's.

    A PV that this role may neither make nor see is taken for one: its claim shows if it is there.
    """
    others: set[Kind] = set()
    for doc in docs:
        kind, found, hidden = kind_of(doc), None, False
        try:
            found = cluster.find(kind, name_of(doc)) if kind in (PV, PVC) else None
        except Forbidden:
            hidden = True
        if found and is_admins(found, cluster.namespace):
            require_same(found, doc)
            others.add(kind)
            continue
        try:
            cluster.apply(doc, dry_run=True)
        except Forbidden as error:
            if kind != PV or not (found or hidden):
                error.fix = ADMIN_MAKES if kind == PV else error.fix
                raise
            if found:
                require_same(found, doc)
            others.add(kind)
    return others

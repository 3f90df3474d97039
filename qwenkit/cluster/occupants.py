"""Which objects of qwenkit hold the names that a run wants, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    JOB,
    KSVC,
    POD,
    PV,
    PVC,
    SECRET,
    Kind,
    Obj,
    annotations_of,
    is_true,
    labels_of,
    name_of,
    pod_spec,
)
from qwenkit.cluster.ownership import expiry, foreign_claim, has_expired, holds_weights
from qwenkit.cluster.pods import claim_names
from qwenkit.cluster.removal import Manner, Removal, TeardownStep
from qwenkit.errors import Forbidden, QwenkitError
from qwenkit.settings import EXPIRES_AT, MANAGED_BY, RUN_LABEL

_ORDER = (KSVC, JOB, POD, PVC, PV, SECRET)  # in which they become free


@dataclass(frozen=True)
class Occupant:
    """An object that some run of qwenkit made. ``live``: a Service that is Ready."""

    kind: Kind
    name: str
    run: str
    live: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of run {self.run!r}" + (", Ready" if self.live else "")


def occupants(cluster: Cluster, service: str, volume: str, secret: str) -> tuple[Occupant, ...]:
    """Return the objects with these names that qwenkit made, and the Services that belong to them.

    These are the Services that use the volume, and this run's own live ones. A PV that is bound in
    another namespace is left out: nothing here may remove it. So is what may not be read.
    """
    found: list[Occupant] = []
    labels = {MANAGED_BY: "qwenkit"}
    try:
        services = cluster.list(KSVC, labels=labels)
    except Forbidden:
        services = _allowed(partial(_find, cluster, KSVC, service))
    for obj in services:
        one = _occupant(KSVC, obj)
        named = one.name == service or volume in claim_names(pod_spec(obj))
        if named or (one.live and one.run == cluster.run):
            found.append(one)
    for kind, name in ((PVC, volume), (PV, volume), (SECRET, secret)):
        for obj in _allowed(partial(_find, cluster, kind, name)):
            if not (foreign_claim(obj, cluster.namespace) or holds_weights(obj)):
                found.append(_occupant(kind, obj))
    return tuple(found)


def expired(cluster: Cluster) -> tuple[Occupant, ...]:
    """Return what qwenkit made in any run and what has expired: here, and PVs.

    A PV that a claim of another namespace still holds is left to that namespace. So is what may
    not be read.
    """
    return tuple(
        _occupant(kind, obj)
        for kind in _ORDER
        for obj in _allowed(partial(expired_objects, cluster, kind))
    )


def expired_objects(cluster: Cluster, kind: Kind) -> list[Obj]:
    """Return the objects of a kind that have expired."""
    found = filter(has_expired, cluster.list(kind, labels={MANAGED_BY: "qwenkit"}))
    return [obj for obj in found if _is_free(cluster, obj)]


def unclear_objects(cluster: Cluster, kind: Kind) -> list[Obj]:
    """Return the objects of a kind whose time of expiry cannot be read."""
    found = cluster.list(kind, labels={MANAGED_BY: "qwenkit"})
    return [obj for obj in found if EXPIRES_AT in annotations_of(obj) and expiry(obj) is None]


def evict(
    connect: Callable[[str], Cluster],
    taken: Iterable[Occupant],
    *,
    timeout_s: float,
    manner: Manner,
    on_step: Callable[[TeardownStep], None],
    chosen: Callable[[Obj], bool] = lambda _obj: True,
) -> QwenkitError | None:
    """Remove these objects and no others, each as its own run; return the first failure.

    Args:
        connect: returns the cluster as a run sees it.
        taken: what ``occupants`` returned.
        timeout_s: how long one run's objects may take.
        manner: how the removal goes on.
        on_step: called after each step.
        chosen: says of each object, as it is then, whether it may still go.
    """
    errors: list[QwenkitError] = []
    everything = list(taken)
    for run in dict.fromkeys(one.run for one in everything):
        removal = Removal(connect(run), timeout_s, manner, on_step, chosen)
        mine = [one for one in everything if one.run == run]
        for one in sorted(mine, key=lambda one: _ORDER.index(one.kind)):
            removal.attempt(f"{one.kind} {one.name}", partial(removal.remove, one.kind, one.name))
            if one.kind == KSVC:
                step = partial(removal.wait_for_children, one.name)
                removal.attempt(f"pods of ksvc {one.name}", step)
        removal.look_again()
        errors += removal.problems
    return errors[0] if errors else None


def _occupant(kind: Kind, obj: Obj) -> Occupant:
    live = kind == KSVC and is_true(obj, "Ready")
    return Occupant(kind, name_of(obj), labels_of(obj).get(RUN_LABEL, ""), live)


def _find(cluster: Cluster, kind: Kind, name: str) -> list[Obj]:
    obj = cluster.find(kind, name)
    return [obj] if obj and labels_of(obj).get(MANAGED_BY) == "qwenkit" else []


def _is_free(cluster: Cluster, obj: Obj) -> bool:
    """Return whether no claim of another namespace holds an object."""
    if not foreign_claim(obj, cluster.namespace):
        return True
    claim = obj["spec"]["claimRef"]
    try:
        return cluster.find(PVC, str(claim.get("name")), namespace=str(claim["namespace"])) is None
    except Forbidden:
        return False


def _allowed(read: Callable[[], list[Obj]]) -> list[Obj]:
    try:
        return read()
    except Forbidden:
        return []

"""Take down one run, in the order in which each thing comes free, and prove that nothing is left.

Only objects with this run's labels are touched. Every step may find its work already done, so a
teardown can follow any half-finished run, or another teardown. A finalizer that does not go is
explained, never stripped: something still uses the object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CONFIGURATION,
    DEPLOYMENT,
    JOB,
    KSVC,
    POD,
    PV,
    PVC,
    REVISION,
    ROUTE,
    SECRET,
    SERVICE_LABEL,
    Kind,
    Obj,
    is_going,
    name_of,
)
from qwenkit.cluster.ownership import is_ours
from qwenkit.cluster.wait import wait
from qwenkit.errors import Forbidden, NotFound
from qwenkit.settings import Settings

_CHILDREN = (CONFIGURATION, REVISION, ROUTE, DEPLOYMENT, POD)
_OWN = (KSVC, JOB, POD, PVC, PV, SECRET)


class Kept(Protocol):
    """What is in the bucket below this run's prefix."""

    @property
    def uploads(self) -> int:
        """Unfinished multipart uploads."""

    @property
    def objects(self) -> int:
        """Objects that this project wrote."""


class Weights(Protocol):
    """What teardown needs of the bucket; each call is about this run's prefix only."""

    def abort_uploads(self) -> object:
        """Abort unfinished multipart uploads; says how many."""

    def delete_objects(self) -> object:
        """Delete the objects that this project wrote; says how many."""

    def kept(self) -> Kept:
        """Count what is there."""


@dataclass(frozen=True)
class Step:
    """One step: whose turn it was, whether it was removed, and what became of it."""

    name: str
    removed: bool
    outcome: str

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome}"


@dataclass(frozen=True, repr=False)
class TeardownReport:
    """The steps in order, and the seconds that all took."""

    steps: tuple[Step, ...]
    seconds: float

    def __str__(self) -> str:
        return "\n".join([*map(str, self.steps), f"done in {self.seconds:.1f} s"])

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class Leaks:
    """What is left of a run: nothing is the pass. ``unknown`` is what may not be listed."""

    found: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"left: {what}" for what in self.found] or ["nothing is left"]
        return "\n".join([*lines, *(f"not allowed to look: {what}" for what in self.unknown)])

    __repr__ = __str__


def teardown(
    cluster: Cluster,
    settings: Settings,
    *,
    weights: Weights | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> TeardownReport:
    """Remove this run's objects: Service, Jobs, their pods, PVC, PV, Secret, the bucket's part.

    Args:
        cluster: where.
        settings: the run, and ``delete_weights``.
        weights: the bucket; None leaves it alone.
        on_step: called after each step.

    Raises:
        WaitTimeout: something does not go; why says what holds it.
    """
    start = time.monotonic()
    steps: list[Step] = []

    def done(name: str, removed: bool, outcome: str) -> None:
        steps.append(Step(name, removed, outcome))
        if on_step is not None:
            on_step(steps[-1])

    services = [name_of(service) for service in _ours(cluster, settings, KSVC)]
    for service in services or [settings.service]:
        _remove(cluster, settings, KSVC, service, done)
        _wait_children(cluster, settings, service, done)
    # A Job's pods carry our labels themselves, and may be writing to the bucket.
    for kind in (JOB, POD, PVC, PV, SECRET):
        _remove_all(cluster, settings, kind, done)
    if weights is not None:
        done("unfinished uploads", False, f"aborted: {weights.abort_uploads()}")
        if settings.delete_weights:
            done("weights", True, f"deleted: {weights.delete_objects()}")
        else:
            done("weights", False, "kept: delete_weights is false")
    return TeardownReport(tuple(steps), round(time.monotonic() - start, 3))


def audit(cluster: Cluster, settings: Settings, *, weights: Weights | None = None) -> Leaks:
    """Look for anything that this run left, the bucket's objects only if they were to go."""
    found, unknown = _left(_OWN, lambda kind: _ours(cluster, settings, kind))
    if _is_free_or_ours(cluster, settings, settings.service):
        below, unseen = _below(cluster, settings, settings.service)
        found, unknown = found + below, unknown + unseen
    if weights is not None:
        kept = weights.kept()
        found += [f"{kept.uploads} unfinished uploads"] * bool(kept.uploads)
        found += [f"{kept.objects} objects"] * bool(settings.delete_weights and kept.objects)
    return Leaks(tuple(found), tuple(unknown))


def _left(kinds: Iterable[Kind], read: Callable[[Kind], list[Obj]]) -> tuple[list[str], list[str]]:
    """Name what is there of each kind, and the kinds that may not be looked at."""
    found: list[str] = []
    unknown: list[str] = []
    for kind in kinds:
        try:
            found += [f"{kind}/{name_of(obj)}" for obj in read(kind)]
        except Forbidden as error:
            unknown.append(f"{kind}: {error.why}")
    return found, unknown


def _below(cluster: Cluster, settings: Settings, service: str) -> tuple[list[str], list[str]]:
    """Name what hangs below a Service, by the label that Knative puts on it."""
    labels = {SERVICE_LABEL: service}
    return _left(_CHILDREN, lambda kind: _listed(cluster, settings, kind, labels))


def _listed(cluster: Cluster, settings: Settings, kind: Kind, labels: dict[str, str]) -> list[Obj]:
    try:
        return cluster.list(kind, namespace=settings.namespace, labels=labels)
    except NotFound:
        return []


def _ours(cluster: Cluster, settings: Settings, kind: Kind) -> list[Obj]:
    found = _listed(cluster, settings, kind, settings.labels)
    if kind != PV:
        return found
    # PVs have no namespace: leave those of the same run's name in another namespace alone.
    return [pv for pv in found if _claimed_from(pv) in ("", settings.namespace)]


def _is_free_or_ours(cluster: Cluster, settings: Settings, name: str) -> bool:
    """Tell whether what hangs below a Service's name can be ours."""
    service = cluster.find(KSVC, name, namespace=settings.namespace)
    return service is None or is_ours(service, run=settings.run)


def _claimed_from(volume: Obj) -> str:
    return str((volume["spec"].get("claimRef") or {}).get("namespace") or "")


def _remove_all(
    cluster: Cluster, settings: Settings, kind: Kind, done: Callable[[str, bool, str], None]
) -> None:
    """Remove this run's objects of a kind; who may not see PVs still gets rid of the keys."""
    try:
        for obj in _ours(cluster, settings, kind):
            _remove(cluster, settings, kind, name_of(obj), done)
    except Forbidden as error:
        done(f"{kind}", False, f"not allowed: {error.why}")


def _remove(
    cluster: Cluster,
    settings: Settings,
    kind: Kind,
    name: str,
    done: Callable[[str, bool, str], None],
) -> None:
    existing = cluster.find(kind, name, namespace=settings.namespace)
    if existing is None or not is_ours(existing, run=settings.run):
        outcome = "none" if existing is None else "not ours, left as it is"
        done(f"{kind} {name}", False, outcome)
        return
    cluster.delete(kind, name, namespace=settings.namespace)
    uid = existing["metadata"].get("uid")

    def still() -> Obj | None:
        found = cluster.find(kind, name, namespace=settings.namespace)
        return found if found and found["metadata"].get("uid") == uid else None

    gone = wait(
        still,
        what=f"{kind} {name} gone",
        ready=lambda obj: obj is None,
        describe=lambda obj: "gone" if obj is None else "there",
        timeout_s=settings.seconds("teardown"),
        every_s=0.5,
        fix=lambda obj: _held(cluster, settings, kind, obj or {}),
    )
    done(f"{kind} {name}", True, f"deleted in {gone.seconds:.1f} s")


def _wait_children(
    cluster: Cluster, settings: Settings, service: str, done: Callable[[str, bool, str], None]
) -> None:
    """Wait for the pods, which hold GPU and volume, and for what the garbage collector takes."""
    if not _is_free_or_ours(cluster, settings, service):
        return
    gone = wait(
        lambda: _below(cluster, settings, service)[0],
        what=f"what hangs below ksvc {service} gone",
        ready=lambda left: not left,
        describe=lambda left: f"{len(left)} left",
        timeout_s=settings.seconds("teardown"),
        every_s=0.5,
        fix=lambda left: (
            f"still there: {', '.join(left)}",
            "a pod drains 30 s after its last request, up to request_timeout_s; "
            "raise teardown_timeout_s and run teardown again",
        ),
    )
    done(f"pods of ksvc {service}", False, f"gone after {gone.seconds:.1f} s")


def _held(cluster: Cluster, settings: Settings, kind: Kind, obj: Obj) -> tuple[str, str]:
    """Say what keeps an object that is being deleted."""
    holders = obj.get("metadata", {}).get("finalizers") or []
    why = f"finalizers: {', '.join(holders) or 'none'}"
    if not is_going(obj):
        return f"deletion has not begun; {why}", ""
    if kind == PVC:
        users = [
            name_of(pod)
            for pod in cluster.list(POD, namespace=settings.namespace)
            for volume in pod["spec"].get("volumes") or []
            if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name_of(obj)
        ]
        why += f"; used by pods: {', '.join(users) or 'none'}"
    fix = {
        PVC: "delete those pods first; never strip the finalizer, the volume would stay mounted",
        PV: "a VolumeAttachment or a PVC still uses it: kubectl get volumeattachments,pvc",
    }
    return why, fix.get(kind, f"kubectl describe {kind} {name_of(obj)}")

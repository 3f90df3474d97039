"""Remove one run's objects in the order of their dependencies; audit that nothing is left.

Only objects with this run's labels are touched. A step whose work is already done
succeeds, so a teardown can follow any half-finished run, or another teardown. A finalizer that
stays is explained, never removed: something still uses the object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.kinds import (
    CHILD_KINDS,
    JOB,
    KSVC,
    POD,
    PV,
    PVC,
    RUN_KINDS,
    SECRET,
    SERVICE_LABEL,
    Kind,
    Obj,
    is_terminating,
    name_of,
)
from qwenkit.cluster.ownership import is_ours
from qwenkit.cluster.wait import wait
from qwenkit.errors import Forbidden
from qwenkit.settings import Settings


class StoredCounts(Protocol):
    """What is in the bucket under this run's prefix."""

    @property
    def uploads(self) -> int:
        """Unfinished multipart uploads."""

    @property
    def objects(self) -> int:
        """Objects that this project wrote."""


class StoredWeights(Protocol):
    """What teardown needs of the bucket; each call concerns this run's prefix only."""

    def abort_uploads(self) -> object:
        """Abort unfinished multipart uploads; return how many."""

    def delete_objects(self) -> object:
        """Delete the objects that this project wrote; return how many."""

    def kept(self) -> StoredCounts:
        """Count what is there."""


@dataclass(frozen=True)
class TeardownStep:
    """One step: its object, whether it was removed, and the outcome in words."""

    name: str
    removed: bool
    outcome: str

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome}"


@dataclass(frozen=True, repr=False)
class TeardownReport:
    """The steps in order, and the seconds that all took."""

    steps: tuple[TeardownStep, ...]
    seconds: float

    def __str__(self) -> str:
        return "\n".join([*map(str, self.steps), f"done in {self.seconds:.1f} s"])

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class Leaks:
    """What is left of a run, ideally nothing. ``unknown`` names what may not be listed."""

    found: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"left: {what}" for what in self.found] or ["nothing is left"]
        return "\n".join([*lines, *(f"not allowed to read: {what}" for what in self.unknown)])

    __repr__ = __str__


def teardown(
    cluster: Cluster,
    settings: Settings,
    *,
    weights: StoredWeights | None = None,
    on_step: Callable[[TeardownStep], None] | None = None,
) -> TeardownReport:
    """Remove this run's objects: Services, Jobs, their pods, PVC, PV, Secret, uploads.

    Without ``weights`` the bucket is not touched; the weights themselves are deleted only with
    ``settings.delete_weights``. ``on_step`` is called after each step.

    Raises:
        WaitTimeout: an object is not removed in time; why names what blocks it.
    """
    start = time.monotonic()
    removal = _Teardown(cluster, settings.seconds("teardown"), on_step)
    services = [name_of(service) for service in _ours(cluster, KSVC)]
    for service in services or [settings.service]:
        removal.remove(KSVC, service)
        removal.wait_for_children(service)
    # A Job's pods have our labels themselves, and may be writing to the bucket.
    for kind in (JOB, POD, PVC, PV, SECRET):
        removal.remove_all(kind)
    if weights is not None:
        removal.add("unfinished uploads", False, f"aborted: {weights.abort_uploads()}")
        if settings.delete_weights:
            removal.add("weights", True, f"deleted: {weights.delete_objects()}")
        else:
            removal.add("weights", False, "kept: delete_weights is false")
    return TeardownReport(tuple(removal.steps), round(time.monotonic() - start, 3))


def audit(cluster: Cluster, settings: Settings, *, weights: StoredWeights | None = None) -> Leaks:
    """List what this run left; objects of the bucket only if ``delete_weights`` is set."""
    found, unknown = _left(RUN_KINDS, lambda kind: _ours(cluster, kind))
    if _may_have_children(cluster, settings.service):
        children, hidden = _children(cluster, settings.service)
        found, unknown = found + children, unknown + hidden
    if weights is not None:
        kept = weights.kept()
        found += [f"{kept.uploads} unfinished uploads"] * bool(kept.uploads)
        found += [f"{kept.objects} objects"] * bool(settings.delete_weights and kept.objects)
    return Leaks(tuple(found), tuple(unknown))


@dataclass
class _Teardown:
    """A teardown while it runs: each method adds its steps."""

    cluster: Cluster
    timeout_s: float
    on_step: Callable[[TeardownStep], None] | None
    steps: list[TeardownStep] = field(default_factory=list)

    def add(self, name: str, removed: bool, outcome: str) -> None:
        self.steps.append(TeardownStep(name, removed, outcome))
        if self.on_step is not None:
            self.on_step(self.steps[-1])

    def remove_all(self, kind: Kind) -> None:
        """Remove this run's objects of a kind; without permission to list it, continue."""
        try:
            for obj in _ours(self.cluster, kind):
                self.remove(kind, name_of(obj))
        except Forbidden as error:
            self.add(f"{kind}", False, f"not allowed: {error.why}")

    def remove(self, kind: Kind, name: str) -> None:
        """Delete an object if it is ours, and wait until it is gone."""
        existing = self.cluster.find(kind, name)
        if existing is None or not is_ours(existing, run=self.cluster.run):
            outcome = "none" if existing is None else "not ours, not touched"
            self.add(f"{kind} {name}", False, outcome)
            return
        self.cluster.delete(kind, name)
        uid = existing["metadata"].get("uid")

        def remaining() -> Obj | None:
            found = self.cluster.find(kind, name)
            return found if found and found["metadata"].get("uid") == uid else None

        gone = wait(
            remaining,
            what=f"{kind} {name} gone",
            ready=lambda obj: obj is None,
            describe=lambda obj: "gone" if obj is None else "there",
            late=lambda obj: _blocked(self.cluster, kind, obj or {}),
            timeout_s=self.timeout_s,
            every_s=0.5,
        )
        self.add(f"{kind} {name}", True, f"deleted in {gone.seconds:.1f} s")

    def wait_for_children(self, service: str) -> None:
        """Wait for the pods, which hold GPU and volume, and for the garbage collector."""
        if not _may_have_children(self.cluster, service):
            return
        gone = wait(
            lambda: _children(self.cluster, service)[0],
            what=f"children of ksvc {service} gone",
            ready=lambda left: not left,
            describe=lambda left: f"{len(left)} left",
            late=lambda left: Explanation(
                "draining",
                f"still there: {', '.join(left)}",
                fix="a pod drains 30 s after its last request, up to request_timeout_s; "
                "raise teardown_timeout_s and run teardown again",
            ),
            timeout_s=self.timeout_s,
            every_s=0.5,
        )
        self.add(f"pods of ksvc {service}", False, f"gone after {gone.seconds:.1f} s")


def _left(kinds: Iterable[Kind], read: Callable[[Kind], list[Obj]]) -> tuple[list[str], list[str]]:
    """Name the objects of each kind, and the kinds that may not be listed."""
    found: list[str] = []
    unknown: list[str] = []
    for kind in kinds:
        try:
            found += [f"{kind}/{name_of(obj)}" for obj in read(kind)]
        except Forbidden as error:
            unknown.append(f"{kind}: {error.why}")
    return found, unknown


def _children(cluster: Cluster, service: str) -> tuple[list[str], list[str]]:
    """Name the objects that Knative labels as a Service's, and the kinds not allowed."""
    labels = {SERVICE_LABEL: service}
    return _left(CHILD_KINDS, lambda kind: cluster.list(kind, labels=labels))


def _may_have_children(cluster: Cluster, service: str) -> bool:
    """Return whether the objects with a Service's name can be ours."""
    found = cluster.find(KSVC, service)
    return found is None or is_ours(found, run=cluster.run)


def _ours(cluster: Cluster, kind: Kind) -> list[Obj]:
    """Return this run's objects of a kind, but no PV of the same run in another namespace."""
    found = cluster.list(kind, labels=cluster.labels)
    if kind != PV:
        return found
    claims = [pv["spec"].get("claimRef") or {} for pv in found]
    here = ("", None, cluster.namespace)
    return [pv for pv, claim in zip(found, claims, strict=True) if claim.get("namespace") in here]


def _blocked(cluster: Cluster, kind: Kind, obj: Obj) -> Explanation:
    """Explain what blocks the deletion of an object."""
    finalizers = obj.get("metadata", {}).get("finalizers") or []
    why = f"finalizers: {', '.join(finalizers) or 'none'}"
    if not is_terminating(obj):
        return Explanation("finalizer", f"deletion has not begun; {why}")
    if kind == PVC:
        users = [
            name_of(pod)
            for pod in cluster.list(POD)
            for volume in pod["spec"].get("volumes") or []
            if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name_of(obj)
        ]
        why += f"; used by pods: {', '.join(users) or 'none'}"
    fix = {
        PVC: "delete those pods first; never remove the finalizer, the volume would stay mounted",
        PV: "a VolumeAttachment or a PVC still uses it: kubectl get volumeattachments,pvc",
    }
    default = f"kubectl describe {kind} {name_of(obj)}"
    return Explanation("finalizer", why, fix=fix.get(kind, default))

"""Which volume fits a claim, and why does another not?"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from qwenkit.admission.schema import quantities
from qwenkit.sandbox.controllers.object_fields import annotations_of, deleting, labels_of
from qwenkit.sandbox.controllers.workloads.adoption import selects
from qwenkit.sandbox.kube.objects import Object, at

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def claim_class(obj: Object) -> str:
    """Return the storage class that a claim asks for or a volume has; "" is none."""
    legacy = annotations_of(obj).get(_CLASS_ANNOTATION)
    name: str = legacy or at(obj, "spec", "storageClassName") or ""
    return name


def refers_to(volume: Object, claim: Object, *, strict: bool = False) -> bool:
    """Return whether a volume's reference names this claim; ``strict`` requires its uid too."""
    reference, metadata = at(volume, "spec", "claimRef") or {}, claim["metadata"]
    named = (reference.get("namespace"), reference.get("name"))
    if named != (metadata["namespace"], metadata["name"]):
        return False
    uid = reference.get("uid")
    return bool(uid == metadata["uid"] or (not uid and not strict))


def mismatch(volume: Object, claim: Object) -> str:
    """Return why a volume that a claim names cannot serve it, in the controller's words."""
    if _capacity(volume) < _wanted(claim):
        return "requested PV is too small"
    if claim_class(volume) != claim_class(claim):
        return "storageClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    if not _allows(volume, claim):
        return "incompatible accessMode"
    return ""


def pick(volumes: Iterable[Object], claim: Object) -> Object | None:
    """Return the volume for a claim: one reserved for it, else the smallest that fits."""
    free = []
    for volume in volumes:
        reserved = refers_to(volume, claim)
        taken = at(volume, "spec", "claimRef") and not reserved
        if taken or deleting(volume) or mismatch(volume, claim):
            continue
        if reserved:
            return volume
        if _selected(volume, claim) and at(volume, "status", "phase") == "Available":
            free.append(volume)
    return min(free, key=lambda v: (_capacity(v), v["metadata"]["name"]), default=None)


def _capacity(volume: Object) -> Fraction:
    return quantities.parse(at(volume, "spec", "capacity", "storage") or 0)


def _wanted(claim: Object) -> Fraction:
    return quantities.parse(at(claim, "spec", "resources", "requests", "storage") or 0)


def _mode(obj: Object) -> str:
    return at(obj, "spec", "volumeMode") or "Filesystem"


def _allows(volume: Object, claim: Object) -> bool:
    wanted, offered = (set(at(obj, "spec", "accessModes") or []) for obj in (claim, volume))
    return wanted <= offered


def _selected(volume: Object, claim: Object) -> bool:
    return selects(at(claim, "spec", "selector") or {}, labels_of(volume))

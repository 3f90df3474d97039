"""Which volume is a claim bound to, and when may either be deleted?"""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.loop import Controller
from qwenkit.sandbox.controllers.object_fields import (
    Key,
    annotations_of,
    deleting,
    key_of,
    set_finalizer,
)
from qwenkit.sandbox.controllers.workloads.pods import on_node
from qwenkit.sandbox.controllers.workloads.volume_match import (
    claim_class,
    mismatch,
    pick,
    refers_to,
)
from qwenkit.sandbox.controllers.workloads.volume_provisioning import (
    SELECTED_NODE,
    default_class,
    waits_for_consumer,
)
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.storage.history import WatchEvent

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_US = "pv.kubernetes.io/bound-by-controller"
CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"


class VolumeBinder(Controller):
    """Binds claims to volumes. A key without a namespace is that of a volume."""

    name = "volume-binder"
    kind = "PersistentVolumeClaim"
    component = "persistentvolume-controller"
    watches = frozenset({"PersistentVolumeClaim", "PersistentVolume", "StorageClass"})

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """A change may give any waiting claim its volume, and any volume its phase."""
        keys = [] if change.kind == "StorageClass" else [key_of(change.object)]
        volumes, claims = self.store.list("PersistentVolume"), self.store.list(self.kind)
        if change.kind != "PersistentVolume":
            keys += [key_of(volume) for volume in volumes]
        if change.kind != self.kind:
            keys += [key_of(c) for c in claims if at(c, "status", "phase") != "Bound"]
            bound = change.object["metadata"]["name"]
            keys += [key_of(c) for c in claims if at(c, "spec", "volumeName") == bound]
        return dict.fromkeys(keys)

    def reconcile(self, namespace: str, name: str) -> None:
        """Bind one claim, or set the phase of one volume."""
        if not namespace:
            if volume := self.store.find("PersistentVolume", None, name):
                self._set_volume_phase(volume)
            return
        claim = self.store.find(self.kind, namespace, name)
        if claim is None or deleting(claim):
            return
        if BIND_COMPLETED in annotations_of(claim):
            self._check_bound(claim)
        elif at(claim, "spec", "volumeName"):
            self._bind_requested(claim)
        else:
            self._bind_any(claim)

    def _check_bound(self, claim: Object) -> None:
        volume = self.store.find("PersistentVolume", None, claim["spec"]["volumeName"])
        if volume is None or not refers_to(volume, claim, strict=True):
            if at(claim, "status", "phase") != "Lost":
                self._set_phase(claim, "Lost")
                message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                self.recorder.warning(claim, "ClaimLost", message)
            return
        self._set_phase(claim, "Bound", volume)

    def _bind_requested(self, claim: Object) -> None:
        name = claim["spec"]["volumeName"]
        volume = self.store.find("PersistentVolume", None, name)
        if volume is None:
            self._set_phase(claim, "Pending")
        elif at(volume, "spec", "claimRef") and not refers_to(volume, claim):
            self._set_phase(claim, "Pending")
            message = f'volume "{name}" already bound to a different claim.'
            self.recorder.warning(claim, "FailedBinding", message)
        elif why := mismatch(volume, claim):
            self._set_phase(claim, "Pending")
            message = f'Cannot bind to requested volume "{name}": {why}'
            self.recorder.warning(claim, "VolumeMismatch", message)
        else:
            self._bind(claim, volume)

    def _bind_any(self, claim: Object) -> None:
        if "storageClassName" not in claim["spec"] and (name := default_class(self.store)):
            claim["spec"]["storageClassName"] = name
            claim = self.store.update(self.kind, claim)
        volume = pick(self.store.list("PersistentVolume"), claim)
        if volume is not None:
            self._bind(claim, volume)
            return
        self._set_phase(claim, "Pending")
        wanted = claim_class(claim)
        if not wanted:
            message = "no persistent volumes available for this claim and no storage class is set"
            self.recorder.normal(claim, "FailedBinding", message)
            return
        found = self.store.find("StorageClass", None, wanted)
        if found is None:
            message = f'storageclass.storage.k8s.io "{wanted}" not found'
            self.recorder.warning(claim, "ProvisioningFailed", message)
        elif waits_for_consumer(found) and SELECTED_NODE not in annotations_of(claim):
            message = "waiting for first consumer to be created before binding"
            self.recorder.normal(claim, "WaitForFirstConsumer", message)
        else:
            message = (
                "Waiting for a volume to be created either by the external provisioner "
                f"'{found['provisioner']}' or manually by the system administrator. If volume "
                "creation is delayed, please verify that the provisioner is running and "
                "correctly registered."
            )
            self.recorder.normal(claim, "ExternalProvisioning", message)

    def _bind(self, claim: Object, volume: Object) -> None:
        """Write both references, the volume's first, then both phases."""
        namespace, name = key_of(claim)
        reference = at(volume, "spec", "claimRef") or {}
        if not reference:
            annotations = volume["metadata"].setdefault("annotations", {})
            annotations[BOUND_BY_US] = "yes"
        volume["spec"]["claimRef"] = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            **reference,
            "namespace": namespace,
            "name": name,
            "uid": claim["metadata"]["uid"],
            "resourceVersion": claim["metadata"]["resourceVersion"],
        }
        volume = self.store.update("PersistentVolume", volume)
        self._set_volume_phase(volume)
        annotations = claim["metadata"].setdefault("annotations", {})
        annotations[BIND_COMPLETED] = "yes"
        if not claim["spec"].get("volumeName"):
            annotations[BOUND_BY_US] = "yes"
            claim["spec"]["volumeName"] = volume["metadata"]["name"]
        self._set_phase(self.store.update(self.kind, claim), "Bound", volume)

    def _set_phase(self, claim: Object, phase: str, volume: Object | None = None) -> None:
        status = {**(claim.get("status") or {}), "phase": phase}
        if volume is not None:
            status["accessModes"] = volume["spec"].get("accessModes", [])
            status["capacity"] = volume["spec"].get("capacity", {})
        self.store.update_status(self.kind, {**claim, "status": status})

    def _set_volume_phase(self, volume: Object) -> None:
        reference = at(volume, "spec", "claimRef") or {}
        phase = "Available"
        if reference.get("uid"):
            claim = self.store.find(self.kind, reference["namespace"], reference["name"])
            known = claim is not None and claim["metadata"]["uid"] == reference["uid"]
            phase = "Bound" if known else "Released"
        status = {**(volume.get("status") or {}), "phase": phase}
        self.store.update_status("PersistentVolume", {**volume, "status": status})


class ClaimProtection(Controller):
    """Keeps a claim that a scheduled pod uses until the pod is gone."""

    name = "claim-protection"
    kind = "PersistentVolumeClaim"
    watches = frozenset({"PersistentVolumeClaim", "Pod"})

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """A pod concerns the claims that it mounts."""
        if change.kind == self.kind:
            return [key_of(change.object)]
        namespace = change.object["metadata"]["namespace"]
        return [(namespace, claim) for claim in _claims(change.object)]

    def reconcile(self, namespace: str, name: str) -> None:
        """Add the finalizer to a claim; remove it from one that is deleted and not in use."""
        claim = self.store.find(self.kind, namespace, name)
        if claim is None:
            return
        users = (pod for pod in self.store.list("Pod", namespace) if name in _claims(pod))
        in_use = any(map(on_node, users))
        protect(self, claim, CLAIM_PROTECTION, in_use=in_use)


class VolumeProtection(Controller):
    """Keeps a volume that is bound until its claim is gone."""

    name = "volume-protection"
    kind = "PersistentVolume"
    watches = frozenset({"PersistentVolume"})

    def reconcile(self, namespace: str, name: str) -> None:
        """Add the finalizer to a volume; remove it from one that is deleted and not bound."""
        volume = self.store.find(self.kind, None, name)
        if volume is not None:
            bound = at(volume, "status", "phase") == "Bound"
            protect(self, volume, VOLUME_PROTECTION, in_use=bound)


def protect(controller: Controller, obj: Object, finalizer: str, *, in_use: bool) -> None:
    """Add the finalizer to an object; remove it when the object is deleted and not in use."""
    if not deleting(obj) or not in_use:
        set_finalizer(controller.store, controller.kind, obj, finalizer, present=not deleting(obj))


def _claims(pod: Object) -> set[str]:
    volumes = at(pod, "spec", "volumes") or []
    names = (at(volume, "persistentVolumeClaim", "claimName") for volume in volumes)
    return {name for name in names if name}

"""Which volume is made for a claim, and what becomes of it? As local-path of kind and k3s does.

A volume is a folder of the node; it goes with its claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qwenkit.sandbox.controllers.loop import Context, Controller
from qwenkit.sandbox.controllers.object_fields import Key, annotations_of, deleting, key_of
from qwenkit.sandbox.controllers.workloads.volume_match import claim_class
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.storage.history import WatchEvent
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.trees import remove_tree

LOCAL_PATH = "rancher.io/local-path"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}


class LocalPathProvisioner(Controller):
    """Makes and removes the volumes of its classes. A key without a namespace is a volume's."""

    name = "local-path-provisioner"
    kind = "PersistentVolumeClaim"
    component = f"{LOCAL_PATH}_local-path-provisioner"
    watches = frozenset({"PersistentVolumeClaim", "PersistentVolume"})

    def __init__(self, context: Context, folder: Path | None) -> None:
        super().__init__(context)
        self._folder = folder

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """A claim and a volume concern themselves alone."""
        return [key_of(change.object)]

    def reconcile(self, namespace: str, name: str) -> None:
        """Make the volume of a claim that waits for it, or remove one that is released."""
        if not namespace:
            if volume := self.store.find("PersistentVolume", None, name):
                self._reclaim(volume)
            return
        claim = self.store.find(self.kind, namespace, name)
        if claim is None or deleting(claim) or at(claim, "spec", "volumeName"):
            return
        of = self.store.find("StorageClass", None, claim_class(claim)) or {}
        node = annotations_of(claim).get(SELECTED_NODE)
        if of.get("provisioner") == LOCAL_PATH and (node or not waits_for_consumer(of)):
            self._provision(claim, of, node)

    def _provision(self, claim: Object, of: Object, node: str | None) -> None:
        namespace, claim_name = key_of(claim)
        name = f"pvc-{claim['metadata']['uid']}"
        if self.store.find("PersistentVolume", None, name):
            return
        modes = at(claim, "spec", "accessModes") or []
        if not set(modes) <= _MODES:
            words = "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes"
            message = (
                f'failed to provision volume with StorageClass "{claim_class(claim)}": {words}'
            )
            self.recorder.warning(claim, "ProvisioningFailed", message)
            return
        about = f'External provisioner is provisioning volume for claim "{namespace}/{claim_name}"'
        self.recorder.normal(claim, "Provisioning", about)
        host = node or at(self.store.list("Node")[0], "metadata", "name")
        term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
        spec = {
            "capacity": {"storage": at(claim, "spec", "resources", "requests", "storage")},
            "accessModes": modes,
            "persistentVolumeReclaimPolicy": of.get("reclaimPolicy", "Delete"),
            "storageClassName": claim_class(claim),
            "volumeMode": "Filesystem",
            "claimRef": {
                "kind": "PersistentVolumeClaim",
                "apiVersion": "v1",
                "namespace": namespace,
                "name": claim_name,
                "uid": claim["metadata"]["uid"],
            },
            "hostPath": {
                "path": f"/var/local-path-provisioner/{name}_{namespace}_{claim_name}",
                "type": "DirectoryOrCreate",
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        }
        metadata = {"name": name, "annotations": {PROVISIONED_BY: LOCAL_PATH}}
        self.store.create("PersistentVolume", {"metadata": metadata, "spec": spec})
        self.recorder.normal(
            claim, "ProvisioningSucceeded", f"Successfully provisioned volume {name}"
        )

    def _reclaim(self, volume: Object) -> None:
        """Delete a released volume of ours with its folder, as its class says."""
        ours = annotations_of(volume).get(PROVISIONED_BY) == LOCAL_PATH
        policy = at(volume, "spec", "persistentVolumeReclaimPolicy")
        released = at(volume, "status", "phase") == "Released"
        if ours and released and policy == "Delete" and not deleting(volume):
            name = volume["metadata"]["name"]
            if self._folder:
                remove_tree(self._folder / name)
            self.store.delete("PersistentVolume", None, name)


def waits_for_consumer(of: Object) -> bool:
    """Return whether a class makes its volumes once a pod is there."""
    return of.get("volumeBindingMode") == "WaitForFirstConsumer"


def default_class(store: ObjectStore) -> str:
    """Return the default class of claims that name none; empty if there is none."""
    classes = store.list("StorageClass")
    found = [one for one in classes if annotations_of(one).get(IS_DEFAULT) == "true"]
    return str(found[0]["metadata"]["name"]) if found else ""

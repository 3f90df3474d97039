"""ReplicaSet → Pods."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from qwenkit.sandbox.controllers.events import Recorder
from qwenkit.sandbox.controllers.knative.conditions import TRUE
from qwenkit.sandbox.controllers.loop import Controller, Key, World, deleting, owner_reference
from qwenkit.sandbox.controllers.workloads.adoption import claim, claimants
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object, at, condition, copied

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_FINISHED = ("Succeeded", "Failed")
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


class ReplicaSetController(Controller):
    """Keeps the wanted number of pods."""

    name = "replica-set"
    kind = "ReplicaSet"
    watches = frozenset({"ReplicaSet", "Pod"})

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._recorder = Recorder(world.store, "replicaset-controller")

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return whom a change concerns; a pod that nobody controls: who may adopt it."""
        return super().keys(change) or claimants(self.store, self.kind, change.object)

    def reconcile(self, namespace: str, name: str) -> None:
        """Create or delete pods, then count them."""
        replica_set = self.store.find(self.kind, namespace, name)
        if replica_set is None:
            return
        before = claim(self.store, replica_set, "Pod")
        if not deleting(replica_set):
            self._adjust(replica_set, [pod for pod in before if is_active(pod)])
        self._report(replica_set, before)

    def _adjust(self, replica_set: Object, active: list[Object]) -> None:
        missing = replica_set["spec"]["replicas"] - len(active)
        for _ in range(missing):
            self._create(replica_set)
        if missing < 0:
            for pod in sorted(active, key=_keep_rank)[:-missing]:
                self._delete(replica_set, pod)

    def _create(self, replica_set: Object) -> None:
        try:
            pod = self.store.create("Pod", pod_for(replica_set))
        except ApiError as error:
            self._recorder.warning(replica_set, "FailedCreate", f"Error creating: {error.message}")
            raise
        self._recorder.normal(
            replica_set, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}"
        )

    def _delete(self, replica_set: Object, pod: Object) -> None:
        name = pod["metadata"]["name"]
        self.store.delete("Pod", pod["metadata"]["namespace"], name)
        self._recorder.normal(replica_set, "SuccessfulDelete", f"Deleted pod: {name}")

    def _report(self, replica_set: Object, pods: list[Object]) -> None:
        """Count the pods as they were before this round: its own changes bring the next one."""
        active = [pod for pod in pods if is_active(pod)]
        ready = sum(is_ready_pod(pod) for pod in active)
        gone = sum(deleting(pod) and not _finished(pod) for pod in pods)
        counts = {
            "fullyLabeledReplicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        status = {
            "replicas": len(active),
            **{field: count for field, count in counts.items() if count},
            "terminatingReplicas": gone,
            "observedGeneration": replica_set["metadata"]["generation"],
        }
        self.store.update_status(self.kind, {**replica_set, "status": status})


def pod_for(replica_set: Object) -> Object:
    """Return a new pod of a ReplicaSet, with what pod admission adds."""
    metadata = replica_set["metadata"]
    template = copied(replica_set["spec"]["template"])
    prefix = f"{metadata['name'][:57]}-"
    pod: Object = {
        "metadata": {
            **template["metadata"],
            "generateName": prefix,
            "name": prefix + "".join(secrets.choice(_LETTERS) for _ in range(5)),
            "namespace": metadata["namespace"],
            "ownerReferences": [owner_reference(replica_set)],
        },
        "spec": template["spec"],
    }
    _mount_token(pod["spec"])
    return pod


def is_active(pod: Object) -> bool:
    """Tell whether a pod still counts: neither finished nor going."""
    return not deleting(pod) and not _finished(pod)


def is_ready_pod(pod: Object) -> bool:
    """Tell whether the kubelet calls the pod ready."""
    return condition(pod, "Ready").get("status") == TRUE


def _finished(pod: Object) -> bool:
    return at(pod, "status", "phase") in _FINISHED


def _keep_rank(pod: Object) -> tuple[bool, int, bool, str]:
    """Order pods from the first to delete to the last: the youngest ready one goes first."""
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    phase = phases.get(at(pod, "status", "phase") or "", 1)
    assigned = bool(at(pod, "spec", "nodeName"))
    return assigned, phase, is_ready_pod(pod), _inverted(pod["metadata"]["creationTimestamp"])


def _inverted(timestamp: str) -> str:
    """Return a text that sorts later moments first."""
    return "".join(chr(126 - ord(letter) + 32) for letter in timestamp)


def _mount_token(spec: Object) -> None:
    """Mount the service account's token, as the ServiceAccount admission plugin does."""
    if spec.get("automountServiceAccountToken") is False:
        return
    name = "kube-api-access-" + "".join(secrets.choice(_LETTERS) for _ in range(5))
    for container in spec["containers"]:
        mount = {"name": name, "readOnly": True, "mountPath": _TOKEN_PATH}
        container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    root = [{"key": "ca.crt", "path": "ca.crt"}]
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": root}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    volume = {"name": name, "projected": {"sources": sources, "defaultMode": 420}}
    spec["volumes"] = [*spec.get("volumes", []), volume]

"""Which pods does a workload get, and which of them count?"""

from __future__ import annotations

import random
from collections.abc import Callable

from qwenkit.sandbox.controllers.conditions import READY, TRUE
from qwenkit.sandbox.controllers.loop import Controller
from qwenkit.sandbox.controllers.names import LETTERS
from qwenkit.sandbox.controllers.object_fields import deleting, key_of, owner_reference
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object, at, condition, copied

_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


class PodController(Controller):
    """A controller that creates and deletes pods, with an event for each."""

    def create_pod(
        self,
        owner: Object,
        *,
        finalizers: tuple[str, ...] = (),
        change: Callable[[Object], None] = lambda _pod: None,
    ) -> None:
        """Create a pod from its owner's template; ``change`` may change it first.

        Raises:
            ApiError: it cannot be created.
        """
        pod = pod_for(owner)
        change(pod)
        if finalizers:
            pod["metadata"]["finalizers"] = list(finalizers)
        try:
            created = self.store.create("Pod", pod)
        except ApiError as error:
            self.recorder.warning(owner, "FailedCreate", f"Error creating: {error.message}")
            raise
        name = created["metadata"]["name"]
        self.recorder.normal(owner, "SuccessfulCreate", f"Created pod: {name}")

    def delete_pod(self, owner: Object, pod: Object) -> None:
        """Delete a pod of an owner."""
        namespace, name = key_of(pod)
        self.store.delete("Pod", namespace, name)
        self.recorder.normal(owner, "SuccessfulDelete", f"Deleted pod: {name}")


def pod_for(owner: Object) -> Object:
    """Return a new pod from its owner's template, with what pod admission adds."""
    metadata = owner["metadata"]
    template = copied(owner["spec"]["template"])
    pod: Object = {
        "metadata": {
            **template["metadata"],
            "generateName": f"{metadata['name'][:57]}-",
            "namespace": metadata["namespace"],
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": template["spec"],
    }
    _mount_token(pod["spec"])
    return pod


def finished(pod: Object) -> bool:
    """Return whether all containers of a pod have ended for good."""
    return at(pod, "status", "phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Return whether a pod is neither finished nor being deleted."""
    return not deleting(pod) and not finished(pod)


def is_ready_pod(pod: Object) -> bool:
    """Return whether the pod's Ready condition is True."""
    return condition(pod, READY).get("status") == TRUE


def terminating(pods: list[Object]) -> int:
    """Return how many pods are being deleted and have not finished."""
    return sum(deleting(pod) and not finished(pod) for pod in pods)


def on_node(pod: Object) -> bool:
    """Return whether a pod takes part of a node's resources."""
    return bool(at(pod, "spec", "nodeName")) and not finished(pod)


def _mount_token(spec: Object) -> None:
    """Mount the service account's token, as the ServiceAccount admission plugin does."""
    if spec.get("automountServiceAccountToken") is False:
        return
    name = "kube-api-access-" + "".join(random.choices(LETTERS, k=5))
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

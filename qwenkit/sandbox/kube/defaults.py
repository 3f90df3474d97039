"""What the API server fills in: defaults of every write, and the status an object is born with.

Only for the kinds that people and controllers of the sandbox create. Knative's defaults are its
webhook's business (``manifests/admission.py``).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.objects import Object, at

DEFAULT_GRACE_SECONDS = 30
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def apply(kind: Kind, obj: Object) -> None:
    """Fill in the defaults of the kind, in place."""
    if fill := _FILL.get(kind.name):
        fill(obj)


def initial_status(kind: Kind, obj: Object) -> Object | None:
    """Return the status of a new object, or None for kinds that start without one."""
    if kind.name == "Pod":
        return {"phase": "Pending", "qosClass": _qos(obj)}
    return {
        "Namespace": {"phase": "Active"},
        "PersistentVolume": {"phase": "Pending"},
        "PersistentVolumeClaim": {"phase": "Pending"},
        "Service": {"loadBalancer": {}},
        "Deployment": {},
        "ReplicaSet": {"replicas": 0},
        # A node is registered by its kubelet together with its status.
        "Node": obj.get("status", {}),
        "CustomResourceDefinition": obj.get("status", {}),
    }.get(kind.name)


def _setdefaults(obj: Object, values: dict[str, Any]) -> Object:
    for key, value in values.items():
        obj.setdefault(key, value)
    return obj


def _spec(obj: Object, **values: Any) -> Object:
    return _setdefaults(obj.setdefault("spec", {}), values)


def _namespace(obj: Object) -> None:
    _spec(obj, finalizers=["kubernetes"])
    metadata = obj["metadata"]
    metadata["labels"] = {
        **metadata.get("labels", {}),
        "kubernetes.io/metadata.name": metadata["name"],
    }


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    for key, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _volume(obj: Object) -> None:
    _spec(obj, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")


def _claim(obj: Object) -> None:
    _spec(obj, volumeMode="Filesystem")


def _service(obj: Object) -> None:
    spec = _spec(
        obj,
        type="ClusterIP",
        sessionAffinity="None",
        ipFamilies=["IPv4"],
        ipFamilyPolicy="SingleStack",
        internalTrafficPolicy="Cluster",
    )
    for port in spec.get("ports", []):
        _setdefaults(port, {"protocol": "TCP", "targetPort": port.get("port")})


def _pod(obj: Object) -> None:
    spec = _spec(
        obj,
        restartPolicy="Always",
        terminationGracePeriodSeconds=DEFAULT_GRACE_SECONDS,
        dnsPolicy="ClusterFirst",
        serviceAccountName="default",
        securityContext={},
        schedulerName="default-scheduler",
        priority=0,
        enableServiceLinks=True,
        preemptionPolicy="PreemptLowerPriority",
        tolerations=[
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in _TOLERATED
        ],
    )
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        _container(container)


def _container(container: Object) -> None:
    tag = str(container.get("image", "")).rpartition("/")[2]
    floating = "@" not in tag and (":" not in tag or tag.endswith(":latest"))
    _setdefaults(
        container,
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always" if floating else "IfNotPresent",
        },
    )
    if limits := container["resources"].get("limits"):
        _setdefaults(container["resources"].setdefault("requests", {}), limits)
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")


def _deployment(obj: Object) -> None:
    _spec(
        obj,
        replicas=1,
        strategy={
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
        },
        revisionHistoryLimit=10,
        progressDeadlineSeconds=600,
    )


def _replica_set(obj: Object) -> None:
    _spec(obj, replicas=1)


def _storage_class(obj: Object) -> None:
    _setdefaults(obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def _csi_driver(obj: Object) -> None:
    _spec(
        obj,
        attachRequired=True,
        podInfoOnMount=False,
        volumeLifecycleModes=["Persistent"],
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )


def _qos(pod: Object) -> str:
    resources = [entry.get("resources", {}) for entry in at(pod, "spec", "containers") or []]
    if not any(entry.get("requests") or entry.get("limits") for entry in resources):
        return "BestEffort"
    guaranteed = all(
        at(entry, "limits", name) and at(entry, "limits", name) == at(entry, "requests", name)
        for entry in resources
        for name in ("cpu", "memory")
    )
    return "Guaranteed" if guaranteed else "Burstable"


_FILL: dict[str, Callable[[Object], None]] = {
    "Namespace": _namespace,
    "Secret": _secret,
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Service": _service,
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StorageClass": _storage_class,
    "CSIDriver": _csi_driver,
}

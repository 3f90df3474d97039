"""What the API server fills in: the defaults of a write, and the first status of an object.

Only for the kinds that people and the sandbox's controllers create. The defaults of Knative's
kinds are its webhook's (``admission.defaults``).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from qwenkit.sandbox.kube.kinds import RBAC, ResourceKind
from qwenkit.sandbox.kube.objects import Object, at, copied
from qwenkit.sandbox.kube.storage import pod_defaults
from qwenkit.sandbox.kube.storage.pod_defaults import setdefaults

DEFAULT_GRACE_SECONDS = pod_defaults.DEFAULT_GRACE_SECONDS
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_LIMITS_FROM = (("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min"))
_SPECS: dict[str, dict[str, Any]] = {
    "Namespace": {"finalizers": ["kubernetes"]},
    "PersistentVolume": {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
    "PersistentVolumeClaim": {"volumeMode": "Filesystem"},
    "Service": {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    },
    "Pod": {
        "serviceAccountName": "default",
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in _TOLERATED
        ],
    },
    "Deployment": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "ReplicaSet": {"replicas": 1},
    "Job": {
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "manualSelector": False,
        "podReplacementPolicy": "TerminatingOrFailed",
    },
    "CronJob": {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    "CSIDriver": {
        "attachRequired": True,
        "podInfoOnMount": False,
        "volumeLifecycleModes": ["Persistent"],
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
    },
}
_STATUSES: dict[str, Object] = {
    "Namespace": {"phase": "Active"},
    "PersistentVolume": {"phase": "Pending"},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "Service": {"loadBalancer": {}},
    "Deployment": {},
    "ReplicaSet": {"replicas": 0},
    "Job": {},
    "CronJob": {},
    "ResourceQuota": {},
}


def fill_in(kind: ResourceKind, obj: Object) -> None:
    """Fill in the defaults of the kind, in place."""
    if values := _SPECS.get(kind.name):
        setdefaults(obj.setdefault("spec", {}), copied(values))
    if fill := _FILL.get(kind.name):
        fill(obj)


def initial_status(kind: ResourceKind, obj: Object) -> Object | None:
    """Return the status of a new object, or None for kinds that start without one."""
    if kind.name == "Pod":
        return {"phase": "Pending", "qosClass": _qos(obj)}
    if kind.name in ("Node", "CustomResourceDefinition"):  # created together with their status
        status: Object = obj.get("status", {})
        return status
    return copied(_STATUSES.get(kind.name))


def _namespace(obj: Object) -> None:
    metadata = obj["metadata"]
    if name := metadata.get("name"):  # without one, validation refuses it
        labels = metadata.get("labels", {})
        metadata["labels"] = {**labels, "kubernetes.io/metadata.name": name}


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    for key, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _service(obj: Object) -> None:
    for port in obj["spec"].get("ports", []):
        setdefaults(port, {"protocol": "TCP", "targetPort": port.get("port")})


def _pod(obj: Object) -> None:
    pod_defaults.fill(obj["spec"])


def _template(obj: Object) -> None:
    template = obj["spec"].setdefault("template", {})
    if isinstance(template, dict):
        pod_defaults.fill(template.setdefault("spec", {}))


def _deployment(obj: Object) -> None:
    strategy = obj["spec"].setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        setdefaults(rolling, {"maxUnavailable": "25%", "maxSurge": "25%"})
    _template(obj)


def _job(obj: Object) -> None:
    metadata, spec = obj["metadata"], obj["spec"]
    if spec["completionMode"] != "Indexed" or "parallelism" not in spec:
        spec.setdefault("completions", 1)
    spec.setdefault("parallelism", 1)
    # A Job selects its pods by its own uid, which it gets when it is stored.
    if uid := metadata.get("uid"):
        labels = {"controller-uid": uid, "job-name": metadata["name"]}
        template = spec.setdefault("template", {}).setdefault("metadata", {})
        template["labels"] = {
            **template.get("labels", {}),
            **{f"batch.kubernetes.io/{name}": value for name, value in labels.items()},
            **labels,
        }
        selected = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        spec.setdefault("selector", selected)
    _template(obj)


def _cron_job(obj: Object) -> None:
    spec = at(obj, "spec", "jobTemplate", "spec", "template", "spec")
    if isinstance(spec, dict):
        pod_defaults.fill(spec)


def _limit_range(obj: Object) -> None:
    """What is not set follows from what is: requests from limits, limits from the most."""
    for item in at(obj, "spec", "limits") or []:
        if item.get("type") == "Container":
            for field, source in _LIMITS_FROM:
                if values := {**item.get(source, {}), **item.get(field, {})}:
                    item[field] = values


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in [*(spec.get("ingress") or []), *(spec.get("egress") or [])]:
        for port in rule.get("ports") or []:
            port.setdefault("protocol", "TCP")


def _storage_class(obj: Object) -> None:
    setdefaults(obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def _binding(obj: Object) -> None:
    for one in [obj.get("roleRef") or {}, *(obj.get("subjects") or [])]:
        if one.get("kind") != "ServiceAccount" and not one.get("apiGroup"):
            one["apiGroup"] = RBAC


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
    "Service": _service,
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _template,
    "Job": _job,
    "CronJob": _cron_job,
    "LimitRange": _limit_range,
    "NetworkPolicy": _network_policy,
    "StorageClass": _storage_class,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}

"""The kinds of object that the course uses, and how to read an object's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qwenkit.errors import InvalidValue

Obj = dict[str, Any]

SERVICE_LABEL = "serving.knative.dev/service"
REVISION_LABEL = "serving.knative.dev/revision"
JOB_LABEL = "batch.kubernetes.io/job-name"
KNATIVE_NAMESPACE = "knative-serving"
GPU_RESOURCE = "nvidia.com/gpu"


@dataclass(frozen=True)
class Kind:
    """A kind by its API version and name, as ``apiVersion`` and ``kind`` spell them."""

    api_version: str
    kind: str

    @property
    def resource(self) -> str:
        """The name that kubectl uses, such as ``ksvc`` or ``pvc``."""
        return _KUBECTL.get(self, self.kind.lower())

    def __str__(self) -> str:
        return self.resource


KSVC = Kind("serving.knative.dev/v1", "Service")
CONFIGURATION = Kind("serving.knative.dev/v1", "Configuration")
REVISION = Kind("serving.knative.dev/v1", "Revision")
ROUTE = Kind("serving.knative.dev/v1", "Route")
DOMAIN_MAPPING = Kind("serving.knative.dev/v1beta1", "DomainMapping")
POD_AUTOSCALER = Kind("autoscaling.internal.knative.dev/v1alpha1", "PodAutoscaler")
INGRESS = Kind("networking.internal.knative.dev/v1alpha1", "Ingress")
CERTIFICATE = Kind("networking.internal.knative.dev/v1alpha1", "Certificate")
DEPLOYMENT = Kind("apps/v1", "Deployment")
REPLICA_SET = Kind("apps/v1", "ReplicaSet")
JOB = Kind("batch/v1", "Job")
POD = Kind("v1", "Pod")
EVENT = Kind("v1", "Event")
SECRET = Kind("v1", "Secret")
PVC = Kind("v1", "PersistentVolumeClaim")
PV = Kind("v1", "PersistentVolume")
NODE = Kind("v1", "Node")
NAMESPACE = Kind("v1", "Namespace")
CONFIG_MAP = Kind("v1", "ConfigMap")
CORE_SERVICE = Kind("v1", "Service")
CSI_DRIVER = Kind("storage.k8s.io/v1", "CSIDriver")
CSI_NODE = Kind("storage.k8s.io/v1", "CSINode")
STORAGE_CLASS = Kind("storage.k8s.io/v1", "StorageClass")
RUNTIME_CLASS = Kind("node.k8s.io/v1", "RuntimeClass")
RESOURCE_QUOTA = Kind("v1", "ResourceQuota")
LEASE = Kind("coordination.k8s.io/v1", "Lease")
DAEMON_SET = Kind("apps/v1", "DaemonSet")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole")
CLUSTER_ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding")
ALB_CONFIG = Kind("alibabacloud.com/v1", "AlbConfig")

# What a run creates, with its labels; and what Knative creates for a Service, with its name.
RUN_KINDS = (KSVC, JOB, POD, PVC, PV, SECRET)
CHILD_KINDS = (CONFIGURATION, REVISION, ROUTE, DEPLOYMENT, POD)

_KUBECTL = {KSVC: "ksvc", PVC: "pvc", PV: "pv", CORE_SERVICE: "service"}
_KINDS = tuple(kind for kind in globals().values() if isinstance(kind, Kind))
_NAMES = {kind.kind.lower(): kind for kind in _KINDS} | {kind.resource: kind for kind in _KINDS}


def as_kind(kind: Kind | str) -> Kind:
    """Return a kind from its name, such as ``ksvc``, ``pvc`` or ``PersistentVolumeClaim``.

    Raises:
        InvalidValue: the name is unknown; pass a ``Kind``.
    """
    if isinstance(kind, Kind):
        return kind
    found = _NAMES.get(kind.lower())
    if found is None:
        raise InvalidValue("kind", kind, f"must be one of {', '.join(sorted(_NAMES))}")
    return found


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """Return the kind of an object."""
    return Kind(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))


def name_of(obj: Mapping[str, Any]) -> str:
    """Return ``metadata.name``."""
    return str(obj.get("metadata", {}).get("name", ""))


def labels_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels, empty if there are none."""
    return dict(obj.get("metadata", {}).get("labels") or {})


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations, empty if there are none."""
    return dict(obj.get("metadata", {}).get("annotations") or {})


def moment(text: str) -> datetime:
    """Read a time as Kubernetes writes it, such as ``2026-01-02T03:04:05Z``."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def is_terminating(obj: Mapping[str, Any]) -> bool:
    """Return whether the object is being deleted; it may wait for its finalizers."""
    return bool(obj.get("metadata", {}).get("deletionTimestamp"))


def pod_spec(obj: Mapping[str, Any]) -> Obj:
    """Return the pod spec of a Service's or a Job's template, empty if it has none."""
    return dict(((obj.get("spec") or {}).get("template") or {}).get("spec") or {})


def latest_created(obj: Mapping[str, Any]) -> str:
    """Return the revision that a Service or Configuration made last, empty if there is none."""
    return str((obj.get("status") or {}).get("latestCreatedRevisionName") or "")


def latest_ready(obj: Mapping[str, Any]) -> str:
    """Return the latest ready revision of a Service, empty if there is none."""
    return str((obj.get("status") or {}).get("latestReadyRevisionName") or "")


def condition(obj: Mapping[str, Any], name: str) -> Obj:
    """Return one status condition, or an empty dict."""
    conditions = obj.get("status", {}).get("conditions") or []
    return next((dict(c) for c in conditions if c.get("type") == name), {})


def is_true(obj: Mapping[str, Any], name: str) -> bool:
    """Return whether a condition is ``True``."""
    return condition(obj, name).get("status") == "True"


def is_false(obj: Mapping[str, Any], name: str) -> bool:
    """Return whether a condition is ``False``; ``Unknown`` is neither."""
    return condition(obj, name).get("status") == "False"

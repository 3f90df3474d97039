"""The columns of ``kubectl get``, as a real server and Knative's CRDs define them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qwenkit.autoscaling.annotation_keys import SERVING
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.kube.reads import job_cells
from qwenkit.sandbox.kube.reads.ages import since

_SHORT_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


@dataclass(frozen=True)
class Column:
    """One column, computed by ``cell(object, now)``; ``wide`` ones are for ``-o wide``."""

    name: str
    cell: Callable[[Object, datetime], Any]
    wide: bool = False
    type: str = "string"
    format: str = ""


def columns(kind: ResourceKind) -> tuple[Column, ...]:
    """Return the columns of a kind."""
    return _COLUMNS.get(kind.name, (_NAME, _AGE))


def _field(name: str, *path: str | int, wide: bool = False, empty: str = "") -> Column:
    def cell(obj: Object, _: datetime) -> Any:
        value = at(obj, *path)
        return empty if value is None else str(value)

    return Column(name, cell, wide)


def _number(name: str, *path: str) -> Column:
    return Column(name, lambda obj, _: at(obj, *path) or 0, type="integer")


def _custom(name: str, *path: str, integer: bool = False) -> Column:
    """Make a CRD's column: null if the path does not exist, as with JSONPath."""
    return Column(name, lambda obj, _: at(obj, *path), type="integer" if integer else "string")


def _made(name: str, cell: Callable[[Object], Any], *, wide: bool = False) -> Column:
    return Column(name, lambda obj, _: cell(obj), wide)


_NAME = Column("Name", lambda obj, _: obj["metadata"]["name"], format="name")
_AGE = Column("Age", lambda obj, now: since(at(obj, "metadata", "creationTimestamp"), now))
_CREATED = _field("Created At", "metadata", "creationTimestamp")
_ROLE = _made("Role", lambda obj: f"{at(obj, 'roleRef', 'kind')}/{at(obj, 'roleRef', 'name')}")
_READY = _made("Ready", lambda obj: condition(obj, "Ready").get("status"))
_REASON = _made("Reason", lambda obj: condition(obj, "Ready").get("reason"))
_LABEL = f"{SERVING}/"
_SPEC = "spec"
_STATUS = "status"


def _pod_status(pod: Object) -> str:
    reason = at(pod, _STATUS, "reason") or at(pod, _STATUS, "phase") or "Unknown"
    for status in reversed(at(pod, _STATUS, "containerStatuses") or []):
        waiting = at(status, "state", "waiting", "reason")
        stopped = at(status, "state", "terminated")
        if waiting:
            reason = waiting
        elif stopped:
            reason = stopped.get("reason") or (
                f"Signal:{stopped['signal']}"
                if stopped.get("signal")
                else f"ExitCode:{stopped.get('exitCode', 0)}"
            )
    if at(pod, "metadata", "deletionTimestamp"):
        return "Terminating"
    return str(reason)


def _pod_ready(pod: Object) -> str:
    statuses = at(pod, _STATUS, "containerStatuses") or []
    ready = sum(bool(status.get("ready")) for status in statuses)
    return f"{ready}/{len(at(pod, _SPEC, 'containers') or [])}"


def _restarts(pod: Object, now: datetime) -> str:
    statuses = at(pod, _STATUS, "containerStatuses") or []
    count = sum(status.get("restartCount", 0) for status in statuses)
    ends = [at(status, "lastState", "terminated", "finishedAt") for status in statuses]
    if count and (ended := max(filter(None, ends), default=None)):
        return f"{count} ({since(ended, now)} ago)"
    return str(count)


def _modes(obj: Object) -> str:
    modes = at(obj, _STATUS, "accessModes") if obj.get("kind") == "PersistentVolumeClaim" else None
    modes = modes or at(obj, _SPEC, "accessModes") or []
    return ",".join(_SHORT_MODES.get(mode, mode) for mode in modes)


def _replicas(deployment: Object) -> str:
    ready = at(deployment, _STATUS, "readyReplicas") or 0
    return f"{ready}/{at(deployment, _SPEC, 'replicas') or 0}"


def _phase(obj: Object) -> str:
    if at(obj, "metadata", "deletionTimestamp"):
        return "Terminating"
    return str(at(obj, _STATUS, "phase") or "")


def _claim_of(volume: Object) -> str:
    claim = at(volume, _SPEC, "claimRef")
    return f"{claim.get('namespace')}/{claim.get('name')}" if claim else ""


def _node_status(node: Object) -> str:
    words = ["Ready" if condition(node, "Ready").get("status") == "True" else "NotReady"]
    return ",".join(words + (["SchedulingDisabled"] if at(node, _SPEC, "unschedulable") else []))


def _node_roles(node: Object) -> str:
    labels = at(node, "metadata", "labels") or {}
    prefix = "node-role.kubernetes.io/"
    roles = [key.removeprefix(prefix) for key in labels if key.startswith(prefix)]
    return ",".join(sorted(roles)) or "<none>"


def _address(kind: str) -> Callable[[Object], str]:
    def cell(node: Object) -> str:
        found = at(node, _STATUS, "addresses") or []
        return next((one["address"] for one in found if one.get("type") == kind), "<none>")

    return cell


def _ports(service: Object) -> str:
    ports = at(service, _SPEC, "ports") or []
    return ",".join(f"{one.get('port')}/{one.get('protocol', 'TCP')}" for one in ports) or "<none>"


def _external(service: Object) -> str:
    if at(service, _SPEC, "type") == "ExternalName":
        return str(at(service, _SPEC, "externalName") or "")
    found = at(service, _STATUS, "loadBalancer", "ingress") or []
    names = [one.get("ip") or one.get("hostname") for one in found]
    pending = "<pending>" if at(service, _SPEC, "type") == "LoadBalancer" else "<none>"
    return ",".join(filter(None, names)) or pending


def _endpoints(obj: Object) -> str:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for port in subset.get("ports") or []
        for address in subset.get("addresses") or []
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return ",".join(found[:3]) + more or "<none>"


def _selector(*path: str) -> Callable[[Object], str]:
    def cell(obj: Object) -> str:
        pairs = (at(obj, *path) or {}).items()
        return ",".join(f"{key}={value}" for key, value in sorted(pairs)) or "<none>"

    return cell


def _images(part: str) -> Callable[[Object], str]:
    def cell(obj: Object) -> str:
        containers = at(obj, _SPEC, "template", _SPEC, "containers") or []
        return ",".join(container.get(part, "") for container in containers)

    return cell


def _entries(obj: Object) -> int:
    return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})


def _involved(event: Object) -> str:
    involved = event.get("involvedObject") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


def _source(event: Object) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return ", ".join(filter(None, (component, host)))


def _last_seen(event: Object, now: datetime) -> str:
    return _seen(event, ("lastTimestamp", "eventTime", "firstTimestamp"), now)


def _first_seen(event: Object, now: datetime) -> str:
    return _seen(event, ("firstTimestamp", "eventTime"), now)


def _seen(event: Object, fields: Iterable[str], now: datetime) -> str:
    return since(next(filter(None, map(event.get, fields)), None), now)


def _storage(*columns: Column) -> Iterable[Column]:
    return (
        *columns,
        _field("StorageClass", _SPEC, "storageClassName"),
        _field("VolumeAttributesClass", _SPEC, "volumeAttributesClassName", empty="<unset>"),
    )


def _class_name(obj: Object, now: datetime) -> str:
    default = at(obj, "metadata", "annotations", "storageclass.kubernetes.io/is-default-class")
    return str(obj["metadata"]["name"]) + (" (default)" if default == "true" else "")


def _crd(*columns: Column) -> tuple[Column, ...]:
    return (_NAME, *columns, _READY, _REASON)


_URL = _custom("URL", _STATUS, "url")
_LATEST = (
    _custom("LatestCreated", _STATUS, "latestCreatedRevisionName"),
    _custom("LatestReady", _STATUS, "latestReadyRevisionName"),
)
_TEMPLATE_COLUMNS = (
    _made("Containers", _images("name"), wide=True),
    _made("Images", _images("image"), wide=True),
    _made("Selector", _selector(_SPEC, "selector", "matchLabels"), wide=True),
)
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "KnativeService": _crd(_URL, *_LATEST),
    "Configuration": _crd(*_LATEST),
    "Revision": (
        *_crd(
            _custom("Config Name", "metadata", "labels", f"{_LABEL}configuration"),
            _custom("Generation", "metadata", "labels", f"{_LABEL}configurationGeneration"),
        ),
        _custom("Actual Replicas", _STATUS, "actualReplicas", integer=True),
        _custom("Desired Replicas", _STATUS, "desiredReplicas", integer=True),
    ),
    "Route": _crd(_URL),
    "PodAutoscaler": _crd(
        _custom("DesiredScale", _STATUS, "desiredScale", integer=True),
        _custom("ActualScale", _STATUS, "actualScale", integer=True),
    ),
    "ServerlessService": _crd(
        _custom("Mode", _SPEC, "mode"),
        _custom("Activators", _SPEC, "numActivators", integer=True),
        _custom("ServiceName", _STATUS, "serviceName"),
        _custom("PrivateServiceName", _STATUS, "privateServiceName"),
    ),
    "Metric": _crd(),
    "Ingress": _crd(),
    "Certificate": _crd(),
    "Pod": (
        _NAME,
        _made("Ready", _pod_ready),
        _made("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        _field("IP", _STATUS, "podIP", wide=True, empty="<none>"),
        _field("Node", _SPEC, "nodeName", wide=True, empty="<none>"),
        _field("Nominated Node", _STATUS, "nominatedNodeName", wide=True, empty="<none>"),
        _made("Readiness Gates", lambda pod: "<none>", wide=True),
    ),
    "PersistentVolume": (
        _NAME,
        _field("Capacity", _SPEC, "capacity", "storage"),
        _made("Access Modes", _modes),
        _field("Reclaim Policy", _SPEC, "persistentVolumeReclaimPolicy"),
        _made("Status", _phase),
        _made("Claim", _claim_of),
        *_storage(),
        _field("Reason", _STATUS, "reason"),
        _AGE,
        _field("VolumeMode", _SPEC, "volumeMode", wide=True, empty="<unset>"),
    ),
    "PersistentVolumeClaim": (
        _NAME,
        _made("Status", _phase),
        _field("Volume", _SPEC, "volumeName"),
        _field("Capacity", _STATUS, "capacity", "storage"),
        _made("Access Modes", lambda obj: _modes(obj) if at(obj, _SPEC, "volumeName") else ""),
        *_storage(),
        _AGE,
        _field("VolumeMode", _SPEC, "volumeMode", wide=True, empty="<unset>"),
    ),
    "Node": (
        _NAME,
        _made("Status", _node_status),
        _made("Roles", _node_roles),
        _AGE,
        _field("Version", _STATUS, "nodeInfo", "kubeletVersion"),
        _made("Internal-IP", _address("InternalIP"), wide=True),
        _made("External-IP", _address("ExternalIP"), wide=True),
        _field("OS-Image", _STATUS, "nodeInfo", "osImage", wide=True, empty="<unknown>"),
        _field("Kernel-Version", _STATUS, "nodeInfo", "kernelVersion", wide=True),
        _field("Container-Runtime", _STATUS, "nodeInfo", "containerRuntimeVersion", wide=True),
    ),
    "Deployment": (
        _NAME,
        _made("Ready", _replicas),
        _field("Up-to-date", _STATUS, "updatedReplicas", empty="0"),
        _field("Available", _STATUS, "availableReplicas", empty="0"),
        _AGE,
        *_TEMPLATE_COLUMNS,
    ),
    "Scale": (
        _NAME,
        _number("Desired", _SPEC, "replicas"),
        _number("Available", _STATUS, "replicas"),
        _AGE,
    ),
    "ReplicaSet": (
        _NAME,
        _number("Desired", _SPEC, "replicas"),
        _number("Current", _STATUS, "replicas"),
        _number("Ready", _STATUS, "readyReplicas"),
        _AGE,
        *_TEMPLATE_COLUMNS,
    ),
    "Job": (
        _NAME,
        _made("Status", job_cells.status),
        _made("Completions", job_cells.completions),
        Column("Duration", job_cells.duration),
        _AGE,
        *_TEMPLATE_COLUMNS,
    ),
    "Service": (
        _NAME,
        _field("Type", _SPEC, "type"),
        _field("Cluster-IP", _SPEC, "clusterIP", empty="<none>"),
        _made("External-IP", _external),
        _made("Port(s)", _ports),
        _AGE,
        _made("Selector", _selector(_SPEC, "selector"), wide=True),
    ),
    "Endpoints": (_NAME, _made("Endpoints", _endpoints), _AGE),
    "Event": (
        Column("Last Seen", _last_seen),
        _field("Type", "type"),
        _field("Reason", "reason"),
        _made("Object", _involved),
        _field("Subobject", "involvedObject", "fieldPath", wide=True),
        _made("Source", _source, wide=True),
        _field("Message", "message"),
        Column("First Seen", _first_seen, wide=True),
        _field("Count", "count", wide=True, empty="1"),
        Column("Name", _NAME.cell, wide=True, format="name"),
    ),
    "Namespace": (_NAME, _made("Status", _phase), _AGE),
    "Secret": (_NAME, _field("Type", "type"), _made("Data", _entries), _AGE),
    "ConfigMap": (_NAME, _made("Data", _entries), _AGE),
    "Role": (_NAME, _CREATED),
    "ClusterRole": (_NAME, _CREATED),
    "RoleBinding": (_NAME, _ROLE, _AGE),
    "ClusterRoleBinding": (_NAME, _ROLE, _AGE),
    "ServiceAccount": (_NAME, _made("Secrets", lambda obj: len(obj.get("secrets") or [])), _AGE),
    "StorageClass": (
        Column("Name", _class_name, format="name"),
        _field("Provisioner", "provisioner"),
        _field("ReclaimPolicy", "reclaimPolicy"),
        _field("VolumeBindingMode", "volumeBindingMode"),
        _made("AllowVolumeExpansion", lambda obj: bool(obj.get("allowVolumeExpansion"))),
        _AGE,
    ),
    "CSIDriver": (
        _NAME,
        _made("AttachRequired", lambda obj: bool(at(obj, _SPEC, "attachRequired"))),
        _made("PodInfoOnMount", lambda obj: bool(at(obj, _SPEC, "podInfoOnMount"))),
        _made("StorageCapacity", lambda obj: bool(at(obj, _SPEC, "storageCapacity"))),
        _made("TokenRequests", lambda obj: "<unset>"),
        _made("RequiresRepublish", lambda obj: bool(at(obj, _SPEC, "requiresRepublish"))),
        _made("Modes", lambda obj: ",".join(at(obj, _SPEC, "volumeLifecycleModes") or [])),
        _AGE,
    ),
    "CustomResourceDefinition": (_NAME, _CREATED),
}

"""The columns of ``kubectl get``, as a real server and Knative's CRDs define them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from qwenkit.autoscaling.annotation_keys import SERVING
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.kube.reads import job_cells, quota_cells
from qwenkit.sandbox.kube.reads.ages import since
from qwenkit.sandbox.kube.reads.column import (
    AGE,
    CREATED,
    NAME,
    Column,
    custom,
    field,
    made,
    number,
    selector,
)

_SHORT_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def columns(kind: ResourceKind) -> tuple[Column, ...]:
    """Return the columns of a kind."""
    return _COLUMNS.get(kind.name, (NAME, AGE))


_ROLE = made("Role", lambda obj: f"{at(obj, 'roleRef', 'kind')}/{at(obj, 'roleRef', 'name')}")
_READY = made("Ready", lambda obj: condition(obj, "Ready").get("status"))
_REASON = made("Reason", lambda obj: condition(obj, "Ready").get("reason"))
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
        field("StorageClass", _SPEC, "storageClassName"),
        field("VolumeAttributesClass", _SPEC, "volumeAttributesClassName", empty="<unset>"),
    )


def _class_name(obj: Object, now: datetime) -> str:
    default = at(obj, "metadata", "annotations", "storageclass.kubernetes.io/is-default-class")
    return str(obj["metadata"]["name"]) + (" (default)" if default == "true" else "")


def _crd(*columns: Column) -> tuple[Column, ...]:
    return (NAME, *columns, _READY, _REASON)


_URL = custom("URL", _STATUS, "url")
_LATEST = (
    custom("LatestCreated", _STATUS, "latestCreatedRevisionName"),
    custom("LatestReady", _STATUS, "latestReadyRevisionName"),
)
_TEMPLATE_COLUMNS = (
    made("Containers", _images("name"), wide=True),
    made("Images", _images("image"), wide=True),
    made("Selector", selector(_SPEC, "selector", "matchLabels"), wide=True),
)
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "KnativeService": _crd(_URL, *_LATEST),
    "Configuration": _crd(*_LATEST),
    "Revision": (
        *_crd(
            custom("Config Name", "metadata", "labels", f"{_LABEL}configuration"),
            custom("Generation", "metadata", "labels", f"{_LABEL}configurationGeneration"),
        ),
        custom("Actual Replicas", _STATUS, "actualReplicas", integer=True),
        custom("Desired Replicas", _STATUS, "desiredReplicas", integer=True),
    ),
    "Route": _crd(_URL),
    "PodAutoscaler": _crd(
        custom("DesiredScale", _STATUS, "desiredScale", integer=True),
        custom("ActualScale", _STATUS, "actualScale", integer=True),
    ),
    "ServerlessService": _crd(
        custom("Mode", _SPEC, "mode"),
        custom("Activators", _SPEC, "numActivators", integer=True),
        custom("ServiceName", _STATUS, "serviceName"),
        custom("PrivateServiceName", _STATUS, "privateServiceName"),
    ),
    "Metric": _crd(),
    "Ingress": _crd(),
    "Certificate": _crd(),
    "Pod": (
        NAME,
        made("Ready", _pod_ready),
        made("Status", _pod_status),
        Column("Restarts", _restarts),
        AGE,
        field("IP", _STATUS, "podIP", wide=True, empty="<none>"),
        field("Node", _SPEC, "nodeName", wide=True, empty="<none>"),
        field("Nominated Node", _STATUS, "nominatedNodeName", wide=True, empty="<none>"),
        made("Readiness Gates", lambda pod: "<none>", wide=True),
    ),
    "PersistentVolume": (
        NAME,
        field("Capacity", _SPEC, "capacity", "storage"),
        made("Access Modes", _modes),
        field("Reclaim Policy", _SPEC, "persistentVolumeReclaimPolicy"),
        made("Status", _phase),
        made("Claim", _claim_of),
        *_storage(),
        field("Reason", _STATUS, "reason"),
        AGE,
        field("VolumeMode", _SPEC, "volumeMode", wide=True, empty="<unset>"),
    ),
    "PersistentVolumeClaim": (
        NAME,
        made("Status", _phase),
        field("Volume", _SPEC, "volumeName"),
        field("Capacity", _STATUS, "capacity", "storage"),
        made("Access Modes", lambda obj: _modes(obj) if at(obj, _SPEC, "volumeName") else ""),
        *_storage(),
        AGE,
        field("VolumeMode", _SPEC, "volumeMode", wide=True, empty="<unset>"),
    ),
    "Node": (
        NAME,
        made("Status", _node_status),
        made("Roles", _node_roles),
        AGE,
        field("Version", _STATUS, "nodeInfo", "kubeletVersion"),
        made("Internal-IP", _address("InternalIP"), wide=True),
        made("External-IP", _address("ExternalIP"), wide=True),
        field("OS-Image", _STATUS, "nodeInfo", "osImage", wide=True, empty="<unknown>"),
        field("Kernel-Version", _STATUS, "nodeInfo", "kernelVersion", wide=True),
        field("Container-Runtime", _STATUS, "nodeInfo", "containerRuntimeVersion", wide=True),
    ),
    "Deployment": (
        NAME,
        made("Ready", _replicas),
        field("Up-to-date", _STATUS, "updatedReplicas", empty="0"),
        field("Available", _STATUS, "availableReplicas", empty="0"),
        AGE,
        *_TEMPLATE_COLUMNS,
    ),
    "Scale": (
        NAME,
        number("Desired", _SPEC, "replicas"),
        number("Available", _STATUS, "replicas"),
        AGE,
    ),
    "ReplicaSet": (
        NAME,
        number("Desired", _SPEC, "replicas"),
        number("Current", _STATUS, "replicas"),
        number("Ready", _STATUS, "readyReplicas"),
        AGE,
        *_TEMPLATE_COLUMNS,
    ),
    "Job": (
        NAME,
        made("Status", job_cells.status),
        made("Completions", job_cells.completions),
        Column("Duration", job_cells.duration),
        AGE,
        *_TEMPLATE_COLUMNS,
    ),
    "CronJob": (
        NAME,
        field("Schedule", _SPEC, "schedule"),
        field("Timezone", _SPEC, "timeZone", empty="<none>"),
        field("Suspend", _SPEC, "suspend"),
        made("Active", lambda obj: len(at(obj, _STATUS, "active") or [])),
        Column("Last Schedule", job_cells.last_schedule),
        AGE,
    ),
    "ResourceQuota": (
        NAME,
        made("Request", quota_cells.used),
        made("Limit", lambda quota: quota_cells.used(quota, limits=True)),
        AGE,
    ),
    "LimitRange": (NAME, CREATED),
    "NetworkPolicy": (
        NAME,
        made("Pod-Selector", selector(_SPEC, "podSelector", "matchLabels")),
        AGE,
    ),
    "Lease": (NAME, field("Holder", _SPEC, "holderIdentity"), AGE),
    "Service": (
        NAME,
        field("Type", _SPEC, "type"),
        field("Cluster-IP", _SPEC, "clusterIP", empty="<none>"),
        made("External-IP", _external),
        made("Port(s)", _ports),
        AGE,
        made("Selector", selector(_SPEC, "selector"), wide=True),
    ),
    "Endpoints": (NAME, made("Endpoints", _endpoints), AGE),
    "Event": (
        Column("Last Seen", _last_seen),
        field("Type", "type"),
        field("Reason", "reason"),
        made("Object", _involved),
        field("Subobject", "involvedObject", "fieldPath", wide=True),
        made("Source", _source, wide=True),
        field("Message", "message"),
        Column("First Seen", _first_seen, wide=True),
        field("Count", "count", wide=True, empty="1"),
        Column("Name", NAME.cell, wide=True, format="name"),
    ),
    "Namespace": (NAME, made("Status", _phase), AGE),
    "Secret": (NAME, field("Type", "type"), made("Data", _entries), AGE),
    "ConfigMap": (NAME, made("Data", _entries), AGE),
    "Role": (NAME, CREATED),
    "ClusterRole": (NAME, CREATED),
    "RoleBinding": (NAME, _ROLE, AGE),
    "ClusterRoleBinding": (NAME, _ROLE, AGE),
    "ServiceAccount": (NAME, made("Secrets", lambda obj: len(obj.get("secrets") or [])), AGE),
    "StorageClass": (
        Column("Name", _class_name, format="name"),
        field("Provisioner", "provisioner"),
        field("ReclaimPolicy", "reclaimPolicy"),
        field("VolumeBindingMode", "volumeBindingMode"),
        made("AllowVolumeExpansion", lambda obj: bool(obj.get("allowVolumeExpansion"))),
        AGE,
    ),
    "CSIDriver": (
        NAME,
        made("AttachRequired", lambda obj: bool(at(obj, _SPEC, "attachRequired"))),
        made("PodInfoOnMount", lambda obj: bool(at(obj, _SPEC, "podInfoOnMount"))),
        made("StorageCapacity", lambda obj: bool(at(obj, _SPEC, "storageCapacity"))),
        made("TokenRequests", lambda obj: "<unset>"),
        made("RequiresRepublish", lambda obj: bool(at(obj, _SPEC, "requiresRepublish"))),
        made("Modes", lambda obj: ",".join(at(obj, _SPEC, "volumeLifecycleModes") or [])),
        AGE,
    ),
    "CustomResourceDefinition": (NAME, CREATED),
}

"""Read a snapshot from the cluster; what may not be read is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.snapshot import LogName, Snapshot, log_names
from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    CSI_DRIVER,
    EVENT,
    INGRESS,
    KNATIVE_NAMESPACE,
    KSVC,
    NODE,
    POD,
    PV,
    PVC,
    REVISION,
    SERVICE_LABEL,
    Kind,
    Obj,
    is_true,
    latest_created,
    name_of,
    pod_spec,
)
from qwenkit.cluster.pods import claim_names, unschedulable
from qwenkit.errors import QwenkitError

P = ParamSpec("P")
T = TypeVar("T")
_MOST_LATE = 3  # of the pods of one revision, which fail alike
_LOG_LINES = 2000


def collect(cluster: Cluster, name: str) -> Snapshot:
    """Read a Service and the objects behind it."""
    service = cluster.find(KSVC, name)
    if service is None:
        features = _one(cluster, CONFIG_MAP, "config-features", KNATIVE_NAMESPACE)
        return Snapshot(name, tuple(features))
    revision = cluster.find(REVISION, latest) if (latest := latest_created(service)) else None
    pods = cluster.list(POD, labels={SERVICE_LABEL: name})
    claims = [pvc for claim in claim_names(pod_spec(service)) for pvc in _one(cluster, PVC, claim)]
    volumes = [str(c["spec"].get("volumeName") or "") for c in claims]
    found = Snapshot(name, tuple(filter(None, (service, revision, *pods, *claims))))
    drivers = read_or(None, cluster.list, CSI_DRIVER) if claims else None
    return Snapshot(
        name,
        (
            *found.objects,
            *(pv for volume in volumes if volume for pv in _one(cluster, PV, volume)),
            *_one(cluster, INGRESS, name),
            *_one(cluster, CONFIG_MAP, "config-network", KNATIVE_NAMESPACE),
            *read_or([], cluster.list, EVENT),
            *_nodes(cluster, found.pods),
            *(drivers or []),
        ),
        _logs(cluster, found.pods),
        datetime.now(UTC),
        frozenset({CSI_DRIVER} if drivers is not None else ()),
    )


def collect_job(cluster: Cluster, job: Obj, pods: Iterable[Obj]) -> Snapshot:
    """Read the objects behind a Job, which takes the Service's place."""
    pods = tuple(pods)
    events = read_or([], cluster.list, EVENT)
    return Snapshot(name_of(job), (job, *pods, *events, *_nodes(cluster, pods)))


def read_or(default: T, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``read`` does, or ``default``: less evidence is better than no explanation."""
    try:
        return read(*args, **kwargs)
    except QwenkitError:
        return default


def _one(cluster: Cluster, kind: Kind, name: str, namespace: str | None = None) -> list[Obj]:
    found = read_or(None, cluster.find, kind, name, namespace=namespace)
    return [found] if found else []


def _late(pods: Iterable[Obj]) -> list[Obj]:
    """Return the pods to look at, by their own readiness: without a probe containers are ready."""
    return [pod for pod in pods if not is_true(pod, "Ready")][:_MOST_LATE]


def _nodes(cluster: Cluster, pods: Iterable[Obj]) -> list[Obj]:
    # A large cluster has thousands: all matter only if a pod is not scheduled.
    if any(map(unschedulable, pods)):
        return read_or([], cluster.list, NODE)
    names = {str((pod.get("spec") or {}).get("nodeName") or "") for pod in _late(pods)} - {""}
    return [node for name in names for node in _one(cluster, NODE, name)]


def _logs(cluster: Cluster, pods: Iterable[Obj]) -> dict[LogName, str]:
    names = (log for pod in _late(pods) for log in log_names(pod))
    return {log: text for log in names if (text := read_or("", read_log, cluster, log))}


def read_log(cluster: Cluster, log: LogName) -> str:
    """Return the end of a log, long enough for the error behind the tracebacks that follow it."""
    return cluster.logs(log.pod, container=log.container, previous=log.previous, lines=_LOG_LINES)

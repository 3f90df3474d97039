"""All objects behind one Knative Service at one moment, for pure rules to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    EVENT,
    KSVC,
    NODE,
    POD,
    PV,
    PVC,
    REVISION,
    SERVICE_LABEL,
    Obj,
    is_terminating,
    is_true,
    labels_of,
    name_of,
)
from qwenkit.cluster.pods import containers, unschedulable, waiting_reasons
from qwenkit.errors import QwenkitError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """The objects behind a Service; empty where reading is not allowed."""

    service: Obj | None = None
    revision: Obj | None = None
    pods: tuple[Obj, ...] = ()
    events: tuple[Obj, ...] = ()
    claims: tuple[Obj, ...] = ()
    volumes: tuple[Obj, ...] = ()
    nodes: tuple[Obj, ...] = ()
    features: dict[str, str] = field(default_factory=dict)
    logs: str = ""

    def living(self) -> list[Obj]:
        """Return the pods that are not terminating: a container that is stopped has not crashed."""
        return [pod for pod in self.pods if not is_terminating(pod)]

    def template(self) -> Obj:
        """Return the pod spec of the Service's template."""
        source = self.service or {}
        return dict(source.get("spec", {}).get("template", {}).get("spec") or {})

    def events_of(self, reason: str) -> list[Obj]:
        """Return the events with one reason, the last first."""
        found = [event for event in self.events if event.get("reason") == reason]
        return sorted(found, key=event_time, reverse=True)

    def messages(self, reason: str) -> list[str]:
        """Return the messages of the events with one reason, the last first."""
        return [str(event.get("message") or "") for event in self.events_of(reason)]

    def waiting(self, reasons: Iterable[str]) -> list[str]:
        """Return ``reason: message`` of the containers that wait for one of ``reasons``."""
        found: dict[str, str] = {}
        for pod in self.living():
            found |= waiting_reasons(pod)
        return [f"{reason}: {found[reason]}" for reason in reasons if reason in found]

    def unschedulable(self) -> str:
        """Return the scheduler's message about a pod, empty if all are scheduled."""
        return next(filter(None, map(unschedulable, self.living())), "")


def collect(cluster: Cluster, name: str) -> Snapshot:
    """Read a Service and the objects behind it."""
    service = cluster.find(KSVC, name)
    if service is None:
        return Snapshot(features=read_or({}, cluster.knative_config, "features"))
    latest = str(service.get("status", {}).get("latestCreatedRevisionName") or "")
    revision = cluster.find(REVISION, latest) if latest else None
    pods = of_revision(cluster.list(POD, labels={SERVICE_LABEL: name}), revision)
    claims = _found(read_or(None, cluster.find, PVC, claim) for claim in claim_names(service))
    volume_names = [str(c["spec"]["volumeName"]) for c in claims if c["spec"].get("volumeName")]
    volumes = _found(read_or(None, cluster.find, PV, volume) for volume in volume_names)
    return Snapshot(
        service=service,
        revision=revision,
        pods=tuple(pods),
        events=_events(cluster, [service, revision, *pods, *claims]),
        claims=claims,
        volumes=volumes,
        nodes=_nodes(cluster, pods),
        logs=_logs(cluster, pods),
    )


def collect_job(cluster: Cluster, job: Obj, pods: Iterable[Obj]) -> Snapshot:
    """Read the objects behind a Job, which takes the Service's place."""
    pods = tuple(pods)
    events = _events(cluster, [job, *pods])
    return Snapshot(service=job, pods=pods, events=events, nodes=_nodes(cluster, pods))


def of_revision(pods: Iterable[Obj], revision: Obj | None) -> list[Obj]:
    """Keep the pods of one revision.

    By uid: the pods of a deleted Service may still drain under the same revision name.
    """
    if revision is None:
        return []
    uid = revision["metadata"].get("uid")
    return [p for p in pods if labels_of(p).get("serving.knative.dev/revisionUID", "") == uid]


def about(objects: Iterable[Obj | None], events: Iterable[Obj]) -> list[Obj]:
    """Keep the events about these objects, their ReplicaSets included."""
    present = [obj for obj in objects if obj]
    uids = {obj["metadata"].get("uid") for obj in present}
    owners = {
        owner.get("uid")
        for obj in present
        for owner in obj["metadata"].get("ownerReferences") or []
    }
    deployments = tuple(f"{name_of(o)}-deployment-" for o in present if o["kind"] == "Revision")

    def wanted(event: Obj) -> bool:
        involved = event.get("involvedObject") or {}
        # A ReplicaSet that could not create a pod owns none of these objects: match its name.
        is_set = involved.get("kind") == "ReplicaSet"
        without_pod = is_set and str(involved.get("name", "")).startswith(deployments)
        return involved.get("uid") in uids | owners or without_pod

    return [event for event in events if wanted(event)]


def claim_names(service: Obj) -> list[str]:
    """Return the names of the PVCs that a Service's template mounts."""
    volumes = service["spec"]["template"]["spec"].get("volumes") or []
    return [
        v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
    ]


def event_time(event: Obj) -> str:
    """Return when an event last happened, as RFC 3339 text; empty if unknown."""
    return str(
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("firstTimestamp")
        or event.get("metadata", {}).get("creationTimestamp")
        or ""
    )


def event_count(event: Obj) -> int:
    """Return how often an event happened: its own count or that of its series."""
    return int(event.get("count") or (event.get("series") or {}).get("count") or 1)


def _logs(cluster: Cluster, pods: Iterable[Obj]) -> str:
    # The pod's readiness: a container without a probe of its own is always ready.
    started = [(p, s) for p in pods if not is_true(p, "Ready") for s in containers(p)]
    for pod, status in started:
        restarted = int(status.get("restartCount") or 0) > 0
        container = status["name"]
        text = read_or("", cluster.logs, name_of(pod), container=container, previous=restarted)
        if text:
            return text
    return ""


def _found(objects: Iterable[Obj | None]) -> tuple[Obj, ...]:
    return tuple(obj for obj in objects if obj)


def _events(cluster: Cluster, objects: Iterable[Obj | None]) -> tuple[Obj, ...]:
    return tuple(about(objects, read_or([], cluster.list, EVENT)))


def _nodes(cluster: Cluster, pods: Iterable[Obj]) -> tuple[Obj, ...]:
    # A large cluster has thousands: they matter only if a pod is not scheduled.
    return tuple(read_or([], cluster.list, NODE)) if any(map(unschedulable, pods)) else ()


def read_or(default: T, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``read`` does, or ``default``: less evidence is better than no explanation."""
    try:
        return read(*args, **kwargs)
    except QwenkitError:
        return default

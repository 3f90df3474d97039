"""Everything about one Knative Service at one moment, as plain objects for pure rules to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    EVENT,
    KNATIVE_NAMESPACE,
    KSVC,
    NODE,
    POD,
    PV,
    PVC,
    REVISION,
    SERVICE_LABEL,
    Obj,
    is_going,
    is_true,
    labels_of,
    name_of,
)
from qwenkit.cluster.pods import containers, unplaced
from qwenkit.errors import QwenkitError

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """The objects behind a Service. What may not be read is empty."""

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
        """Return the pods that are to stay: one that ends exits somehow, and that is no crash."""
        return [pod for pod in self.pods if not is_going(pod)]

    def template(self) -> Obj:
        """Return the pod spec that the Service asks for."""
        source = self.service or {}
        return dict(source.get("spec", {}).get("template", {}).get("spec") or {})

    def events_of(self, reason: str) -> list[Obj]:
        """Return the events with one reason, the last first."""
        found = [event for event in self.events if event.get("reason") == reason]
        return sorted(found, key=event_time, reverse=True)


def collect(cluster: Cluster, *, name: str, namespace: str) -> Snapshot:
    """Read a Service and what hangs below it."""
    service = cluster.find(KSVC, name, namespace=namespace)
    if service is None:
        return Snapshot(features=_features(cluster))
    latest = str(service.get("status", {}).get("latestCreatedRevisionName") or "")
    revision = cluster.find(REVISION, latest, namespace=namespace) if latest else None
    pods = of_revision(
        cluster.list(POD, namespace=namespace, labels={SERVICE_LABEL: name}), revision
    )
    claims = [
        claim
        for wanted in claim_names(service)
        if (claim := _or(partial(cluster.find, PVC, wanted, namespace=namespace), None))
    ]
    volume_names = [str(c["spec"]["volumeName"]) for c in claims if c["spec"].get("volumeName")]
    volumes = [v for n in volume_names if (v := _or(partial(cluster.find, PV, n), None))]
    events: list[Obj] = _or(partial(cluster.list, EVENT, namespace=namespace), [])
    return Snapshot(
        service=service,
        revision=revision,
        pods=tuple(pods),
        events=tuple(about([service, revision, *pods, *claims], events)),
        claims=tuple(claims),
        volumes=tuple(volumes),
        # A large cluster has thousands: they matter only to a pod that none of them takes.
        nodes=tuple(_or(partial(cluster.list, NODE), []) if any(map(unplaced, pods)) else ()),
        logs=_logs(cluster, pods),
    )


def collect_job(cluster: Cluster, job: Obj, pods: Iterable[Obj], *, namespace: str) -> Snapshot:
    """Read what else there is about a Job, which takes the Service's place, and its pods."""
    events: list[Obj] = _or(partial(cluster.list, EVENT, namespace=namespace), [])
    return Snapshot(
        service=job,
        pods=tuple(pods),
        events=tuple(about([job, *pods], events)),
        nodes=tuple(_or(partial(cluster.list, NODE), []) if any(map(unplaced, pods)) else ()),
    )


def of_revision(pods: Iterable[Obj], revision: Obj | None) -> list[Obj]:
    """Keep the pods of this very revision.

    By uid: a Service deleted a minute ago left pods that drain under the same revision name.
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
    revisions = tuple(f"{name_of(o)}-deployment-" for o in present if o["kind"] == "Revision")

    def wanted(event: Obj) -> bool:
        involved = event.get("involvedObject") or {}
        # A ReplicaSet that could not make a pod owns nothing here yet: known by its name.
        starved = involved.get("kind") == "ReplicaSet" and str(involved.get("name", "")).startswith(
            revisions or ("\0",)
        )
        return involved.get("uid") in uids | owners or starved

    return [event for event in events if wanted(event)]


def claim_names(service: Obj) -> list[str]:
    """Return the names of the PVCs that a Service's template mounts."""
    volumes = service["spec"]["template"]["spec"].get("volumes") or []
    return [
        v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
    ]


def event_time(event: Obj) -> str:
    """Return when an event last happened, as RFC 3339 text; empty if it does not say."""
    return str(
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("firstTimestamp")
        or event.get("metadata", {}).get("creationTimestamp")
        or ""
    )


def event_count(event: Obj) -> int:
    """Return how often an event happened, in either of the ways in which events say it."""
    return int(event.get("count") or (event.get("series") or {}).get("count") or 1)


def _logs(cluster: Cluster, pods: Iterable[Obj]) -> str:
    # Not by the container's own readiness: without a probe of its own it is always ready.
    started = [(p, s) for p in pods if not is_true(p, "Ready") for s in containers(p)]
    for pod, status in started:
        restarted = int(status.get("restartCount") or 0) > 0
        read = partial(cluster.logs, name_of(pod), container=status["name"], previous=restarted)
        if text := _or(read, ""):
            return text
    return ""


def _features(cluster: Cluster) -> dict[str, str]:
    find = partial(cluster.find, CONFIG_MAP, "config-features", namespace=KNATIVE_NAMESPACE)
    config = _or(find, None)
    return dict((config or {}).get("data") or {})


def _or(read: Callable[[], T], default: T) -> T:
    """Return what may be read; an explanation with less evidence is better than none."""
    try:
        return read()
    except QwenkitError:
        return default

"""A cold start: how the time from a pod's creation to Ready was spent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.snapshot import event_time
from qwenkit.cluster.kinds import (
    EVENT,
    POD,
    REVISION_LABEL,
    SERVICE_LABEL,
    Obj,
    condition,
    moment,
    name_of,
)
from qwenkit.cluster.pods import containers
from qwenkit.errors import NotFound

_BAR = 30


@dataclass(frozen=True)
class ColdStartStep:
    """One step: when it ended, in seconds after creation, and how long it took."""

    name: str
    at_s: float
    seconds: float
    note: str = ""


@dataclass(frozen=True, repr=False)
class ColdStart:
    """The steps of one pod, in order. Kubernetes keeps most times in whole seconds."""

    pod: str
    steps: tuple[ColdStartStep, ...]

    @property
    def total_s(self) -> float:
        """Seconds from creation to the last step."""
        return self.steps[-1].at_s if self.steps else 0.0

    def __str__(self) -> str:
        scale = _BAR / max(self.total_s, 1e-9)
        return "\n".join(
            f"{step.name:<10}{step.at_s:8.1f} s  +{step.seconds:.1f} s  "
            f"{'█' * round(step.seconds * scale)} {step.note}".rstrip()
            for step in self.steps
        )

    __repr__ = __str__


def cold_start(cluster: Cluster, service: str, revision: str | None = None) -> ColdStart:
    """Return the cold start of the newest pod of a Service, or of one of its revisions.

    Raises:
        NotFound: it has no pod, such as a revision that is scaled to zero.

    >>> from qwenkit import Cluster, Settings, cold_start
    >>> started = cold_start(Cluster.connect(Settings()), Settings().service)
    >>> started.total_s > 0
    True
    """
    labels = {SERVICE_LABEL: service} | ({REVISION_LABEL: revision} if revision else {})
    pods = cluster.list(POD, labels=labels)
    newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    if newest is None:
        raise NotFound(
            f"{revision or service} has no pod",
            "a cold start is read from a pod; a revision that is scaled to zero has none",
            "send a request, then try again",
        )
    return build(newest, cluster.list(EVENT))


def build(pod: Obj, events: Iterable[Obj]) -> ColdStart:
    """Build the cold start of a pod from its conditions, container states and events."""
    uid = pod["metadata"].get("uid")
    own = [event for event in events if event.get("involvedObject", {}).get("uid") == uid]
    created = moment(str(pod["metadata"]["creationTimestamp"]))
    steps = [ColdStartStep("created", 0.0, 0.0)]
    for name, text, note in _moments(pod, own):
        if text:
            # Some times are whole seconds, some microseconds: keep the order of the steps.
            at = max((moment(text) - created).total_seconds(), steps[-1].at_s)
            steps.append(ColdStartStep(name, at, at - steps[-1].at_s, note))
    return ColdStart(name_of(pod), tuple(steps))


def _moments(pod: Obj, events: list[Obj]) -> list[tuple[str, str, str]]:
    """Return name, time and note of each step, in the kubelet's order."""
    own = containers(pod)
    name = str(own[0]["name"]) if own else ""
    state = (own[0].get("state") or {}) if own else {}
    pulled = _first([e for e in events if _container(e) in ("", name)], "Pulled")
    ended = state.get("terminated") or {}
    node = pod.get("spec", {}).get("nodeName")
    scheduled = _began(_first(events, "Scheduled")) or _since(pod, "PodScheduled")
    return [
        ("scheduled", scheduled, f"on {node}" if node else ""),
        ("mounted", _since(pod, "PodReadyToStartContainers"), "volumes and network"),
        ("pulled", _began(pulled), _pull_note(str(pulled.get("message") or ""))),
        ("started", str((state.get("running") or ended).get("startedAt") or ""), name),
        ("ready", _since(pod, "Ready"), "readiness probe passed"),
    ]


def _since(pod: Obj, name: str) -> str:
    found = condition(pod, name)
    return str(found.get("lastTransitionTime") or "") if found.get("status") == "True" else ""


def _container(event: Obj) -> str:
    """Return the container that an event is about; empty if none is named."""
    path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    return path.removeprefix("spec.containers{").rstrip("}")


def _first(events: list[Obj], reason: str) -> Obj:
    found = [e for e in events if e.get("reason") == reason]
    return min(found, key=_began, default={})


def _began(event: Obj) -> str:
    """Return when an event first happened: a restart repeats the events."""
    return str(event.get("firstTimestamp") or event_time(event))


def _pull_note(message: str) -> str:
    if "already present" in message:
        return "image already present"
    took = re.search(r"in ([0-9.]+m?s)\b", message)
    return f"pull {took[1]}" if took else ""

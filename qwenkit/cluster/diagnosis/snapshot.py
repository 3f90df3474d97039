"""The objects behind a Service and the logs of its containers, and which of them matter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    EVENT,
    JOB,
    KSVC,
    POD,
    PVC,
    REVISION,
    REVISION_LABEL,
    SERVICE_LABEL,
    Kind,
    Obj,
    condition,
    is_terminating,
    kind_of,
    labels_of,
    latest_created,
    moment,
    name_of,
    pod_spec,
)
from qwenkit.cluster.pods import QUEUE_PROXY, claim_names, unschedulable

_UNPLACED = re.compile(r"\d+/\d+ nodes are available")
_UID_LABEL = "serving.knative.dev/revisionUID"
# When something happened; other times, such as a certificate's end, may lie ahead.
_TIMES = re.compile(
    r'"(?:creationTimestamp|time|startTime|startedAt|finishedAt|firstTimestamp|lastTimestamp'
    r"|eventTime|last\w*Time)\": \"(\d{4}-\d\d-\d\dT[\d:.]+Z)\""
)


class LogName(NamedTuple):
    """Whose log it is; ``previous`` is that of the container before its last restart."""

    pod: str
    container: str
    previous: bool = False


def log_names(pod: Obj) -> Iterator[LogName]:
    """Yield the logs that a pod has: those of its own containers first."""
    status = pod.get("status") or {}
    for each in (
        *(status.get("containerStatuses") or []),
        *(status.get("initContainerStatuses") or []),
    ):
        states = (each.get("lastState") or {}) | (each.get("state") or {})
        if states.keys() & {"running", "terminated"}:
            for previous in (False, True) if each.get("restartCount") else (False,):
                yield LogName(name_of(pod), str(each.get("name")), previous)


@dataclass(frozen=True)
class Snapshot:
    """The objects and logs behind the Service (or Job) ``name``, as far as they could be read.

    ``taken`` is when, and ``whole`` are the kinds of which every object was read; of a bundle the
    newest time in it, and the kinds in it.
    """

    name: str
    objects: tuple[Obj, ...] = ()
    logs: Mapping[LogName, str] = field(default_factory=dict)
    taken: datetime | None = None
    whole: frozenset[Kind] = frozenset()

    def of(self, kind: Kind) -> list[Obj]:
        """Return the objects of one kind."""
        return [obj for obj in self.objects if kind_of(obj) == kind]

    def find(self, kind: Kind, name: str) -> Obj | None:
        """Return one object, None if it is not there."""
        return next((obj for obj in self.of(kind) if name_of(obj) == name), None)

    def has_all(self, kind: Kind) -> bool:
        """Return whether every object of a kind is known, so that a missing one is not there."""
        return kind in self.whole or bool(self.of(kind))

    def newest(self, *objects: Obj) -> str:
        """Return the newest time in objects, RFC 3339; empty if there is none."""
        return max(_TIMES.findall(json.dumps(objects)), default="")

    def age_s(self, when: object) -> float | None:
        """Return how many seconds ago a time was; None if it, or the time of now, is unknown."""
        try:
            return (self._now - moment(str(when))).total_seconds()
        except (TypeError, ValueError):
            return None

    @cached_property
    def _now(self) -> datetime:
        return self.taken or moment(self.newest(*self.objects))

    @cached_property
    def service(self) -> Obj | None:
        """The Service, or the Job that takes its place."""
        return self.find(KSVC, self.name) or self.find(JOB, self.name)

    @cached_property
    def revision(self) -> Obj | None:
        """The revision that was made last."""
        return self.find(REVISION, latest_created(self.service or {}))

    @cached_property
    def pods(self) -> list[Obj]:
        """The pods of that revision; all of the Service's if none is known."""
        if self.service and kind_of(self.service) == JOB:
            return self.of(POD)
        pods = [pod for pod in self.of(POD) if labels_of(pod).get(SERVICE_LABEL) == self.name]
        latest = {"metadata": {"name": latest_created(self.service or {})}}
        return of_revision(pods, self.revision or latest)

    @cached_property
    def claims(self) -> list[Obj]:
        """The PVCs that the Service or its pods mount."""
        specs = [self.template(), *(pod.get("spec") or {} for pod in self.pods)]
        names = {name for spec in specs for name in claim_names(spec)}
        return [claim for claim in self.of(PVC) if name_of(claim) in names]

    @cached_property
    def events(self) -> list[Obj]:
        """The events about the Service, its revision, pods and PVCs, the last first."""
        wanted = [self.service, self.revision, *self.pods, *self.claims]
        return sorted(about(wanted, self.of(EVENT)), key=event_time, reverse=True)

    def config(self, name: str) -> dict[str, str]:
        """Return the data of Knative's ConfigMap ``config-<name>``, empty if it was not read."""
        return dict((self.find(CONFIG_MAP, f"config-{name}") or {}).get("data") or {})

    def living(self) -> list[Obj]:
        """Return the pods that are not terminating: a container that is stopped has not crashed."""
        return [pod for pod in self.pods if not is_terminating(pod)]

    def template(self) -> Obj:
        """Return the pod spec of the Service's template."""
        return pod_spec(self.service or {})

    def events_of(self, reason: str) -> list[Obj]:
        """Return the events with one reason, the last first."""
        return [event for event in self.events if event.get("reason") == reason]

    def messages(self, reason: str) -> list[str]:
        """Return the messages of the events with one reason, the last first."""
        return [str(event.get("message") or "") for event in self.events_of(reason)]

    def warnings(self) -> list[str]:
        """Return reason and message of the warnings, the last first."""
        found = (event for event in self.events if event.get("type") == "Warning")
        return [f"{event.get('reason')}: {event.get('message')}" for event in found]

    def unschedulable(self) -> str:
        """Return the scheduler's message about a pod, empty if all are scheduled."""
        pods = self.living()
        if said := next(filter(None, map(unschedulable, pods)), ""):
            return said
        if pods and not any(
            condition(p, "PodScheduled") or p["spec"].get("nodeName") for p in pods
        ):
            return next(iter(self.messages("FailedScheduling")), "")
        conditions = (condition(o or {}, "Ready") for o in (self.revision, self.service))
        said = next((str(c.get("message")) for c in conditions if c.get("status") == "False"), "")
        return "" if pods else said[found.start() :] if (found := _UNPLACED.search(said)) else ""

    def log(self, pod: Obj, container: str, *, ended: bool = False) -> str:
        """Return the log of a container, empty if there is none.

        With ``ended`` that of the container that ended last: after a restart the previous one.
        """
        now, before = (self.logs.get(LogName(name_of(pod), container, p)) for p in (False, True))
        return (before or now or "") if ended else (now or "")

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines of the first own container of a pod that is not terminating."""
        names = {name_of(pod) for pod in self.living()}
        own = (log for log in self.logs if log.pod in names and log.container != QUEUE_PROXY)
        texts = (text for log in own if (text := self.logs[log].strip()))
        return [line for line in next(texts, "").splitlines() if line.strip()][-count:]


def of_revision(pods: Iterable[Obj], revision: Obj) -> list[Obj]:
    """Keep the pods of one revision.

    By uid where a pod has one: those of a deleted Service may still drain under the same name.
    """
    wanted = {_UID_LABEL: revision["metadata"].get("uid"), REVISION_LABEL: name_of(revision)}
    known = {label: value for label, value in wanted.items() if value}
    return [
        pod
        for pod in pods
        if all(labels_of(pod).get(label, value) == value for label, value in known.items())
    ]


def about(objects: Iterable[Obj | None], events: Iterable[Obj]) -> list[Obj]:
    """Keep the events about these objects, their ReplicaSets included."""
    present = [obj for obj in objects if obj]
    uids = {obj["metadata"].get("uid") for obj in present}
    owners = {
        owner.get("uid")
        for obj in present
        for owner in obj["metadata"].get("ownerReferences") or []
    }
    names = {(obj["kind"], name_of(obj)) for obj in present}
    services = "|".join(re.escape(name_of(o)) for o in present if o["kind"] == "Service")

    def wanted(event: Obj) -> bool:
        involved = event.get("involvedObject") or {}
        kind, name = involved.get("kind"), str(involved.get("name") or "")
        if not kind:  # a bundle made by hand
            return not name or name in {known for _, known in names}
        # A ReplicaSet that could not create a pod owns none of these objects: match its name.
        if kind == "ReplicaSet" and re.fullmatch(rf"({services})-.+-deployment-\w+", name):
            return True
        return involved["uid"] in uids | owners if "uid" in involved else (kind, name) in names

    return [event for event in events if wanted(event)]


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

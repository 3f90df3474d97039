"""A cold start: how the time from a pod's creation to Ready was spent, step by step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from qwenkit.capacity.loading import CONTAINER, IMAGE, INIT, MOUNT, PROBE, SCHEDULED
from qwenkit.capacity.simulation.clock import clock_note
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.reading import read_or
from qwenkit.cluster.diagnosis.server_log import PHASES, phase_ends
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
from qwenkit.cluster.pods import serving_container
from qwenkit.errors import NotFound
from qwenkit.language import Shown

CLUSTER, SERVER, UNKNOWN = "cluster", "server", "not attributed"
FIRST_TOKEN = "first token"
_BAR = 30
# The start of a log has what is needed; a server that writes more is past it.
_LOG_BYTES = 2**18
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class ColdStartStep:
    """One step: when it ended, in seconds after creation, how long it took, and whose it is.

    ``group`` is ``cluster``, ``server``, or ``not attributed`` where it cannot be told.
    """

    name: str
    at_s: float
    seconds: float
    note: str = ""
    group: str = CLUSTER


@dataclass(frozen=True, repr=False)
class ColdStart(Shown):
    """The steps of one pod, in order; they add up. Kubernetes keeps most times in whole seconds.

    ``clock`` is how many times faster than the modelled GPU the node runs; 1 on a real one.
    """

    pod: str
    steps: tuple[ColdStartStep, ...]
    clock: float = 1.0

    @property
    def total_s(self) -> float:
        """Seconds from creation to the last step."""
        return self.steps[-1].at_s if self.steps else 0.0

    @property
    def ready_s(self) -> float:
        """Seconds from creation to Ready, without the first token."""
        return max((step.at_s for step in self._to_ready), default=0.0)

    @property
    def ready_on_gpu_s(self) -> float:
        """Seconds from creation to Ready in the modelled GPU's own time."""
        return self.own_s(*self._to_ready)

    @property
    def _to_ready(self) -> tuple[ColdStartStep, ...]:
        return tuple(step for step in self.steps if step.name != FIRST_TOKEN)

    @property
    def attributed_percent(self) -> float:
        """The share of the time that is known to be the cluster's or the server's."""
        unknown = sum(step.seconds for step in self.steps if step.group == UNKNOWN)
        return round(100 * (1 - unknown / self.total_s), 1) if self.total_s else 100.0

    def own_s(self, *steps: ColdStartStep) -> float:
        """Return the seconds of steps in the modelled GPU's own time: the node's clock is faster.

        The scheduler has no part in it.
        """
        return sum(s.seconds * (1.0 if s.name == SCHEDULED else self.clock) for s in steps)

    def percent(self, step: ColdStartStep) -> float:
        """Return a step's share of the whole."""
        return 100 * step.seconds / self.total_s if self.total_s else 0.0

    def __str__(self) -> str:
        scale = _BAR / max(self.total_s, 1e-9)
        width = max((len(step.name) for step in self.steps), default=5)
        lines = []
        for step in self.steps:
            start = round((step.at_s - step.seconds) * scale)
            bar = " " * start + "█" * max(1, round(step.at_s * scale) - start)
            times = self._times(step.seconds, self.own_s(step))
            share = f"{self.percent(step):4.0f} %"
            lines.append(f"{step.name:<{width}}{times}{share}  {bar:<{_BAR}}  {step.note}".rstrip())
        whole = self._times(self.total_s, self.own_s(*self.steps))
        lines.append(f"{'total':<{width}}{whole}  {self.pod}")
        return "\n".join([*lines, *filter(None, [clock_note(self.clock)])])

    def _times(self, seconds: float, own_s: float) -> str:
        return f"{seconds:8.1f} s" + (f"{own_s:8.1f} s on the GPU" if self.clock != 1 else "")


def cold_start(
    cluster: Cluster,
    service: str,
    revision: str | None = None,
    *,
    first_token_s: float | None = None,
    clock: float = 1.0,
) -> ColdStart:
    """Return the cold start of the newest pod of a Service, or of one of its revisions.

    It is read from the pod, its events and the beginning of the server's log. ``first_token_s``
    is the TTFT of the first request and ``clock`` what its answer told, if one was sent.

    Raises:
        NotFound: it has no pod, such as a revision that is scaled to zero.

    >>> from qwenkit import Cluster, Settings, cold_start
    >>> started = cold_start(Cluster.connect(Settings()), Settings().service)
    >>> [step.name for step in started.steps if step.group == "server"]
    ['engine start', 'weights read', 'KV profiling', 'server up', 'probe']
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
    events, log = read_or([], cluster.list, EVENT), read_or(None, start_of_log, cluster, newest)
    return build(newest, events, log, first_token_s=first_token_s, clock=clock)


def start_of_log(cluster: Cluster, pod: Obj) -> str:
    """Return the beginning of the server's log, each line with Kubernetes' time stamp."""
    container = str(serving_container(pod).get("name") or "")
    return cluster.logs(
        name_of(pod), container=container, lines=None, timestamps=True, most_bytes=_LOG_BYTES
    )


@dataclass(frozen=True)
class _Mark:
    """Where a step ends; one without a time is part of the next that has one."""

    name: str
    group: str
    at: datetime | None
    note: str = ""
    always: bool = True
    """Whether every start has this step; others count only where they are seen."""


def build(
    pod: Obj,
    events: Iterable[Obj],
    log: str | None = None,
    *,
    first_token_s: float | None = None,
    clock: float = 1.0,
) -> ColdStart:
    """Build the cold start of a pod from its conditions, container states, events and log.

    ``log`` is the beginning of the server's log, None if it cannot be read.
    """
    uid = pod["metadata"].get("uid")
    own = [event for event in events if event.get("involvedObject", {}).get("uid") == uid]
    created = moment(str(pod["metadata"]["creationTimestamp"]))
    steps: list[ColdStartStep] = []
    at_s, open_marks = 0.0, []
    for mark in [*_cluster_marks(pod, own), *_server_marks(pod, log)]:
        if mark.at is None:
            open_marks += [mark] * mark.always
            continue
        # Some times are whole seconds, some nanoseconds: keep the order of the steps.
        end_s = max((mark.at - created).total_seconds(), at_s)
        marks = [*open_marks, mark]
        steps.append(_step(marks, end_s, end_s - at_s))
        at_s, open_marks = end_s, []
    if first_token_s is not None:
        end_s, note = at_s + first_token_s, "of the first request"
        steps.append(ColdStartStep(FIRST_TOKEN, end_s, first_token_s, note, SERVER))
    return ColdStart(name_of(pod), tuple(steps), clock)


def _step(marks: list[_Mark], at_s: float, seconds: float) -> ColdStartStep:
    """Return the step that ends at the last of the marks, whose others have no time."""
    names, group = [mark.name for mark in marks], marks[-1].group
    name = " and ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
    if any(mark.group != group for mark in marks):
        return ColdStartStep(UNKNOWN, at_s, seconds, name, UNKNOWN)
    return ColdStartStep(name, at_s, seconds, marks[-1].note, group)


def _cluster_marks(pod: Obj, events: list[Obj]) -> Iterator[_Mark]:
    """Yield the kubelet's steps, in its order."""
    status = serving_container(pod)
    name, again = str(status.get("name") or ""), int(status.get("restartCount") or 0)
    of_server = [event for event in events if _container(event) in ("", name)]
    pulled = _first(of_server, "Pulled")
    node = pod.get("spec", {}).get("nodeName")
    scheduled = _began(_first(events, "Scheduled")) or _since(pod, "PodScheduled")
    yield _mark(SCHEDULED, scheduled, f"on {node}" if node else "")
    # Kubernetes before 1.29 has no such condition; images are pulled after the mount.
    mounted = _since(pod, "PodReadyToStartContainers") or _began(
        _first(events, "Pulling", "Pulled")
    )
    yield _mark(MOUNT, mounted, "volumes and network")
    if before := pod.get("status", {}).get("initContainerStatuses"):
        ended = [_ran(each.get("state"), "finishedAt", "startedAt") for each in before]
        yield _mark(INIT, max(ended) if all(ended) else "")
    yield _mark(IMAGE, _began(pulled), _pull_note(str(pulled.get("message") or "")))
    running = _ran(status.get("state"), "startedAt")
    last = _ran(status.get("lastState"), "startedAt") if again == 1 else ""
    begun = (_began(_first(of_server, "Started")) or last) if again else running
    yield _mark(CONTAINER, begun, name)
    if again:
        why = (status.get("lastState") or {}).get("terminated") or {}
        note = f"{again} × {why.get('reason') or 'ended'}"
        yield _Mark("restarts", SERVER, moment(running) if running else None, note)


def _server_marks(pod: Obj, log: str | None) -> Iterator[_Mark]:
    """Yield the phases that the server's log names, and the probe."""
    started, ready = _ran(serving_container(pod).get("state"), "startedAt"), _since(pod, "Ready")
    until = moment(ready) if ready else None
    if not started:
        return
    # Kubernetes cuts the fraction off: a line of the same second is before Ready.
    ends = phase_ends(log or "", moment(started), until and until + _SECOND)
    if not ends:
        note = "its log cannot be read" if log is None else "its log says nothing known"
        yield _Mark("server starting", SERVER, until, note)
        return
    for phase in PHASES:
        yield _Mark(phase.name, SERVER, ends.get(phase.name), always=phase.always)
    yield _Mark(PROBE, SERVER, until, "until the pod is Ready")


def _mark(name: str, time: str, note: str = "") -> _Mark:
    return _Mark(name, CLUSTER, moment(time) if time else None, note)


def _ran(state: Obj | None, *times: str) -> str:
    """Return the first of these times that a container's state has."""
    kinds = [(state or {}).get(kind) or {} for kind in ("running", "terminated")]
    return next((str(each[time]) for time in times for each in kinds if each.get(time)), "")


def _since(pod: Obj, name: str) -> str:
    found = condition(pod, name)
    return str(found.get("lastTransitionTime") or "") if found.get("status") == "True" else ""


def _container(event: Obj) -> str:
    """Return the container that an event is about; empty if none is named."""
    path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    return path.removeprefix("spec.containers{").rstrip("}")


def _first(events: list[Obj], *reasons: str) -> Obj:
    found = [e for e in events if e.get("reason") in reasons]
    return min(found, key=_began, default={})


def _began(event: Obj) -> str:
    """Return when an event first happened: a restart repeats the events."""
    return str(event.get("firstTimestamp") or event_time(event)) if event else ""


def _pull_note(message: str) -> str:
    if "already present" in message:
        return "image already present"
    took = re.search(r"in ([0-9.]+m?s)\b", message)
    return f"pull {took[1]}" if took else ""

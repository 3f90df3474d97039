"""Why a container is not made, not started, or ended by others than itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from qwenkit.cluster.diagnosis.causes.rows import failures, first_row, reason_and_message
from qwenkit.cluster.diagnosis.explanation import CRASH_BUDGET, Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot, event_count
from qwenkit.cluster.kinds import JOB, Obj, is_true, kind_of, name_of
from qwenkit.cluster.pods import QUEUE_PROXY, user_port

START_REASONS = frozenset(
    [
        "StartError",
        "ContainerCannotRun",
        "RunContainerError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "PostStartHookError",
    ]
)
_CANNOT_START = re.compile("OCI runtime|couldn't find key|" + "|".join(START_REASONS))
_LISTENS = re.compile(r"(?:running on|server on) https?://(\S+?):(\d+)")
_LINES = 4


class SeenContainer(NamedTuple):
    """A container of a pod that is not Ready; ``role`` is init, own or queue."""

    pod: Obj
    role: str
    status: Obj

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.status.get("name") or "")

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        if self.role == "queue":
            return "Knative's queue-proxy"
        return f"the {'init ' * (self.role == 'init')}container {self.name}"

    @property
    def now(self) -> Obj:
        """Its state: waiting, running or terminated."""
        return dict(self.status.get("state") or {})

    @property
    def ended(self) -> Obj:
        """How it ended last, empty if it never did."""
        before = self.status.get("lastState") or {}
        return dict(self.now.get("terminated") or before.get("terminated") or {})

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return int(self.status.get("restartCount") or 0)

    @property
    def restarted(self) -> str:
        """How often, in words."""
        return f"restarted {self.restarts} time" + "s" * (self.restarts != 1)

    def last_words(self, snapshot: Snapshot) -> list[str]:
        """Return how it ended, and the last lines of its log."""
        log = snapshot.log(self.pod, self.name, ended=True).strip().splitlines()
        return [f"{self.name} {self.restarted}", reason_and_message(self.ended), *log[-_LINES:]]


def states_of(snapshot: Snapshot, role: str = "") -> Iterator[SeenContainer]:
    """Yield the containers of the pods that are not Ready, of one role or of all."""
    for pod in snapshot.living():
        status = {} if is_true(pod, "Ready") else pod.get("status") or {}
        queue = [s for s in status.get("containerStatuses") or [] if s.get("name") == QUEUE_PROXY]
        own = [s for s in status.get("containerStatuses") or [] if s not in queue]
        groups = {"init": status.get("initContainerStatuses") or [], "own": own, "queue": queue}
        for each, found in groups.items():
            yield from (SeenContainer(pod, each, s) for s in found if role in ("", each))


def not_started(snapshot: Snapshot) -> Explanation | None:
    """Explain a container that the node cannot make or start."""
    if said := [text for text in failures(snapshot) if _CANNOT_START.search(text)]:
        found = first_row("start", said)
        return found and replace(found, cause=f"the container cannot start: {found.cause}")
    for each in states_of(snapshot):
        states = each.now.get("waiting") or {}, each.ended
        why = [reason_and_message(s) for s in states if s.get("reason") in START_REASONS]
        if not why:
            continue
        events = [text for text in snapshot.messages("Failed") if "image" not in text.lower()]
        found = first_row("start", [*why, *events]) or Explanation(
            "config",
            f"the node cannot start it ({why[0].partition(':')[0]})",
            fix=f"kubectl describe pod {name_of(each.pod)}; correct what the message names",
        )
        found = replace(found, cause=f"{each.label} cannot start: {found.cause}")
        return found.shown_by(*found.evidence, *why, *events[:1])
    return None


def killed_by_probe(snapshot: Snapshot) -> Explanation | None:
    """Explain a container that the kubelet kills, because its probe fails."""
    ended = [each for each in states_of(snapshot) if each.ended]
    if not ended or ended[0].ended.get("reason") == "OOMKilled":
        return None
    found = first_row("killed", snapshot.messages("Killing"))
    kills = [each.restarts for each in ended] + [*map(event_count, snapshot.events_of("Killing"))]
    return found and replace(found, permanent=max(kills) >= CRASH_BUDGET).shown_by(
        *found.evidence, *snapshot.messages("Unhealthy")[:1]
    )


def init_failed(snapshot: Snapshot) -> Explanation | None:
    """Explain an init container that ends with an error: no other container starts before it."""
    return _fails(
        snapshot,
        "init",
        "{label} fails with exit code {code} ({reason}), and the server starts only after it",
        "read its log: kubectl logs {pod} -c {name} --previous; OOMKilled: raise its memory limit",
    )


def queue_proxy_failed(snapshot: Snapshot) -> Explanation | None:
    """Explain a queue-proxy, Knative's own container in the pod, that ends with an error."""
    return _fails(
        snapshot,
        "queue",
        "{label} ends with exit code {code} ({reason})",
        "raise queue-sidecar-memory-limit and -cpu-limit in configmap config-deployment of "
        "knative-serving; its log: kubectl logs {pod} -c {name} --previous",
    )


def _fails(snapshot: Snapshot, role: str, cause: str, fix: str) -> Explanation | None:
    for each in states_of(snapshot, role):
        if code := each.ended.get("exitCode"):
            words = {"label": each.label, "name": each.name, "pod": name_of(each.pod)}
            words |= {"code": str(code), "reason": str(each.ended.get("reason") or "Error")}
            return Explanation(
                f"{role}-crash",
                cause.format(**words),
                fix=fix.format(**words),
                permanent=each.restarts >= CRASH_BUDGET,
            ).shown_by(*each.last_words(snapshot))
    return None


def ended_well(snapshot: Snapshot) -> Explanation | None:
    """Explain a server that ends with exit code 0: it must keep running."""
    if snapshot.service and kind_of(snapshot.service) == JOB:
        return None
    for each in states_of(snapshot, "own"):
        if each.ended.get("exitCode") == 0:
            return Explanation(
                "ended",
                f"the command of {each.label} ended by itself (exit code 0); a server must run on",
                fix="start the server itself, in the foreground (vllm serve …): check command "
                "and args",
                permanent=each.restarts >= CRASH_BUDGET,
            ).shown_by(*each.last_words(snapshot))
    return None


def wrong_port(snapshot: Snapshot) -> Explanation | None:
    """Explain a server that listens where the pod is not asked."""
    for each in states_of(snapshot, "own"):
        said = _LISTENS.findall(snapshot.log(each.pod, each.name)) if "running" in each.now else []
        port = user_port(each.pod)
        if not said or not port:
            continue
        host, listens = said[-1]
        if listens != str(port):
            return Explanation(
                "wrong-port",
                f"the server listens on {host}:{listens}, and the pod is asked on port {port}",
                fix=f"start it with --host 0.0.0.0 --port {port}, or correct containerPort",
            ).shown_by(f"the log of {each.name}: {host}:{listens}", *snapshot.messages("Unhealthy"))
    return None

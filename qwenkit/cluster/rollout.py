"""Wait until a Service is Ready with the generation that was applied, or explain why not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from qwenkit.cluster.api.retries import within
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes.containers import START_REASONS
from qwenkit.cluster.diagnosis.causes.images import PULL_REASONS
from qwenkit.cluster.diagnosis.cold_start import start_of_log
from qwenkit.cluster.diagnosis.explain import explain
from qwenkit.cluster.diagnosis.explanation import CRASH_BUDGET, Explanation
from qwenkit.cluster.diagnosis.reading import read_or
from qwenkit.cluster.diagnosis.server_log import doing
from qwenkit.cluster.kinds import (
    KSVC,
    POD,
    REVISION_LABEL,
    SERVICE_LABEL,
    Obj,
    condition,
    is_false,
    is_terminating,
    is_true,
    labels_of,
    latest_created,
    name_of,
)
from qwenkit.cluster.pods import (
    gpus_wanted,
    is_current,
    node_of,
    pod_state,
    restarts,
    serving_container,
    waiting_reasons,
)
from qwenkit.cluster.wait import OnChange, Waited, wait
from qwenkit.errors import QwenkitError

# A diagnosis costs six requests: it is made at every sign of failure, else this often.
_DIAGNOSE_EVERY_S = 10.0
_LOG_S = 1.0
_TROUBLE = PULL_REASONS | START_REASONS
_NO_CAUSE = ("ready", "starting", "unknown", "absent")


@dataclass(frozen=True)
class _State:
    service: Obj
    pods: tuple[Obj, ...]
    server: str = ""
    """What the server of a pod that starts does, from its log."""
    cause: str = ""
    """What keeps it from being ready, while waiting can still help."""

    def revision(self) -> str:
        return latest_created(self.service)

    def own_pods(self) -> list[Obj]:
        pods = [pod for pod in self.pods if not is_terminating(pod)]
        return [pod for pod in pods if labels_of(pod).get(REVISION_LABEL) == self.revision()]

    def names_new_revision(self) -> bool:
        """Return whether the status names the revision of the newest spec.

        Until Knative has created it, the status names the previous revision, which may have
        failed: often the reason to deploy again.
        """
        stale = condition(self.service, "ConfigurationsReady").get("reason") == "OutOfDate"
        return is_current(self.service) and not stale

    def is_ready(self, generation: int) -> bool:
        changed = int(self.service["metadata"].get("generation") or 0) >= generation
        return changed and is_current(self.service) and is_true(self.service, "Ready")

    def in_trouble(self) -> bool:
        return is_false(self.service, "Ready") or any(
            restarts(pod) >= CRASH_BUDGET or _TROUBLE & waiting_reasons(pod).keys()
            for pod in self.own_pods()
        )

    def __str__(self) -> str:
        if not self.names_new_revision():
            return "waiting for Knative to reconcile the change"
        if is_true(self.service, "Ready"):
            return f"{self.revision()}: Ready"
        reason = condition(self.service, "Ready").get("reason") or "starting"
        states = Counter(map(pod_state, self.own_pods()))
        pods = ", ".join(f"{n} × {each}" if n > 1 else each for each, n in states.items()) or "none"
        more = [part for part in (self.server, self.cause) if part]
        return "; ".join([f"{self.revision() or 'no revision'}: {reason}", f"pods: {pods}", *more])

    def left(self) -> str:
        """Return what is there after an interrupted wait, and costs until it is stopped."""
        pods = [pod for pod in self.pods if not is_terminating(pod)]
        placed = [pod for pod in pods if node_of(pod)]
        gpus = sum(gpus_wanted(pod["spec"]) for pod in placed)
        held = f", GPUs held: {gpus}, which cost until it is stopped" if gpus else ""
        return (
            f"{self.revision() or 'its revision'} goes on starting on the cluster (pods: "
            f"{len(pods)}{held}); qwenkit teardown stops it, qwenkit explain "
            f"{name_of(self.service)} says how far it is"
        )


class _Diagnosis:
    """Diagnoses a Service during a wait."""

    def __init__(self, cluster: Cluster, service: str) -> None:
        self._cluster, self._service = cluster, service
        self._made_at = time.monotonic()
        self.cause = ""

    def failed(self, state: _State) -> QwenkitError | None:
        """Return the error if waiting longer is useless."""
        due = time.monotonic() - self._made_at >= _DIAGNOSE_EVERY_S
        if not state.names_new_revision() or not (due or state.in_trouble()):
            return None
        self._made_at = time.monotonic()
        found = self._explained()
        if not found.permanent:
            self.cause = "" if found.kind in _NO_CAUSE else found.cause
            return None
        what = f"ksvc {self._service} does not become ready"
        return found.error(what, kind="Service", name=self._service, revision=state.revision())

    def late(self, _state: _State) -> Explanation:
        """Explain why it is not ready at the deadline."""
        found = self._explained()
        return replace(found, fix=found.fix or "raise ready_timeout_s")

    def _explained(self) -> Explanation:
        try:
            return explain(self._cluster, self._service)
        except QwenkitError as error:  # no diagnosis is no reason to stop
            return Explanation("unknown", error.what, fix=error.fix, permanent=False)


def wait_ready(
    cluster: Cluster,
    name: str,
    *,
    generation: int,
    timeout_s: float,
    on_change: OnChange | None = None,
    every_s: float = 1.0,
) -> Waited[Obj]:
    """Wait until a Service is ready at ``generation``; return it.

    Raises:
        NotReady: waiting longer is useless; why and fix come from ``explain``.
        WaitTimeout: the deadline passed; why and fix come from ``explain``.
        KeyboardInterrupt: Ctrl-C; its note says what goes on, what it holds, and how to stop it.
    """
    diagnosis, seen = _Diagnosis(cluster, name), _State({"metadata": {"name": name}}, ())

    def poll() -> _State:
        nonlocal seen
        service = cluster.get(KSVC, name)
        seen = _State(service, tuple(cluster.list(POD, labels={SERVICE_LABEL: name})))
        if on_change is not None and not is_true(service, "Ready"):
            server = _server_doing(cluster, seen.own_pods())
            seen = replace(seen, server=server, cause=diagnosis.cause)
        return seen

    try:
        done = wait(
            poll,
            what=f"ksvc {name} ready",
            ready=lambda state: state.is_ready(generation),
            describe=str,
            failed=diagnosis.failed,
            late=diagnosis.late,
            timeout_s=timeout_s,
            every_s=every_s,
            on_change=on_change,
        )
    except KeyboardInterrupt as stop:
        stop.add_note(seen.left())
        raise
    return Waited(done.value.service, done.seconds, done.transitions)


def _server_doing(cluster: Cluster, pods: Iterable[Obj]) -> str:
    """Return what the first server that starts does, empty if its log does not say in time."""
    for pod in pods:
        if "running" in (serving_container(pod).get("state") or {}) and not is_true(pod, "Ready"):
            with within(_LOG_S):
                return doing(read_or("", start_of_log, cluster, pod))
    return ""

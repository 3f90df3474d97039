"""Wait until the Service is Ready for the very generation applied, or say why it is not."""

from __future__ import annotations

import time
from dataclasses import dataclass

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.crashes import CRASH_BUDGET
from qwenkit.cluster.diagnosis.explain import explain
from qwenkit.cluster.kinds import (
    KSVC,
    POD,
    REVISION_LABEL,
    SERVICE_LABEL,
    Obj,
    condition,
    is_going,
    labels_of,
)
from qwenkit.cluster.pods import is_current, pod_state, restarts, waiting_reasons
from qwenkit.cluster.wait import OnChange, Waited, wait
from qwenkit.errors import NotReady, QwenkitError
from qwenkit.settings import Settings

# A closer look costs six requests: it is taken at every sign of trouble, else this often.
_LOOK_EVERY_S = 10.0
_TROUBLE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}


@dataclass(frozen=True)
class _State:
    service: Obj
    pods: tuple[Obj, ...]

    def revision(self) -> str:
        return str(self.service.get("status", {}).get("latestCreatedRevisionName") or "")

    def own_pods(self) -> list[Obj]:
        own = self.revision()
        return [p for p in self.pods if labels_of(p).get(REVISION_LABEL) == own and not is_going(p)]

    def is_taken_up(self) -> bool:
        """Tell whether the status names the revision of the newest spec.

        Until the Configuration has made it, the status still names the one before, which may
        have failed: that is why somebody deploys again.
        """
        stale = condition(self.service, "ConfigurationsReady").get("reason") == "OutOfDate"
        return is_current(self.service) and not stale

    def is_ready(self, generation: int) -> bool:
        current = int(self.service["metadata"].get("generation") or 0) >= generation
        return (
            current
            and is_current(self.service)
            and condition(self.service, "Ready").get("status") == "True"
        )

    def in_trouble(self) -> bool:
        return condition(self.service, "Ready").get("status") == "False" or any(
            restarts(pod) >= CRASH_BUDGET or _TROUBLE & waiting_reasons(pod).keys()
            for pod in self.own_pods()
        )

    def __str__(self) -> str:
        if not self.is_taken_up():
            return "waiting for Knative to take up the change"
        ready = condition(self.service, "Ready")
        if ready.get("status") == "True":
            return f"{self.revision()}: Ready"
        pods = ", ".join(pod_state(pod) for pod in self.own_pods()) or "none"
        return (
            f"{self.revision() or 'no revision'}: {ready.get('reason') or 'starting'}; pods: {pods}"
        )


class _Judge:
    """Looks closer at a Service on its way: at every sign of trouble, else now and then."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster, self._settings = cluster, settings
        self._looked = time.monotonic()

    def failed(self, state: _State) -> NotReady | None:
        """Return the error if waiting longer is useless."""
        if not state.is_taken_up():
            return None
        if not state.in_trouble() and time.monotonic() - self._looked < _LOOK_EVERY_S:
            return None
        self._looked = time.monotonic()
        try:
            found = explain(self._cluster, self._settings)
        except QwenkitError:
            return None  # a look that fails is no verdict
        if not found.permanent:
            return None
        name = self._settings.service
        what = f"ksvc {name} does not become ready"
        return found.error(what, kind="Service", name=name, revision=state.revision())

    def advice(self, _state: _State) -> tuple[str, str]:
        """Return why it is late, and what to do."""
        try:
            found = explain(self._cluster, self._settings)
        except QwenkitError as error:
            return str(error.what), error.fix
        why = "\n       ".join([found.cause, *found.evidence])
        return why, found.fix or "raise ready_timeout_s"


def wait_ready(
    cluster: Cluster,
    settings: Settings,
    *,
    generation: int,
    on_change: OnChange | None = None,
    every_s: float = 1.0,
) -> Waited[Obj]:
    """Wait for the Service at ``generation``; returns the Service.

    Raises:
        NotReady: something that waiting does not mend; why and fix come from ``explain``.
        WaitTimeout: the deadline ``ready_timeout_s`` passed, with the same.
    """
    name, namespace = settings.service, settings.namespace

    def poll() -> _State:
        service = cluster.get(KSVC, name, namespace=namespace)
        pods = cluster.list(POD, namespace=namespace, labels={SERVICE_LABEL: name})
        return _State(service, tuple(pods))

    judge = _Judge(cluster, settings)
    done = wait(
        poll,
        what=f"ksvc {name} ready",
        ready=lambda state: state.is_ready(generation),
        describe=str,
        failed=judge.failed,
        timeout_s=settings.seconds("ready"),
        every_s=every_s,
        on_change=on_change,
        fix=judge.advice,
    )
    return Waited(done.value.service, done.seconds, done.transitions)

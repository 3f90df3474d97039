"""Wait until the Service is Ready for the very generation applied, or say why it is not."""

from __future__ import annotations

import time
from dataclasses import dataclass

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.crashes import CRASH_BUDGET
from qwenkit.cluster.explain import explain
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
    looked = time.monotonic()

    def poll() -> _State:
        service = cluster.get(KSVC, name, namespace=namespace)
        pods = cluster.list(POD, namespace=namespace, labels={SERVICE_LABEL: name})
        return _State(service, tuple(pods))

    def failed(state: _State) -> NotReady | None:
        nonlocal looked
        if not state.is_taken_up():
            return None
        if not state.in_trouble() and time.monotonic() - looked < _LOOK_EVERY_S:
            return None
        looked = time.monotonic()
        try:
            found = explain(cluster, settings)
        except QwenkitError:
            return None  # a look that fails is no verdict
        if not found.permanent:
            return None
        return found.error(
            f"ksvc {name} does not become ready",
            kind="Service",
            name=name,
            revision=state.revision(),
        )

    done = wait(
        poll,
        what=f"ksvc {name} ready",
        ready=lambda state: state.is_ready(generation),
        describe=str,
        failed=failed,
        timeout_s=settings.seconds("ready"),
        every_s=every_s,
        on_change=on_change,
        fix=lambda _state: _advice(cluster, settings),
    )
    return Waited(done.value.service, done.seconds, done.transitions)


def _advice(cluster: Cluster, settings: Settings) -> tuple[str, str]:
    try:
        found = explain(cluster, settings)
    except QwenkitError as error:
        return str(error.what), error.fix
    return "\n       ".join([found.cause, *found.evidence]), found.fix or "raise ready_timeout_s"

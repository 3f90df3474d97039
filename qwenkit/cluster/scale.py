"""How many replicas there are and should be; wait for a number of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.discovery import INSTALL_KNATIVE
from qwenkit.cluster.kinds import (
    KSVC,
    POD,
    POD_AUTOSCALER,
    SERVICE_LABEL,
    Obj,
    is_terminating,
    is_true,
)
from qwenkit.cluster.wait import OnChange, Waited, wait
from qwenkit.errors import NotFound

ENDED = ("Failed", "Succeeded")
"""The phases of pods that hold nothing any more."""
STILL_THERE = (
    "is there still traffic? Without it, replicas end after stable window and grace period"
)


@dataclass(frozen=True)
class Replicas:
    """The replicas of a Service or of one revision.

    ``desired`` is the autoscalers' number, ``actual`` the ready ones that they know of;
    ``starting`` pods are not ready yet; ``ending`` pods drain and still hold their GPUs.
    """

    desired: int = 0
    actual: int = 0
    ready: int = 0
    starting: int = 0
    ending: int = 0

    def __str__(self) -> str:
        return (
            f"desired {self.desired}, ready {self.ready}, "
            f"starting {self.starting}, ending {self.ending}"
        )


def replicas(cluster: Cluster, service: str) -> Replicas:
    """Count the replicas of a Service now, all revisions together.

    Raises:
        NotFound: Knative Serving is not installed.
    """
    require_knative(cluster, service)
    labels = {SERVICE_LABEL: service}
    return count_replicas(
        cluster.list(POD_AUTOSCALER, labels=labels), cluster.list(POD, labels=labels)
    )


def require_knative(cluster: Cluster, service: str) -> None:
    """Refuse to count replicas without Knative: listings of what is not installed are empty.

    Raises:
        NotFound: Knative Serving is not installed.
    """
    if not cluster.serves(KSVC):
        what = f"replicas of ksvc {service} cannot be counted"
        raise NotFound(what, "the cluster serves no Knative Services", INSTALL_KNATIVE)


def count_replicas(scalers: Iterable[Obj], pods: Iterable[Obj]) -> Replicas:
    """Count the replicas of some PodAutoscalers and their pods; pods that ended are none."""
    statuses = [scaler.get("status") or {} for scaler in scalers]
    found = [p for p in pods if p.get("status", {}).get("phase") not in ENDED]
    living = [pod for pod in found if not is_terminating(pod)]
    ready = sum(is_true(pod, "Ready") for pod in living)
    return Replicas(
        # -1 means that the autoscaler has no decision yet.
        desired=sum(max(int(status.get("desiredScale", -1)), 0) for status in statuses),
        actual=sum(max(int(status.get("actualScale", 0)), 0) for status in statuses),
        ready=ready,
        starting=len(living) - ready,
        ending=len(found) - len(living),
    )


def wait_replicas(
    cluster: Cluster,
    service: str,
    *,
    ready: int = 0,
    at_most: int | None = None,
    timeout_s: float,
    on_change: OnChange | None = None,
) -> Waited[Replicas]:
    """Wait until at least ``ready`` replicas are ready, and at most ``at_most`` are left.

    Ready and starting replicas are left; those that drain do not count.

    Raises:
        NotFound: Knative Serving is not installed.
        WaitTimeout: the goal was not reached in time.
    """
    goal = f"at least {ready} ready" if at_most is None else f"at most {at_most} left"
    fix = STILL_THERE
    if at_most is None:
        fix = f"qwenkit explain {service}; more replicas than free GPUs never start"

    def reached(now: Replicas) -> bool:
        few_enough = at_most is None or now.ready + now.starting <= at_most
        return now.ready >= ready and few_enough

    return wait(
        lambda: replicas(cluster, service),
        what=f"ksvc {service}: {goal}",
        ready=reached,
        describe=str,
        late=lambda now: Explanation("scale", f"last: {now}", fix=fix),
        timeout_s=timeout_s,
        on_change=on_change,
    )

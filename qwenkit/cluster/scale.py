"""How many replicas there are and should be; change the scaling and wait for the new revision."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import Self

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    KSVC,
    POD,
    POD_AUTOSCALER,
    SERVICE_LABEL,
    is_going,
    is_true,
    name_of,
)
from qwenkit.cluster.rollout import wait_ready
from qwenkit.cluster.wait import OnChange, Waited, wait
from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.settings import Settings


@dataclass(frozen=True)
class Replicas:
    """The replicas of a Service, all revisions together, ``at_s`` seconds into a watch.

    ``desired`` is the autoscalers' wish; ``starting`` are pods that are not ready yet, ``ending``
    drain and still hold their GPUs.
    """

    desired: int
    ready: int
    starting: int
    ending: int
    at_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"desired {self.desired}, ready {self.ready}, "
            f"starting {self.starting}, ending {self.ending}"
        )


@dataclass(frozen=True)
class ScalingChange:
    """What a change of annotations led to; the same name twice if nothing changed."""

    old_revision: str
    new_revision: str
    seconds: float


def replicas(cluster: Cluster, settings: Settings) -> Replicas:
    """Count the replicas of the Service now."""
    labels = {SERVICE_LABEL: settings.service}
    scalers = cluster.list(POD_AUTOSCALER, namespace=settings.namespace, labels=labels)
    pods = cluster.list(POD, namespace=settings.namespace, labels=labels)
    # -1 is the autoscaler's "no decision yet".
    wishes = [int(s.get("status", {}).get("desiredScale", -1)) for s in scalers]
    living = [pod for pod in pods if not is_going(pod)]
    ready = sum(is_true(pod, "Ready") for pod in living)
    return Replicas(
        desired=sum(wish for wish in wishes if wish > 0),
        ready=ready,
        starting=len(living) - ready,
        ending=len(pods) - len(living),
    )


class ReplicaWatch:
    """Samples the replicas in a thread while a load runs.

    ``samples`` grows between ``start`` and ``stop``. A sample that cannot be taken is left out;
    the last reason is in ``error``. Also a context manager.
    """

    def __init__(self, cluster: Cluster, settings: Settings, *, every_s: float = 1.0) -> None:
        self.samples: list[Replicas] = []
        self.error: QwenkitError | None = None
        self._cluster, self._settings, self._every_s = cluster, settings, every_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="qwenkit-replicas", daemon=True)

    def start(self) -> Self:
        """Begin; the first sample is at second 0."""
        self._thread.start()
        return self

    def stop(self) -> list[Replicas]:
        """Take no more samples; returns them all."""
        self._stop.set()
        self._thread.join(timeout=self._cluster.timeout_s + self._every_s)
        return self.samples

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        begin = time.monotonic()
        while True:
            try:
                at_s = time.monotonic() - begin
                taken = replicas(self._cluster, self._settings)
                self.samples.append(replace(taken, at_s=at_s))
            except QwenkitError as error:
                self.error = error
            if self._stop.wait(self._every_s):
                return


def wait_replicas(
    cluster: Cluster,
    settings: Settings,
    *,
    ready: int = 0,
    at_most: int | None = None,
    timeout_s: float | None = None,
    on_change: OnChange | None = None,
) -> Waited[Replicas]:
    """Wait until replicas have come up or gone down.

    Args:
        cluster: where.
        settings: the Service.
        ready: at least so many are ready.
        at_most: no more than so many are ready or starting; those that drain do not count.
        timeout_s: the deadline; default ``scale_timeout_s``.
        on_change: called at each transition.

    Raises:
        WaitTimeout: it did not come so far in time.
    """
    goal = f"at least {ready} ready" if at_most is None else f"at most {at_most} left"

    def reached(now: Replicas) -> bool:
        few_enough = at_most is None or now.ready + now.starting <= at_most
        return now.ready >= ready and few_enough

    return wait(
        lambda: replicas(cluster, settings),
        what=f"ksvc {settings.service}: {goal}",
        ready=reached,
        describe=str,
        timeout_s=settings.seconds("scale") if timeout_s is None else timeout_s,
        on_change=on_change,
        fix=lambda now: (f"last: {now}", _scale_advice(at_most is None, settings)),
    )


def _scale_advice(up: bool, settings: Settings) -> str:
    if up:
        return f"qwenkit explain {settings.service}; a wish above the free GPUs is never met"
    return "is there still traffic? Without it, replicas go after the stable window and the grace"


def change_scaling(
    cluster: Cluster,
    settings: Settings,
    annotations: Mapping[str, str | None],
    *,
    on_change: OnChange | None = None,
) -> ScalingChange:
    """Change annotations of the template, which makes a new revision, and wait until it serves.

    Args:
        cluster: where.
        settings: the Service and the deadline.
        annotations: by full name or without ``autoscaling.knative.dev/``; None removes one.
        on_change: called at each transition.

    Raises:
        InvalidValue: a value is not text, as annotations are.
        Rejected: the webhook refuses a value.
        NotReady: the new revision fails; the old one keeps serving.
    """
    for name, value in annotations.items():
        if value is not None and not isinstance(value, str):
            raise InvalidValue(name, value, "must be text: annotations are", f'write "{value}"')
    full = {n if "/" in n else PREFIX + n: value for n, value in annotations.items()}
    before = cluster.get(KSVC, settings.service, namespace=settings.namespace)
    after = cluster.patch(
        KSVC,
        name_of(before),
        {"spec": {"template": {"metadata": {"annotations": full}}}},
        namespace=settings.namespace,
    )
    generation = int(after["metadata"]["generation"])
    done = wait_ready(cluster, settings, generation=generation, on_change=on_change)
    old, new = (
        str(service.get("status", {}).get("latestReadyRevisionName") or "")
        for service in (before, done.value)
    )
    return ScalingChange(old, new, round(done.seconds, 3))

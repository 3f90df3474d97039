"""How many replicas there are and should be; change the scaling and wait for the new revision."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import Self

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.cluster.api.retries import within
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.discovery import INSTALL_KNATIVE
from qwenkit.cluster.kinds import (
    KSVC,
    POD,
    POD_AUTOSCALER,
    SERVICE_LABEL,
    is_terminating,
    is_true,
)
from qwenkit.cluster.rollout import wait_ready
from qwenkit.cluster.wait import OnChange, Waited, wait
from qwenkit.errors import InvalidValue, NotFound, QwenkitError


@dataclass(frozen=True)
class Replicas:
    """The replicas of a Service, all revisions together.

    ``desired`` is the autoscalers' number; ``starting`` pods are not ready yet; ``ending`` pods
    drain and still hold their GPUs. ``at_s`` is seconds since the origin of a watch's samples.
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
    """The revisions before and after a change of annotations; the same if nothing changed."""

    old_revision: str
    new_revision: str
    seconds: float


def replicas(cluster: Cluster, service: str) -> Replicas:
    """Count the replicas of a Service now.

    Raises:
        NotFound: Knative Serving is not installed.
    """
    if not cluster.serves(KSVC):  # listings of what is not installed are empty
        what = f"replicas of ksvc {service} cannot be counted"
        raise NotFound(what, "the cluster serves no Knative Services", INSTALL_KNATIVE)
    labels = {SERVICE_LABEL: service}
    scalers = cluster.list(POD_AUTOSCALER, labels=labels)
    pods = cluster.list(POD, labels=labels)
    # -1 means that the autoscaler has no decision yet.
    desired = [int(s.get("status", {}).get("desiredScale", -1)) for s in scalers]
    living = [pod for pod in pods if not is_terminating(pod)]
    ready = sum(is_true(pod, "Ready") for pod in living)
    return Replicas(
        desired=sum(max(count, 0) for count in desired),
        ready=ready,
        starting=len(living) - ready,
        ending=len(pods) - len(living),
    )


class ReplicaWatch:
    """Samples the replicas in a thread while a load runs. Also a context manager.

    A sample that fails is left out; ``error`` holds the last reason.

    >>> from qwenkit import Cluster, ReplicaWatch, Settings, run_load
    >>> with ReplicaWatch(Cluster.connect(Settings()), Settings().service) as watch:
    ...     load = run_load(Settings())
    >>> watch.samples(since=load.began)[0].ready >= 1
    True
    """

    def __init__(self, cluster: Cluster, service: str, *, every_s: float = 1.0) -> None:
        self.error: QwenkitError | None = None
        self._cluster, self._service, self._every_s = cluster, service, every_s
        self._samples: list[Replicas] = []  # ``at_s`` as time.monotonic() gives it
        self._stop = Event()
        self._thread = Thread(target=self._run, name="qwenkit-replicas", daemon=True)

    def start(self) -> Self:
        """Take the first sample, then one every ``every_s`` seconds."""
        self._thread.start()
        return self

    def stop(self) -> Self:
        """Stop sampling."""
        self._stop.set()
        self._thread.join(timeout=self._cluster.timeout_s + self._every_s)
        return self

    def samples(self, *, since: float) -> list[Replicas]:
        """Return the samples with ``at_s`` in seconds since a time of ``time.monotonic()``.

        With ``since=load.began``, samples and the load's requests share one time axis. Of the
        samples from before ``since`` only the last is kept, as the state at second 0.
        """
        shifted = [replace(sample, at_s=sample.at_s - since) for sample in list(self._samples)]
        before = [replace(sample, at_s=0.0) for sample in shifted if sample.at_s < 0]
        return before[-1:] + [sample for sample in shifted if sample.at_s >= 0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        stopped = False
        while True:
            try:
                now = time.monotonic()
                with within(self._cluster.timeout_s):
                    taken = replicas(self._cluster, self._service)
                self._samples.append(replace(taken, at_s=now))
            except QwenkitError as error:
                self.error = error
            if stopped:
                return
            stopped = self._stop.wait(self._every_s)


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

    >>> from qwenkit import Cluster, Settings, wait_replicas
    >>> cluster = Cluster.connect(Settings())
    >>> wait_replicas(cluster, Settings().service, at_most=3, timeout_s=60).value.ready <= 3
    True
    """
    goal = f"at least {ready} ready" if at_most is None else f"at most {at_most} left"
    fix = "is there still traffic? Without it, replicas end after stable window and grace period"
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


def change_scaling(
    cluster: Cluster,
    service: str,
    annotations: Mapping[str, str | None],
    *,
    timeout_s: float,
    on_change: OnChange | None = None,
) -> ScalingChange:
    """Change annotations of the template, which makes a new revision; wait until it is ready.

    A name without a slash gets the prefix ``autoscaling.knative.dev/``; None removes one.

    Raises:
        InvalidValue: a value is not text, as annotations are.
        Rejected: the webhook refuses a value.
        NotReady: the new revision fails; the old one keeps serving.

    >>> from qwenkit import Cluster, Settings, change_scaling
    >>> cluster = Cluster.connect(Settings())
    >>> changed = change_scaling(cluster, Settings().service, {"target": "1"}, timeout_s=60)
    >>> changed.new_revision
    'examples-00002'
    """
    for name, value in annotations.items():
        if value is not None and not isinstance(value, str):
            raise InvalidValue(name, value, "must be text: annotations are", f'write "{value}"')
    full = {n if "/" in n else PREFIX + n: value for n, value in annotations.items()}
    before = cluster.get(KSVC, service)
    body = {"spec": {"template": {"metadata": {"annotations": full}}}}
    generation = int(cluster.patch(KSVC, service, body)["metadata"]["generation"])
    done = wait_ready(
        cluster, service, generation=generation, timeout_s=timeout_s, on_change=on_change
    )
    old, new = (
        str(obj.get("status", {}).get("latestReadyRevisionName") or "")
        for obj in (before, done.value)
    )
    return ScalingChange(old, new, round(done.seconds, 3))

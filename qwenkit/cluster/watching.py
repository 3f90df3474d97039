"""Sample what a Service has, revision by revision, in a thread while something else runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event, Thread
from typing import Self

from qwenkit.cluster.api.retries import within
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    KSVC,
    POD,
    POD_AUTOSCALER,
    REVISION_LABEL,
    SERVICE_LABEL,
    Obj,
    is_terminating,
    labels_of,
    name_of,
)
from qwenkit.cluster.pod_metrics import MetricsReader, PodMetrics
from qwenkit.cluster.pods import is_serving, pod_state, user_port
from qwenkit.errors import Forbidden, QwenkitError
from qwenkit.language import Shown

# A cluster that does not answer for so long is a gap; the last look may wait longer.
_LOOK_S, _LAST_LOOK_S = 3.0, 15.0
# Half an hour at one a second; of more, the older half is thinned to every second one.
_MOST = 2000


@dataclass(frozen=True, slots=True, repr=False)
class Replicas(Shown):
    """The replicas of one revision.

    ``desired`` is the autoscaler's number, or that of the pods where it may not be read;
    ``starting`` pods are not ready yet; ``ending`` pods drain and still hold their GPUs.
    """

    desired: int = 0
    ready: int = 0
    starting: int = 0
    ending: int = 0

    def __str__(self) -> str:
        return (
            f"desired {self.desired}, ready {self.ready}, "
            f"starting {self.starting}, ending {self.ending}"
        )


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod at one moment.

    ``reason`` is why it is not ready, as kubectl's STATUS column says; ``node`` where it holds
    its GPUs, empty until there is room; ``port`` that of its own container, 0 if it names none.
    """

    name: str
    revision: str
    phase: str
    reason: str
    ready: bool
    ending: bool
    node: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterSample:
    """A Service at one moment, ``at_s`` seconds since the origin of the samples.

    ``serving`` is the revision with the most traffic, the latest ready one until there is any;
    ``revisions`` has the replicas of each, ``pods`` those that have not ended; ``metrics`` are as
    old as a few seconds. If the cluster could not be read, ``error`` alone is known: why.
    """

    at_s: float
    serving: str = ""
    revisions: Mapping[str, Replicas] = field(default_factory=dict)
    pods: tuple[PodSample, ...] = ()
    metrics: PodMetrics = field(default_factory=PodMetrics)
    error: str = ""

    @property
    def served(self) -> Replicas:
        """The replicas of the serving revision."""
        return self.revisions.get(self.serving, Replicas())

    def placed(self, *, serving: bool) -> int:
        """Return how many pods, of any revision or of that which serves, hold a node's GPUs."""
        return sum(bool(p.node) and (p.revision == self.serving or not serving) for p in self.pods)


def sample_cluster(cluster: Cluster, service: str) -> ClusterSample:
    """Read a Service, its autoscalers and its pods now; ``at_s`` is ``time.monotonic()``.

    Raises:
        NotFound: Knative Serving is not installed, or there is no such Service.
    """
    status = cluster.get(KSVC, service).get("status") or {}
    labels = {SERVICE_LABEL: service}
    desired = _desired(cluster, labels)
    pods = [_pod(pod) for pod in cluster.list(POD, labels=labels)]
    living = [pod for pod in pods if pod.phase not in ("Failed", "Succeeded")]
    now = time.monotonic()
    counted = {
        name: _counted(desired.get(name), [pod for pod in living if pod.revision == name])
        for name in sorted({*desired, *(pod.revision for pod in pods)})
    }
    return ClusterSample(now, _serving(status), counted, tuple(living))


class ClusterWatch:
    """Watches the replicas of a Service, by revision and pod by pod, while a load runs.

    It samples every ``every_s`` seconds in a thread, and a last time when it is stopped; every
    second sample it also reads the metrics of the pods. Also a context manager.
    """

    def __init__(self, cluster: Cluster, service: str, *, every_s: float = 1.0) -> None:
        self._cluster, self._service, self._every_s = cluster, service, every_s
        self._reader, self._metrics, self._taken = MetricsReader(cluster), PodMetrics(), 0
        self._samples: list[ClusterSample] = []
        self._stop = Event()
        self._thread = Thread(target=self._run, name="qwenkit-watch", daemon=True)

    def start(self) -> Self:
        """Take the first sample, then one every ``every_s`` seconds in the background."""
        self._take(_LOOK_S)
        self._thread.start()
        return self

    def stop(self) -> Self:
        """Take the last sample and end."""
        self._stop.set()
        self._thread.join()
        return self

    @property
    def newest(self) -> ClusterSample:
        """The newest sample, on the clock of ``time.monotonic()``; there is one since the start."""
        return self._samples[-1]

    def samples(self, *, since: float = 0.0) -> list[ClusterSample]:
        """Return the samples with ``at_s`` in seconds since a time of ``time.monotonic()``.

        With ``since=load.began``, samples and the load's requests share one time axis; those from
        before the load have a negative time.
        """
        return [replace(sample, at_s=sample.at_s - since) for sample in self._samples]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        due = self._samples[0].at_s + self._every_s
        while not self._stop.wait(due - time.monotonic()):
            self._take(_LOOK_S)
            due = max(due + self._every_s, time.monotonic())
        self._take(_LAST_LOOK_S)

    def _take(self, limit_s: float) -> None:
        began = time.monotonic()
        try:
            with within(limit_s):
                sample = sample_cluster(self._cluster, self._service)
                if self._taken % 2 == 0 or self._stop.is_set():
                    ports = {pod.name: pod.port for pod in sample.pods if pod.ready and pod.port}
                    self._metrics = self._reader.read(ports)
            sample = replace(sample, metrics=self._metrics)
        except Exception as error:  # a thread that died would tell nothing more, and say nothing
            why = error.why or error.what if isinstance(error, QwenkitError) else repr(error)
            sample = ClusterSample(began, error=why)
        self._taken += 1
        # A new list: other threads may read the old one.
        older, newer = self._samples[: _MOST // 2], self._samples[_MOST // 2 :]
        self._samples = [*(older[::2] if len(self._samples) >= _MOST else older), *newer, sample]


def _revision(obj: Obj) -> str:
    return labels_of(obj).get(REVISION_LABEL, "")


def _desired(cluster: Cluster, labels: Mapping[str, str]) -> dict[str, int]:
    """Return what the autoscaler wants of each revision; nothing if that may not be read."""
    try:
        scalers = cluster.list(POD_AUTOSCALER, labels=labels)
    except Forbidden:
        return {}
    # -1 means that the autoscaler has no decision yet.
    wanted = {_revision(one): (one.get("status") or {}).get("desiredScale", -1) for one in scalers}
    return {revision: max(int(scale), 0) for revision, scale in wanted.items()}


def _counted(desired: int | None, pods: Sequence[PodSample]) -> Replicas:
    ready, ending = (sum(getattr(pod, name) for pod in pods) for name in ("ready", "ending"))
    living = len(pods) - ending
    return Replicas(living if desired is None else desired, ready, living - ready, ending)


def _serving(status: Obj) -> str:
    """Return the revision that gets the most traffic."""
    traffic = [each for each in status.get("traffic") or [] if each.get("percent")]
    most: Obj = max(traffic, key=lambda each: int(each["percent"]), default={})
    return str(most.get("revisionName") or status.get("latestReadyRevisionName") or "")


def _pod(pod: Obj) -> PodSample:
    ready = is_serving(pod)
    return PodSample(
        name=name_of(pod),
        revision=_revision(pod),
        phase=str(pod.get("status", {}).get("phase") or "Pending"),
        reason="" if ready else pod_state(pod),
        ready=ready,
        ending=is_terminating(pod),
        node=str(pod.get("spec", {}).get("nodeName") or ""),
        port=user_port(pod),
    )

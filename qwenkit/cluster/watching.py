"""Sample what a Service has, revision by revision, in a thread while something else runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Event, Thread
from typing import Generic, Protocol, Self, TypeVar

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
    is_true,
    labels_of,
    name_of,
)
from qwenkit.cluster.pods import pod_state, user_port
from qwenkit.cluster.scale import Replicas, count_replicas, require_knative
from qwenkit.errors import QwenkitError

# A look at a cluster that does not answer is given up after this, so that the gap is told soon;
# the last look of a watch is worth a longer wait.
_LOOK_S, _LAST_LOOK_S = 3.0, 15.0
# Half an hour of one sample a second; then the older half is thinned to every second one.
_MOST = 2000


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod at one moment; ``reason`` is why it is not ready, as kubectl's STATUS column says."""

    name: str
    revision: str
    phase: str
    reason: str
    ready: bool
    ending: bool
    port: int
    """The port of its own container, 0 if it names none."""


@dataclass(frozen=True, slots=True)
class ClusterSample:
    """A Service at one moment, ``at_s`` seconds since the origin of the samples.

    ``serving`` is the revision with the most traffic, the latest ready one until there is any;
    ``revisions`` has its replicas and those of every other revision. If the cluster could not be
    read, ``error`` says why, and nothing is known.
    """

    at_s: float
    serving: str = ""
    revisions: Mapping[str, Replicas] = field(default_factory=dict)
    pods: tuple[PodSample, ...] = ()
    error: str = ""

    @property
    def served(self) -> Replicas:
        """The replicas of the serving revision."""
        return self.revisions.get(self.serving, Replicas())


def sample_cluster(cluster: Cluster, service: str) -> ClusterSample:
    """Read a Service, its autoscalers and its pods now; ``at_s`` is ``time.monotonic()``.

    Raises:
        NotFound: Knative Serving is not installed, or there is no such Service.
    """
    require_knative(cluster, service)
    status = cluster.get(KSVC, service).get("status") or {}
    labels = {SERVICE_LABEL: service}
    scalers = _by_revision(cluster.list(POD_AUTOSCALER, labels=labels))
    found = cluster.list(POD, labels=labels)
    now, pods = time.monotonic(), _by_revision(found)
    names = sorted({*scalers, *pods})
    return ClusterSample(
        now,
        serving=_serving(status),
        revisions={
            name: count_replicas(scalers.get(name, ()), pods.get(name, ())) for name in names
        },
        pods=tuple(map(_pod, found)),
    )


class _Timed(Protocol):
    """What is sampled: a dataclass with a time."""

    @property
    def at_s(self) -> float:
        """Seconds; ``time.monotonic()`` when it is taken."""


S = TypeVar("S", bound=_Timed)


class SampleLoop(Generic[S]):
    """Takes a sample every ``every_s`` seconds in a thread, and a last one when it is stopped.

    ``look`` takes a sample and may raise ``QwenkitError``; ``failed`` makes the sample that says
    so. The watch goes on; ``error`` holds the last reason. Also a context manager.
    """

    def __init__(
        self,
        look: Callable[[], S],
        failed: Callable[[float, QwenkitError], S],
        *,
        every_s: float = 1.0,
        name: str,
    ) -> None:
        self.error: QwenkitError | None = None
        self._look, self._failed, self._every_s = look, failed, every_s
        self._samples: list[S] = []
        self._stop = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Self:
        """Take the first sample, then one every ``every_s`` seconds."""
        self._thread.start()
        return self

    def stop(self) -> Self:
        """Take the last sample and end; the cluster gets some time to answer."""
        self._stop.set()
        self._thread.join()
        return self

    def samples(self, *, since: float = 0.0) -> list[S]:
        """Return the samples with ``at_s`` in seconds since a time of ``time.monotonic()``.

        With ``since=load.began``, samples and the load's requests share one time axis; samples
        from before the load have a negative time.
        """
        return [replace(one, at_s=one.at_s - since) for one in list(self._samples)]  # type: ignore[type-var]

    @property
    def last(self) -> S | None:
        """The newest sample, if there is one."""
        return self._samples[-1] if self._samples else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._take(_LOOK_S)
            due = max(due + self._every_s, time.monotonic())
            self._stop.wait(due - time.monotonic())
        self._take(_LAST_LOOK_S)

    def _take(self, limit_s: float) -> None:
        began = time.monotonic()
        try:
            with within(limit_s):
                self._samples.append(self._look())
        except QwenkitError as error:
            self.error = error
            self._samples.append(self._failed(began, error))
        if len(self._samples) > _MOST:
            # A new list: other threads may read the old one.
            self._samples = [*self._samples[: _MOST // 2 : 2], *self._samples[_MOST // 2 :]]


class ClusterWatch(SampleLoop[ClusterSample]):
    """Watches the replicas of a Service, by revision and pod by pod, while a load runs.

    >>> from qwenkit import Cluster, ClusterWatch, Settings, run_load
    >>> with ClusterWatch(Cluster.connect(Settings()), Settings().service) as watch:
    ...     load = run_load(Settings())
    >>> watch.samples(since=load.began)[-1].served.ready >= 1
    True
    """

    def __init__(self, cluster: Cluster, service: str, *, every_s: float = 1.0) -> None:
        super().__init__(
            lambda: sample_cluster(cluster, service),
            lambda at_s, error: ClusterSample(at_s, error=error.why or error.what),
            every_s=every_s,
            name="qwenkit-cluster",
        )


def _by_revision(objects: list[Obj]) -> dict[str, list[Obj]]:
    grouped: dict[str, list[Obj]] = {}
    for obj in objects:
        grouped.setdefault(labels_of(obj).get(REVISION_LABEL, ""), []).append(obj)
    return grouped


def _serving(status: Obj) -> str:
    """Return the revision that gets the most traffic."""
    traffic = [each for each in status.get("traffic") or [] if each.get("percent")]
    most: Obj = max(traffic, key=lambda each: int(each["percent"]), default={})
    return str(most.get("revisionName") or status.get("latestReadyRevisionName") or "")


def _pod(pod: Obj) -> PodSample:
    ready = is_true(pod, "Ready") and not is_terminating(pod)
    return PodSample(
        name=name_of(pod),
        revision=labels_of(pod).get(REVISION_LABEL, ""),
        phase=str(pod.get("status", {}).get("phase") or "Pending"),
        reason="" if ready else pod_state(pod),
        ready=ready,
        ending=is_terminating(pod),
        port=user_port(pod),
    )

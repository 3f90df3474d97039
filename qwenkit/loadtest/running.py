"""A load and a watch of the cluster, both in the background: start, look, stop, result."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Event

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.wait import wait
from qwenkit.cluster.watching import ClusterSample, ClusterWatch
from qwenkit.inference.load.running import RunningLoad
from qwenkit.inference.results import percentiles
from qwenkit.loadtest.moment import RECENT_S, Moment, cluster_figures
from qwenkit.loadtest.timeline import Timeline, pod_seconds

_POLL_S = 0.1
_STILL_THERE = (
    "is there still traffic? Without it, replicas end after stable window and grace period"
)


class LoadTest:
    """A load on a Service while it is watched; all methods may be called from any thread.

    ``start`` starts the load, when the watch has its first sample.
    """

    def __init__(
        self,
        cluster: Cluster,
        service: str,
        start: Callable[[], RunningLoad],
        *,
        every_s: float = 1.0,
    ) -> None:
        self._ended = Event()
        self._at_end: list[Callable[[Timeline | None], None]] = []
        self.waits_for = ""
        """What is waited for after the load, and for how long; empty before and afterwards."""
        self._service, self._stopped = service, Event()
        self._watch = ClusterWatch(cluster, service, every_s=every_s).start()
        try:
            self.load = start()
        except BaseException:
            self._watch.stop()
            raise
        self._history: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])

    def snapshot(self) -> Moment:
        """Return this moment; cheap. Rates are since the snapshot of ten seconds before."""
        now, seconds = self.load.snapshot(), time.monotonic() - self.load.began
        history = self._history
        history.append((seconds, now.sent, now.tokens))
        while len(history) > 2 and history[1][0] <= seconds - RECENT_S:
            history.popleft()
        since, sent, tokens = history[0]
        passed = max(seconds - since, 1.0)
        good = [r for r in now.recent if r.outcome == "ok" and r.end_s >= seconds - RECENT_S]
        return Moment(
            seconds,
            sent=now.sent,
            ok=now.ok,
            in_flight=now.running,
            offered_per_s=(now.sent - sent) / passed,
            tokens_per_s=max(now.tokens - tokens, 0) / passed,
            ttft_s=percentiles(request.ttft_s for request in good),
            latency_s=percentiles(request.latency_s for request in good),
            errors=now.errors,
            clock=now.clock,
            pod_seconds=pod_seconds(self._watch.samples(since=self.load.began)),
            **cluster_figures(self._watch.newest),
        )

    def stop(self) -> None:
        """End the load, and the wait for the replicas, early. Does not wait."""
        self._stopped.set()
        self.load.stop()

    def result(self, *, at_most: int | None = None, timeout_s: float = 600) -> Timeline:
        """Wait for the end of the load and return what happened.

        With ``at_most`` also wait until no more replicas of the serving revision than that are
        left, those that start included. ``stop`` and an interrupt end both waits early.

        Raises:
            WaitTimeout: the replicas were still there after ``timeout_s``.
        """
        try:
            while not self.load.done:
                time.sleep(_POLL_S)
            if at_most is not None and not self._ended.is_set():
                self._wait_down(at_most, timeout_s)
        except KeyboardInterrupt:
            self.stop()
        finally:
            timeline = self._end()
        return timeline

    def at_end(self, call: Callable[[Timeline | None], None]) -> None:
        """Have ``call`` called at the end of ``result``; without a timeline if the load failed."""
        self._at_end.append(call)

    def _end(self) -> Timeline:
        self.waits_for = ""
        self.load.stop()
        self._watch.stop()
        timeline = None
        try:
            load = self.load.result()
            timeline = Timeline(load, self._watch.samples(since=load.began))
            return timeline
        finally:
            if not self._ended.is_set():
                self._ended.set()
                for call in self._at_end:
                    call(timeline)

    def _wait_down(self, at_most: int, timeout_s: float) -> None:
        began, goal = time.monotonic(), f"at most {at_most} replicas left"

        def reached(now: ClusterSample) -> bool:
            left = now.served.ready + now.served.starting
            waited_s = time.monotonic() - began
            self.waits_for = f"{goal}, now {left}: {waited_s:.0f} s, at most {timeout_s:g} s"
            return self._stopped.is_set() or (not now.error and left <= at_most)

        wait(
            lambda: self._watch.newest,
            what=f"ksvc {self._service}: {goal}",
            ready=reached,
            describe=_told,
            late=lambda now: Explanation("scale", f"last: {_told(now)}", fix=_STILL_THERE),
            timeout_s=timeout_s,
            every_s=_POLL_S,
        )


def _told(now: ClusterSample) -> str:
    return now.error or str(now.served)

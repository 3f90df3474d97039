"""What happened in a load test, on one time axis: requests, autoscaler, pods and vLLM.

Second 0 is the load's start. All of it comes from the load and from the cluster's own objects and
pods; there need be no Prometheus.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby, pairwise
from operator import attrgetter

from qwenkit.cluster.watching import ClusterSample
from qwenkit.inference.results import LoadRequest, LoadResult, percentiles
from qwenkit.language import Shown
from qwenkit.loadtest.moment import RECENT_S, Moment, cluster_figures

_MOMENTS = 600


class Timeline(Shown):
    """A load and what the cluster did meanwhile, until its watch ended.

    ``cluster`` are samples whose time is in seconds since the load began; ``known`` are those
    that could be taken.
    """

    def __init__(self, load: LoadResult, cluster: Sequence[ClusterSample]) -> None:
        self.load, self.cluster = load, tuple(cluster)
        self.known = tuple(sample for sample in self.cluster if not sample.error)
        self._requests = _Requests(load.requests)

    def __str__(self) -> str:
        left = self.last.served.ready if self.last else 0
        outcomes = Counter(request.outcome for request in self.load.requests)
        return (
            f"{len(self.load.requests)} requests, {outcomes['failed']} failed, "
            f"ready replicas {self.start_ready} → {self.peak_ready} → {left}"
        )

    @property
    def start_s(self) -> float:
        """The time of the first sample, at most 0."""
        return min([0.0, *(sample.at_s for sample in self.cluster[:1])])

    @property
    def end_s(self) -> float:
        """The time of the last sample, or of the load's end."""
        return max([self.load.seconds, *(sample.at_s for sample in self.cluster[-1:])])

    @property
    def last(self) -> ClusterSample | None:
        """The last sample that could be taken."""
        return self.known[-1] if self.known else None

    @property
    def start_ready(self) -> int:
        """The ready replicas that served when the load began."""
        first = self._cluster_at(0.0) or next(iter(self.known), None)
        return first.served.ready if first else 0

    @property
    def peak_ready(self) -> int:
        """The most ready replicas of a revision while it served, from the load's start on."""
        return max([self.start_ready, *(s.served.ready for s in self.known if s.at_s >= 0)])

    @cached_property
    def served_by(self) -> dict[str, int]:
        """Answers by pod, as the gateway told, else as vLLM's counters tell; empty if neither."""
        told = Counter(r.pod for r in self.load.requests if r.pod and r.outcome == "ok")
        if told:
            return dict(told)
        before = [sample.metrics.engines for sample in self.known if sample.at_s <= 0]
        start = before[-1] if before else {}
        end = {pod: one for sample in self.known for pod, one in sample.metrics.engines.items()}
        answers = {
            pod: round(engine.answers - (start[pod].answers if pod in start else 0))
            for pod, engine in end.items()
        }
        return {pod: count for pod, count in answers.items() if count > 0}

    @property
    def unknown(self) -> dict[str, str]:
        """Which metrics could not be read at some time, and why."""
        return {name: why for one in self.known for name, why in one.metrics.unknown.items()}

    @property
    def gaps(self) -> list[tuple[float, float, str]]:
        """When the cluster could not be read: from, to, why."""
        found: list[tuple[float, float, str]] = []
        before = self.start_s
        for failed, group in groupby(self.cluster, key=lambda sample: bool(sample.error)):
            samples = list(group)
            if failed:
                found.append((before, samples[-1].at_s, samples[-1].error))
            elif found:
                found[-1] = (found[-1][0], samples[0].at_s, found[-1][2])
            before = samples[-1].at_s
        return found

    def moments(self) -> list[Moment]:
        """Return a moment each second, of a long test every few seconds, and the last one."""
        first, last = math.floor(self.start_s), self.end_s
        step = max(1, math.ceil((last - first) / _MOMENTS))
        return [self.at(float(at)) for at in [*range(first, math.ceil(last), step), last]]

    def at(self, at_s: float) -> Moment:
        """Return the moment ``at_s`` seconds after the load's start."""
        held = pod_seconds([sample for sample in self.known if sample.at_s <= at_s])
        figures = cluster_figures(self._cluster_at(at_s))
        return self._requests.at(at_s, clock=self.load.clock, pod_seconds=held, **figures)

    def _cluster_at(self, at_s: float) -> ClusterSample | None:
        place = bisect_right(self.cluster, at_s, key=attrgetter("at_s"))
        return self.cluster[place - 1] if place and not self.cluster[place - 1].error else None


def pod_seconds(samples: Sequence[ClusterSample], *, serving: bool = False) -> float:
    """Return how long pods of any revision, or of that which serves, held a node's GPUs.

    From second 0 on; each pod counts by itself. Over a gap the number before it counts.
    """
    known = [sample for sample in samples if not sample.error]
    return sum(
        (max(later.at_s, 0.0) - max(earlier.at_s, 0.0)) * earlier.placed(serving=serving)
        for earlier, later in pairwise(known)
    )


class _Requests:
    """The requests of a load in the orders in which a moment asks for them."""

    def __init__(self, requests: Sequence[LoadRequest]) -> None:
        self._sent = sorted(request.sent_s for request in requests)
        self._due = sorted(request.scheduled_s for request in requests)
        self._by_end = sorted(requests, key=attrgetter("end_s"))
        self._ends = [request.end_s for request in self._by_end]
        self._ok = [request.end_s for request in self._by_end if request.outcome == "ok"]
        self._failed = [request for request in self._by_end if request.outcome == "failed"]
        self._first = sorted(
            request.end_s if request.first_s is None else request.first_s for request in requests
        )
        self._tokens = _tokens_by_second(self._by_end)

    def at(self, at_s: float, **cluster: object) -> Moment:
        sent, ended = bisect_right(self._sent, at_s), bisect_right(self._ends, at_s)
        recent = self._by_end[bisect_left(self._ends, at_s - RECENT_S) : ended]
        good = [request for request in recent if request.outcome == "ok"]
        seconds = min(max(at_s, 1.0), RECENT_S)
        due = bisect_right(self._due, at_s) - bisect_right(self._due, at_s - RECENT_S)
        end = min(max(math.ceil(at_s), 0), len(self._tokens))
        failed = self._failed[: bisect_right(self._failed, at_s, key=attrgetter("end_s"))]
        return Moment(
            at_s,
            sent=sent,
            ok=bisect_right(self._ok, at_s),
            in_flight=sent - ended,
            waiting=sent - bisect_right(self._first, at_s),
            offered_per_s=due / seconds,
            tokens_per_s=sum(self._tokens[max(end - round(RECENT_S), 0) : end]) / seconds,
            ttft_s=percentiles(request.ttft_s for request in good),
            latency_s=percentiles(request.latency_s for request in good),
            errors=dict(Counter(request.why for request in failed)),
            **cluster,  # type: ignore[arg-type]
        )


def _tokens_by_second(requests: Sequence[LoadRequest]) -> list[float]:
    """Return the tokens that came in each second, as if each answer's came evenly."""
    tokens = [0.0] * math.ceil(max((request.last_s for request in requests), default=0.0) + 1)
    for request in requests:
        if request.first_s is not None:
            first, last = math.floor(request.first_s), math.floor(request.last_s)
            for second in range(first, last + 1):
                tokens[second] += request.tokens / (last - first + 1)
    return tokens

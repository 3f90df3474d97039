"""Where a request goes and waits: activator, queue-proxy, server; and what they count.

Proxy mode: the request passes the activator, waits there while no pod has room, and counts there
until its answer ends. Serve mode: it goes to a random pod and counts in that pod's queue-proxy.
One activator is modelled. Sources: Knative Serving ``pkg/activator`` (handler, throttler,
load-balancing policies, concurrency reporter) and ``pkg/queue``, restated.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from random import Random

from qwenkit.capacity.simulation.fleet import Fleet, Phase, Pod
from qwenkit.capacity.simulation.server import SimulatedRequest

ANSWERED, FULL, TIMED_OUT = 200, 503, 504
_ACTIVATOR_QUEUE = 10_000
_QUEUE_PROXY_FACTOR = 10
_PACKED_UP_TO = 3  # up to this containerConcurrency the activator fills the first pod first


def sample_size(pods: int) -> int:
    """Return how many of the ready pods the autoscaler scrapes."""
    return pods if pods <= 3 else math.ceil(pods * 15.3664 / (pods + 14.3664))


class ActivatorStats:
    """What the activator reports of one revision each second."""

    __slots__ = ("_area", "_arrived", "_first", "_last", "_start", "in_flight", "known")

    def __init__(self) -> None:
        self.known = False
        self.in_flight = 0
        self._area = self._last = self._start = 0.0
        self._arrived = self._first = 0

    def enter(self, now: float) -> bool:
        """Count an arriving request; return whether it is the first, which is reported at once."""
        first = not self.known
        if first:
            self.known = True
            self._area, self._arrived, self._first = 0.0, 0, 1
            self._last = self._start = now
        self._area += self.in_flight * (now - self._last)
        self._last = now
        self.in_flight += 1
        self._arrived += 1
        return first

    def leave(self, now: float) -> None:
        """Count a request that has ended."""
        self._area += self.in_flight * (now - self._last)
        self._last = now
        self.in_flight -= 1

    def report(self, now: float) -> tuple[float, float]:
        """Return (concurrency, requests) since the last report, less the one sent at once."""
        area = self._area + self.in_flight * (now - self._last)
        average = area / (now - self._start) if now > self._start else 0.0
        report = max(average - self._first, 0.0), float(self._arrived - self._first)
        self._area, self._arrived, self._first = 0.0, 0, 0
        self._last = self._start = now
        if average == 0.0 and not self.in_flight:
            self.known = False
        return report


class DataPlane:
    """Routes and queues requests, and measures what the autoscaler reads.

    ``first_byte_s`` is the timeout before the first byte, ``timeout_s`` that of a whole request.
    ``plan(time, pod)`` is called with the time at which a pod's server next finishes a request,
    ``done(time, request)`` for each request that ends.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        container_concurrency: int,
        timeout_s: float,
        first_byte_s: float,
        rng: Random,
        plan: Callable[[float, Pod], None],
        done: Callable[[float, SimulatedRequest], None],
    ) -> None:
        self._fleet = fleet
        self._limit = container_concurrency
        self._timeout_s = timeout_s
        self._first_byte_s = first_byte_s
        self._random = rng.random
        self._sample = rng.sample
        self._plan = plan
        self._done = done
        self._queue: deque[SimulatedRequest] = deque()
        self._by_age: deque[SimulatedRequest] = deque()
        self._by_first_byte: deque[SimulatedRequest] = deque()
        self._turn = 0
        self.stats = ActivatorStats()
        self.proxy = True
        self.in_flight = 0
        self.direct = 0
        self.counted_directly = False  # whether queue-proxies have counted since the last scrape

    def enter(self, now: float, request: SimulatedRequest) -> bool:
        """Accept a request; return whether the activator reports it at once."""
        self.in_flight += 1
        self._by_age.append(request)
        if self._first_byte_s < self._timeout_s:
            self._by_first_byte.append(request)
        ready = self._fleet.ready
        if not self.proxy and ready:
            self.direct += 1
            self.counted_directly = True
            self._send_direct(now, request, ready[int(self._random() * len(ready))])
            return False
        request.proxied = True
        first = self.stats.enter(now)
        pod = None if self._queue else self._choose(ready)
        if pod is not None:
            self._start(now, request, pod)
        elif len(self._queue) < _ACTIVATOR_QUEUE:
            self._queue.append(request)
        else:
            self._end(now, request, FULL)
        return first

    def _send_direct(self, now: float, request: SimulatedRequest, pod: Pod) -> None:
        pod.area += pod.direct * (now - pod.counted_to)
        pod.counted_to = now
        pod.direct += 1
        pod.arrived += 1
        if not self._limit or pod.in_flight < self._limit:
            self._start(now, request, pod)
            return
        request.pod = pod
        pod.in_flight += 1
        if len(pod.queue) < self._limit * _QUEUE_PROXY_FACTOR:
            pod.queue.append(request)
        else:
            self._end(now, request, FULL)

    def _choose(self, ready: list[Pod]) -> Pod | None:
        """Choose the activator's next pod; None if none has room."""
        count = len(ready)
        if not count:
            return None
        limit = self._limit
        if not limit:
            if count == 1:
                return ready[0]
            one, two = int(self._random() * count), int(self._random() * (count - 1))
            a, b = ready[one], ready[two + (two >= one)]
            return a if a.in_flight <= b.in_flight else b
        start = 0
        if limit > _PACKED_UP_TO:
            self._turn += 1
            start = self._turn
        for step in range(count):
            pod = ready[(start + step) % count]
            if pod.in_flight < limit:
                return pod
        return None

    def _start(self, now: float, request: SimulatedRequest, pod: Pod) -> None:
        request.pod = pod
        pod.in_flight += 1
        pod.engine.add(now, request)
        self._plan(pod.engine.next_at, pod)

    def drain_queue(self, now: float) -> None:
        """Send requests that wait in the activator to pods that have room."""
        queue, ready = self._queue, self._fleet.ready
        while queue:
            pod = self._choose(ready)
            if pod is None:
                return
            self._start(now, queue.popleft(), pod)

    def finish(self, now: float, pod: Pod) -> None:
        """End the requests that a pod's server has finished by now, and start waiting ones."""
        for request in pod.engine.finish(now):
            self._end(now, request, ANSWERED)
        if pod.queue or self._queue:
            self._refill(now, pod)
        self._plan(pod.engine.next_at, pod)

    def _refill(self, now: float, pod: Pod) -> None:
        waiting = pod.queue
        while waiting and pod.in_flight - len(waiting) < self._limit:
            pod.in_flight -= 1  # _start counts it again
            self._start(now, waiting.popleft(), pod)
        self.drain_queue(now)

    def _end(self, now: float, request: SimulatedRequest, status: int) -> None:
        request.status = status
        self.in_flight -= 1
        pod = request.pod
        if isinstance(pod, Pod):
            pod.in_flight -= 1
            if pod.phase is Phase.DRAINING and not pod.in_flight:
                self._plan(max(now, pod.drained_at), pod)
            if not request.proxied:
                pod.area += pod.direct * (now - pod.counted_to)
                pod.counted_to = now
                pod.direct -= 1
        if request.proxied:
            self.stats.leave(now)
        else:
            self.direct -= 1
        self._done(now, request)

    def expire(self, now: float) -> None:
        """End the requests that exceed a timeout; called once a second."""
        old = self._by_age
        while old and (old[0].status or old[0].at + self._timeout_s <= now):
            self._give_up(now, old.popleft())
        late = self._by_first_byte
        while late and (
            late[0].status or late[0].first_at <= now or late[0].at + self._first_byte_s <= now
        ):
            request = late.popleft()
            if request.first_at > now:
                self._give_up(now, request)  # does nothing if it has ended

    def _give_up(self, now: float, request: SimulatedRequest) -> None:
        if request.status:
            return
        pod = request.pod
        waiting = self._queue if not isinstance(pod, Pod) else pod.queue
        if request in waiting:
            waiting.remove(request)
            self._end(now, request, TIMED_OUT)
        elif isinstance(pod, Pod):
            pod.engine.remove(now, request)
            self._end(now, request, TIMED_OUT)
            self._refill(now, pod)
            self._plan(pod.engine.next_at, pod)

    def scrape(self, now: float) -> tuple[float, float] | None:
        """Return what a scrape of the ready pods reports: (concurrency, requests) of all pods."""
        pods = self._fleet.ready
        count = len(pods)
        if not count:
            return None
        if not self.counted_directly:
            return 0.0, 0.0
        self.counted_directly = self.direct > 0
        reports = [_pod_report(now, pod) for pod in pods]
        size = sample_size(count)
        if size < count:
            reports = self._sample(reports, size)
        share = count / size
        return sum(report[0] for report in reports) * share, (
            sum(report[1] for report in reports) * share
        )

    @property
    def waiting(self) -> int:
        """Requests that wait: in the activator, in queue-proxies, in servers."""
        count = len(self._queue)
        for pods in (self._fleet.ready, self._fleet.draining):
            for pod in pods:
                count += len(pod.queue) + pod.engine.waiting
        return count


def _pod_report(now: float, pod: Pod) -> tuple[float, int]:
    area = pod.area + pod.direct * (now - pod.counted_to)
    # The period is the last second; a pod that was idle starts counting now.
    report = area, pod.arrived
    pod.area, pod.arrived, pod.counted_to = 0.0, 0, now
    return report

"""How a revision scales under traffic: data plane, autoscaler and pods in virtual time.

    result = simulate(spec, poisson(0.5, 900), VllmServer("V100-16", "Qwen-7B-Chat-Int8"))

Each second the activator reports and the pods are scraped; every two seconds, and when the
activator sees load at zero pods, the autoscaler decides. Stretches in which nothing can happen
are skipped. The same arguments give the same result. Simplifications: one activator, no delay
of the API, equal start-up times, and timeouts that act at the next full second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any

from qwenkit.capacity.simulation.control import Scaling, take_over
from qwenkit.capacity.simulation.dataplane import DataPlane
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.fleet import Fleet, Phase, Pod
from qwenkit.capacity.simulation.result import Requests, SimulationResult
from qwenkit.capacity.simulation.server import SimulatedRequest, SimulatedServer
from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, OpenLoop, Traffic
from qwenkit.errors import InvalidValue

MAX_SECONDS = 7 * 86_400
_MAX_REQUESTS = 2_000_000
_RETRY_S = 1.0  # a closed-loop client waits this long after an error
_NO_CLIENT = -1
_NEVER = Arrival(math.inf, 1, 1)
# The columns of ``_Run._series`` and of ``_Run._ended``.
_SERIES = ("t", "clients", "arrivals", "concurrency", "queue", "desired", "ready", "starting")
_ENDED = ("at", "latency_s", "ttft_s", "output_tokens", "status")


def simulate(
    scaling: Scaling,
    traffic: Traffic,
    server: SimulatedServer,
    *,
    environment: Environment | None = None,
    duration_s: float | None = None,
    settling: Sequence[tuple[int, int]] = (),
    seed: int = 0,
) -> SimulationResult:
    """Run one revision under traffic.

    Args:
        scaling: the settings of the KPA, from ``parse_spec``, or another autoscaler, from
            ``autoscalers.scaling_by``.
        traffic: ``OpenLoop`` or ``ClosedLoop``.
        server: what runs in a pod, ``VllmServer`` or ``FixedServer``.
        environment: the cluster; the default has enough GPUs.
        duration_s: how long; by default to a minute after the traffic's end.
        settling: (first, last) seconds that only bring pods and requests into their usual
            state; they are in no series and no figure, and the seconds after them follow on.
        seed: for load balancing.

    Raises:
        InvalidValue: a duration that is not positive or longer than a week.
    """
    duration = traffic.end_s + 60 if duration_s is None else duration_s
    if not 0 < duration <= MAX_SECONDS:
        raise InvalidValue("duration_s", duration, f"more than 0, at most {MAX_SECONDS} s")
    run = _Run(scaling, traffic, server, environment or Environment(), Random(seed))
    for start, end in settling:
        run.to(start)
        run.settle(end)
    run.to(math.ceil(duration))
    return run.result()


class _Run:
    """The state of one simulation: the event queue, and what each event does."""

    def __init__(
        self,
        scaling: Scaling,
        traffic: Traffic,
        server: SimulatedServer,
        environment: Environment,
        rng: Random,
    ) -> None:
        self._environment, self._gpus_each = environment, server.gpus
        self._events: list[tuple[float, int, Pod | int | None]] = []
        self._number = 0
        self._fleet = Fleet(
            server,
            gpus=environment.gpus,
            startup_s=environment.startup_s,
            drain_s=environment.drain_s,
            plan=self._push,
        )
        self._plane = DataPlane(
            self._fleet,
            container_concurrency=getattr(scaling, "container_concurrency", 0),
            timeout_s=environment.timeout_s,
            first_byte_s=environment.response_start_timeout_s,
            rng=rng,
            plan=self._plan_engine,
            done=self._done,
        )
        # Rows behind each other: a tuple for each would be work for the garbage collector.
        self._ended: list[float] = []
        self._series: list[int] = []
        self._arrived = self._second = self._settled_s = 0
        self._uncounted_gpu_s = 0.0
        self._connect(traffic)
        self._control = take_over(scaling, self._fleet, self._plane, environment)
        self._sample(0)

    def _connect(self, traffic: Traffic) -> None:
        self._arrivals = iter(traffic.arrivals) if isinstance(traffic, OpenLoop) else iter(())
        self._next_arrival = next(self._arrivals, _NEVER)
        self._clients = traffic if isinstance(traffic, ClosedLoop) else None
        self._wanted_clients = 0
        self._waiting_clients: set[int] = set()
        for at, _ in self._clients.schedule if self._clients else ():
            self._push(at, None)

    # Events

    def _push(self, at: float, what: Pod | int | None) -> None:
        self._number += 1
        heappush(self._events, (at, self._number, what))

    def _plan_engine(self, at: float, pod: Pod) -> None:
        if at != pod.next_at:
            pod.next_at = at
            if at < math.inf:
                self._number += 1
                heappush(self._events, (at, self._number, pod))

    def _pod_event(self, now: float, pod: Pod) -> None:
        if pod.next_at <= now:
            pod.next_at = math.inf
            self._plane.finish(now, pod)
        if pod.phase is not Phase.READY and self._fleet.proceed(now, pod):
            self._control.pod_ready(now)
            self._plane.drain_queue(now)

    def _clients_change(self, now: float) -> None:
        assert self._clients is not None
        before, self._wanted_clients = self._wanted_clients, self._clients.clients(now)
        for client in range(before, self._wanted_clients):
            if client not in self._waiting_clients:
                self._client_sends(now, client)

    def _client_sends(self, now: float, client: int) -> None:
        self._waiting_clients.discard(client)
        if client < self._wanted_clients:
            self._waiting_clients.add(client)
            assert self._clients is not None
            lengths = self._clients.lengths
            self._enter(SimulatedRequest(now, lengths.prompt_tokens, lengths.output_tokens, client))

    def _enter(self, request: SimulatedRequest) -> None:
        self._arrived += 1
        if self._plane.enter(request.at, request):
            self._control.first_request(request.at)

    def _done(self, now: float, request: SimulatedRequest) -> None:
        at, first = request.at, request.first_at
        ttft = (first if first < now else now) - at
        self._ended += (at - self._settled_s, now - at, ttft, request.output_tokens, request.status)
        if len(self._ended) > _MAX_REQUESTS * len(_ENDED):
            rule = f"at most {_MAX_REQUESTS:,} requests are simulated"
            raise InvalidValue("traffic", f"more in {now:.0f} s", rule, "shorten it")
        if request.client != _NO_CLIENT:
            pause = 0.0 if request.status == 200 else _RETRY_S
            self._push(now + pause, request.client)

    # Time

    def settle(self, end: int) -> None:
        """Run until a second and forget what happened meanwhile, but not the state."""
        logs: list[list[Any]] = [self._ended, self._series, self._control.ticks]
        known, gpu_s = [len(log) for log in logs], self._gpu_seconds()
        start = self._second
        self.to(end)
        for log, length in zip(logs, known, strict=True):
            del log[length:]
        self._settled_s += end - start
        self._uncounted_gpu_s += self._gpu_seconds() - gpu_s

    def to(self, end: int) -> None:
        """Run until a second."""
        second, decided = self._second, len(self._control.ticks)
        plane, control = self._plane, self._control
        while second < end:
            second += 1
            now = float(second)
            self._until(now)
            if plane.in_flight:
                plane.expire(now)
            control.second(now)
            self._sample(second)
            if not plane.in_flight and self._fleet.empty:
                second = self._skip(second, end)
        self._second, ticks = end, control.ticks
        if past := self._settled_s:
            ticks[decided:] = [tick._replace(t=tick.t - past) for tick in ticks[decided:]]

    def _gpu_seconds(self) -> float:
        pods = self._fleet.gpu_seconds_until(float(self._second))
        return pods * self._gpus_each

    def _until(self, boundary: float) -> None:
        """Process all events before a second's end, in order of time."""
        events, arrival = self._events, self._next_arrival
        while (at := events[0][0] if events else math.inf) < boundary or arrival[0] < boundary:
            if arrival[0] <= at:
                self._enter(SimulatedRequest(*arrival, _NO_CLIENT))
                arrival = next(self._arrivals, _NEVER)
                continue
            what = heappop(events)[2]
            if isinstance(what, Pod):
                self._pod_event(at, what)
            elif what is None:
                self._clients_change(at)
            else:
                self._client_sends(at, what)
        self._next_arrival = arrival

    def _sample(self, second: int) -> None:
        fleet, plane = self._fleet, self._plane
        desired = self._control.desired
        self._series += (
            second - self._settled_s,
            self._wanted_clients,
            self._arrived,
            plane.in_flight,
            plane.waiting if plane.in_flight else 0,
            desired if desired > 0 else 0,
            len(fleet.ready),
            fleet.not_ready,
        )
        self._arrived = 0

    def _skip(self, second: int, end: int) -> int:
        """Skip seconds in which nothing can happen; return the last of them."""
        if not self._control.idle(second):
            return second
        soonest = min(self._events[0][0] if self._events else math.inf, self._next_arrival.at)
        last = end if soonest >= end else math.floor(soonest)
        if last <= second:
            return second
        at, *same = self._series[-len(_SERIES) :]
        for more in range(1, last - second + 1):
            self._series += (at + more, *same)
        return last

    def result(self) -> SimulationResult:
        """Return what happened so far."""
        return SimulationResult(
            **_columns(_SERIES, self._series),
            decisions=tuple(self._control.ticks),
            requests=Requests(**_columns(_ENDED, self._ended)),
            unfinished=self._plane.in_flight,
            gpu_seconds=self._gpu_seconds() - self._uncounted_gpu_s,
            price_per_gpu_hour=self._environment.price_per_gpu_hour,
        )


def _columns(names: Sequence[str], rows: list[Any]) -> dict[str, Any]:
    return {name: tuple(rows[first :: len(names)]) for first, name in enumerate(names)}

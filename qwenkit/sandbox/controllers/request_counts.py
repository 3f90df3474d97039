"""Requests in flight by revision, which the autoscaler samples once a second.

A request counts from its arrival, also while it waits for a first pod. As in Knative's activator,
the first request of an idle revision is reported at once and subtracted from the next report,
and a revision is dropped after one report without load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwenkit.sandbox.controllers.clock import Clock

Listener = Callable[[str, str], None]


@dataclass
class _Load:
    """One revision's requests since the last report."""

    since: float
    changed: float
    in_flight: int = 0
    busy: float = 0.0
    arrivals: int = 0
    reported: int = 0

    def advance(self, now: float) -> None:
        """Add the time that the present requests have spent in flight."""
        self.busy += self.in_flight * max(0.0, now - self.changed)
        self.changed = max(self.changed, now)


class Traffic:
    """Counts requests; not thread-safe, it belongs to one event loop.

    Args:
        clock: the sandbox's time; ``sample`` gets moments of it.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._loads: dict[tuple[str, str], _Load] = {}
        self._listeners: list[Listener] = []

    def on_first_request(self, listener: Listener) -> None:
        """Call ``listener(namespace, revision)`` when an idle revision gets a request."""
        self._listeners.append(listener)

    def enter(self, namespace: str, revision: str) -> None:
        """Count a request that has arrived."""
        now = self.clock.now()
        load = self._loads.get((namespace, revision))
        first = load is None
        if load is None:
            load = self._loads[namespace, revision] = _Load(now, now, reported=1)
        load.advance(now)
        load.in_flight += 1
        load.arrivals += 1
        if first:
            for listener in self._listeners:
                listener(namespace, revision)

    def leave(self, namespace: str, revision: str) -> None:
        """Count a request that was answered or given up."""
        load = self._loads.get((namespace, revision))
        if load is None or load.in_flight == 0:
            return
        load.advance(self.clock.now())
        load.in_flight -= 1

    def in_flight(self, namespace: str, revision: str) -> int:
        """Return the number of the revision's requests, waiting ones included."""
        load = self._loads.get((namespace, revision))
        return load.in_flight if load else 0

    def sample(self, namespace: str, revision: str, now: float) -> tuple[float, float] | None:
        """Return the average concurrency and the arrivals per second since the last sample.

        None: the revision is idle, and there is nothing to record.
        """
        load = self._loads.get((namespace, revision))
        if load is None:
            return None
        load.advance(now)
        period = now - load.since
        average = load.busy / period if period > 0 else float(load.in_flight)
        concurrency = max(average - load.reported, 0.0)
        arrivals = max(load.arrivals - load.reported, 0) / max(period, 1.0)
        if average == 0:
            del self._loads[namespace, revision]
        else:
            self._loads[namespace, revision] = _Load(now, now, load.in_flight)
        return concurrency, arrivals

"""When does the autoscaler measure and decide? Each second and every two, for each revision.

All arithmetic is in ``qwenkit.autoscaling``; this module only keeps time and counts pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from qwenkit.autoscaling.annotations import ScalingSpec
from qwenkit.autoscaling.kpa import TICK_S, Decider, Decision
from qwenkit.sandbox.controllers.object_fields import Key
from qwenkit.sandbox.controllers.request_counts import Traffic

_SAMPLE_S = 1.0


@dataclass
class _ScaledRevision:
    """A revision that is being scaled."""

    spec: ScalingSpec
    decider: Decider
    next_tick: float
    reachable: bool


class Autoscaler:
    """Runs the deciders of all revisions.

    Args:
        traffic: where the load is measured; its clock is the autoscaler's.
        ready: counts the ready pods of a revision.
        notify: called when a decision is worth a reconciliation.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        ready: Callable[[Key], int],
        notify: Callable[[Key], None],
    ) -> None:
        self._clock, self._traffic = traffic.clock, traffic
        self._ready, self._notify = ready, notify
        self._targets: dict[Key, _ScaledRevision] = {}
        self.last: dict[Key, Decision] = {}
        traffic.on_first_request(self._first_request)

    def follow(self, key: Key, spec: ScalingSpec, *, reachable: bool) -> Decider:
        """Return the decider of a revision, a new one if its settings changed."""
        target = self._targets.get(key)
        if target is None or target.spec != spec:
            now = self._clock.now()
            decider = Decider(spec, ready=self._ready(key), now=now)
            target = self._targets[key] = _ScaledRevision(spec, decider, now + TICK_S, reachable)
        target.reachable = reachable
        return target.decider

    def forget(self, key: Key) -> None:
        """Stop scaling a revision."""
        self._targets.pop(key, None)
        self.last.pop(key, None)

    async def run(self) -> None:
        """Sample and decide until cancelled."""
        due = self._clock.now() + _SAMPLE_S
        while True:
            await asyncio.sleep(self._clock.real(max(0.0, due - self._clock.now())))
            now = self._clock.now()
            for key in list(self._targets):
                self._second(key, now)
            due += _SAMPLE_S
            if due < now:  # the machine was busy or asleep: missed seconds are not made up for
                due = now + _SAMPLE_S

    def _second(self, key: Key, now: float) -> None:
        target = self._targets[key]
        sample = self._traffic.sample(*key, now)
        if sample is not None:
            self._record(key, target, now, *sample)
        elif target.spec.target_burst_capacity != -1 and self._ready(key):
            target.decider.record(now, 0.0, 0.0)  # an idle pod is scraped and reports zeros
        if now >= target.next_tick:
            target.next_tick += TICK_S * (1 + (now - target.next_tick) // TICK_S)
            self._decide(key, target, now)

    def _first_request(self, namespace: str, revision: str) -> None:
        key = (namespace, revision)
        if target := self._targets.get(key):
            self._record(key, target, self._clock.now(), 1.0, 1.0)

    def _record(
        self, key: Key, target: _ScaledRevision, now: float, concurrency: float, rps: float
    ) -> None:
        target.decider.record(now, concurrency, rps)
        if target.decider.wants_poke(concurrency):
            self._decide(key, target, now)

    def _decide(self, key: Key, target: _ScaledRevision, now: float) -> None:
        decision = target.decider.decide(now, self._ready(key), target.reachable)
        if decision is not None:
            self.last[key] = decision
            if decision.notify:
                self._notify(key)

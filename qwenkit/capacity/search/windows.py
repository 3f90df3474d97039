"""Long traffic for a search: each setting is tried on windows that stand for the whole.

The traffic is cut into slots of equal length, in three classes by how many requests they have.
Kept are the middle one of the quiet and of the usual class, and of the busy class the slot with the
busiest minute: so the figures tend to be worse than those of the whole. Before each window, some
minutes of its own past let the replicas settle; they count in nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qwenkit.capacity.control import Scaling
from qwenkit.capacity.environment import Environment
from qwenkit.capacity.result import SimulationResult
from qwenkit.capacity.server import SimulatedServer
from qwenkit.capacity.simulate import MAX_SECONDS, simulate
from qwenkit.capacity.traffic import Arrival, ClosedLoop, OpenLoop, Traffic

# A unit is a request or two seconds: about 12 µs of a core. More than the first is replayed in
# windows, which have about as much as the second.
MOST_WORK, _WINDOWS_WORK = 8_000, 5_000
_CLASSES = 3
_MINUTE, _SHORTEST_MIN = 60, 5
_SETTLING_S = 180.0  # beyond a cold start: two windows of the autoscaler, and its panic


@dataclass(frozen=True, slots=True)
class Replay:
    """Traffic as a search runs it. ``settling`` are its (first, last) seconds that do not count.

    ``basis`` says in words which part of the whole it is; empty if it is the whole, which is much
    work where the traffic is too short for windows.
    """

    traffic: Traffic
    is_much: bool = False
    settling: tuple[tuple[int, int], ...] = ()
    seconds: int | None = None
    basis: str = ""

    def run(
        self,
        scaling: Scaling,
        server: SimulatedServer,
        environment: Environment,
        *,
        duration_s: float | None = None,
        seed: int = 0,
    ) -> SimulationResult:
        """Simulate it, the whole until ``duration_s``; errors as of ``simulate``."""
        return simulate(
            scaling,
            self.traffic,
            server,
            environment=environment,
            duration_s=self.seconds or duration_s,
            settling=self.settling,
            seed=seed,
        )


def replay(
    traffic: Traffic, server: SimulatedServer, startup_s: float, *, most_work: float = MOST_WORK
) -> Replay:
    """Choose how to run traffic many times: whole if that is little work, else in windows."""
    if traffic.end_s > MAX_SECONDS:  # the simulation refuses it
        return Replay(traffic)
    minutes = _requests_by_minute(traffic, server)
    work = sum(minutes) + len(minutes) * _MINUTE / 2
    settling = math.ceil((startup_s + _SETTLING_S) / _MINUTE)
    room = len(minutes) * _WINDOWS_WORK / max(work, 1) / _CLASSES - settling
    size = max(_SHORTEST_MIN, settling, round(room))
    slots = [minutes[at : at + size] for at in range(0, len(minutes) - size + 1, size)]
    if work <= most_work or len(slots) < 2 * _CLASSES:
        return Replay(traffic, work > most_work)
    ordered = sorted(range(len(slots)), key=lambda slot: sum(slots[slot]))
    third = len(slots) // _CLASSES
    busiest = max(ordered[2 * third :], key=lambda slot: max(slots[slot]))
    parts, at = [], 0
    for slot in sorted((ordered[third // 2], ordered[third + third // 2], busiest)):
        before = min(settling, slot * size)
        parts.append(((slot * size - before) * _MINUTE, at, at + before * _MINUTE))
        at += (before + size) * _MINUTE
    basis = (
        f"searched on {_CLASSES} windows of {size} minutes of the traffic: a quiet one, a usual "
        "one and the one with the busiest minute; the figures are theirs"
    )
    settled = tuple((start, end) for _, start, end in parts)
    return Replay(_stitched(traffic, parts, at), False, settled, at, basis)


def _requests_by_minute(traffic: Traffic, server: SimulatedServer) -> list[float]:
    starts = range(0, math.ceil(traffic.end_s + 1), _MINUTE)
    if isinstance(traffic, OpenLoop):
        places = [bisect_left(traffic.arrivals, (at,)) for at in (*starts, math.inf)]
        return [end - start for start, end in pairwise(places)]
    _, alone_s = server.alone(traffic.lengths)
    return [traffic.clients(at) * _MINUTE / alone_s for at in starts]


def _stitched(traffic: Traffic, parts: Sequence[tuple[int, int, int]], end: int) -> Traffic:
    """Put parts, each from (second of the traffic, second in the result), behind each other."""
    arrivals, schedule = list[Arrival](), list[tuple[float, int]]()
    for (source, at, _), (_, until, _) in zip(parts, [*parts[1:], (0, end, 0)], strict=True):
        last = source + until - at
        if isinstance(traffic, ClosedLoop):
            schedule.append((at, traffic.clients(source)))
            later = (entry for entry in traffic.schedule if source < entry[0] < last)
            schedule += [(at + start - source, count) for start, count in later]
        else:
            places = (bisect_left(traffic.arrivals, (second,)) for second in (source, last))
            chosen = traffic.arrivals[slice(*places)]
            arrivals += [each._replace(at=at + each.at - source) for each in chosen]
    return OpenLoop(tuple(arrivals)) if arrivals else ClosedLoop(tuple(schedule), traffic.lengths)

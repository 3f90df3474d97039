"""Long traffic for a search: each setting is tried on windows that stand for the whole.

Of equal slots of the traffic, by how many requests they have, one of the quiet third and a usual
one are kept, and a window as long that begins before the rise to the busiest minute: new replicas
come late there. Before each window, some minutes of its own past let the replicas settle; they
count in nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qwenkit.capacity.simulation.control import Scaling
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.result import SimulationResult
from qwenkit.capacity.simulation.server import SimulatedServer
from qwenkit.capacity.simulation.simulate import MAX_SECONDS, simulate
from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, OpenLoop, Traffic

# A unit is a request or two seconds: about 12 µs of a core. More than the first is replayed in
# windows, each of about as much as the second.
MOST_WORK, _WINDOW_WORK = 8_000, 1_500
PARTS = 3  # of the traffic, where more windows are worth their time
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
    traffic: Traffic,
    server: SimulatedServer,
    startup_s: float,
    *,
    most_work: float = MOST_WORK,
    parts: int = 1,
) -> Replay:
    """Choose how to run traffic many times: whole if that is little work, else in windows.

    There are three for each of the ``parts`` into which the traffic is cut.
    """
    if traffic.end_s > MAX_SECONDS:  # the simulation refuses it
        return Replay(traffic)
    minutes = _requests_by_minute(traffic, server)
    work = sum(minutes) + len(minutes) * _MINUTE / 2
    settling = math.ceil((startup_s + _SETTLING_S) / _MINUTE)
    room = len(minutes) * _WINDOW_WORK / max(work, 1) - settling
    size = max(_SHORTEST_MIN, settling, round(room))
    if work <= most_work or len(minutes) < 6 * size * parts:
        return Replay(traffic, work > most_work)
    each = len(minutes) // parts
    starts = [at for n in range(parts) for at in _starts(minutes, size, n * each, n * each + each)]
    placed, at = [], 0
    for start in sorted(starts):
        before = min(settling, start)
        placed.append(((start - before) * _MINUTE, at, at + before * _MINUTE))
        at += (before + size) * _MINUTE
    basis = (
        f"simulated on {len(starts)} windows of {size} minutes of the traffic: quiet ones, usual "
        "ones and rises to the busiest minute; the figures are theirs"
    )
    settled = tuple((start, end) for _, start, end in placed)
    return Replay(_stitched(traffic, placed, at), False, settled, at, basis)


def _starts(minutes: Sequence[float], size: int, first: int, end: int) -> tuple[int, int, int]:
    """Return where a quiet window, a usual one and the rise to the busiest minute begin."""
    slots = range(first, end - size + 1, size)
    ordered = sorted(slots, key=lambda at: sum(minutes[at : at + size]))
    busiest = max(range(first, end), key=minutes.__getitem__)
    rise = min(range(busiest, max(first - 1, busiest - size), -1), key=minutes.__getitem__)
    return ordered[len(ordered) // 6], ordered[len(ordered) // 2], min(end - size, rise)


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

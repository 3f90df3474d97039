"""What a vLLM server's log says about its start, and when.

The lines are those of vLLM 0.4.1, of the V0 engine of 0.5 to 0.8, and of the V1 engine up to 0.32.
Where a version words one otherwise, that step alone is not told apart from the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from qwenkit.capacity.loading import COMPILE, ENGINE, GRAPHS, KV, SERVER_UP, WARM_UP, WEIGHTS
from qwenkit.cluster.kinds import moment

# Time stamps of Kubernetes (``timestamps=true``), and vLLM's own in the container's zone.
_KUBERNETES = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) ")
_VLLM = re.compile(r"\b(\d\d-\d\d \d\d:\d\d:\d\d)\b")
_ZONE_S = 900.0


class StartPhase(NamedTuple):
    """A part of the start, what the server does after it, and the line with which it ends."""

    name: str
    then: str
    ends: str
    always: bool = True


_LOADS = r"Initializing an? (V\d )?LLM engine|Starting to load model|Loading model from scratch"
_SIZED = r"Available KV cache memory|Memory profiling takes|# \w+ blocks:|KV cache size:"
_SERVES = r"Application startup complete|Uvicorn running on|Starting vLLM (API )?server"
_COMPILED = r"torch\.compile (takes|took) [\d.]+ s in total"
PHASES = (
    StartPhase(ENGINE, "reading weights", _LOADS),
    StartPhase(WEIGHTS, "profiling the KV cache", r"(Model loading|Loading .*weights) took"),
    StartPhase(COMPILE, "profiling the KV cache", _COMPILED, always=False),
    StartPhase(KV, "warming up", _SIZED),
    StartPhase(GRAPHS, "starting to serve", "Graph capturing finished", always=False),
    StartPhase(WARM_UP, "starting to serve", r"init engine \(", always=False),
    StartPhase(SERVER_UP, "listening", _SERVES),
)


def phase_ends(log: str, started: datetime, until: datetime | None = None) -> dict[str, datetime]:
    """Return when each phase ended that the log names; lines after ``until`` do not count.

    ``started`` is the container's start: vLLM's own stamps have neither year nor zone.
    """
    found: dict[str, datetime] = {}
    for at, text in _stamped(log, started):
        for phase in PHASES if until is None or at <= until else ():
            if re.search(phase.ends, text):
                # The last line counts, of several workers or models; the KV cache's size comes
                # again with the newest versions.
                found[phase.name] = found.get(KV, at) if phase.name == KV else at
    return found


def doing(log: str) -> str:
    """Return what the server does at the end of a log; empty if the log says nothing known."""
    ended = phase_ends(log, datetime.now(UTC))
    last = [phase for phase in PHASES if phase.name in ended]
    if last:
        return f"vLLM: {last[-1].then}"
    return "vLLM: starting" if "vLLM" in log else ""


def _stamped(log: str, started: datetime) -> Iterator[tuple[datetime, str]]:
    """Yield each line with its time; one without a stamp has that of the line before."""
    at, zone = started, None
    for line in log.splitlines():
        with suppress(ValueError):  # another program's line that only looks like a stamp
            if stamp := _KUBERNETES.match(line):
                at = moment(stamp[1])
            elif stamp := _VLLM.search(line):
                own = datetime.fromisoformat(f"{started.year}-{stamp[1]}+00:00")
                if zone is None:
                    ahead = (own - started).total_seconds()
                    zone = timedelta(seconds=round(ahead / _ZONE_S) * _ZONE_S)
                at = own - zone
        yield at, line

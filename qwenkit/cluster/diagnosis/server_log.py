"""What a vLLM server's log says about its start, and when.

The lines are those of vLLM 0.4.1, of the V0 engine of 0.5 to 0.8, and of the V1 engine up to 0.32.
Where a version words one otherwise, that step alone is not told apart from the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from qwenkit.cluster.kinds import moment

# Time stamps of Kubernetes (``timestamps=true``), and vLLM's own in the container's zone.
_KUBERNETES = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) ")
_VLLM = re.compile(r"\b(\d\d-\d\d \d\d:\d\d:\d\d)\b")
_ZONE_S = 900.0


@dataclass(frozen=True)
class StartPhase:
    """A part of the start. It ends where the first of ``ends`` that occurs stands last."""

    name: str
    then: str
    """What the server does after it, for a person who waits."""
    ends: tuple[str, ...]
    always: bool = True


PHASES = (
    StartPhase(
        "engine start",
        "reading weights",
        (
            r"Starting to load model|Loading model from scratch",
            r"Initializing an? (V\d )?LLM engine",
        ),
    ),
    StartPhase(
        "weights read",
        "profiling the KV cache",
        (r"(Model loading|Loading model weights) took", r"Loading weights took"),
    ),
    StartPhase(
        "compile",
        "profiling the KV cache",
        (r"torch\.compile (takes|took) [\d.]+ s in total",),
        always=False,
    ),
    StartPhase(
        "KV profiling",
        "warming up",
        (r"Available KV cache memory|Memory profiling takes|# \w+ blocks:", r"KV cache size:"),
    ),
    StartPhase("graph capture", "starting to serve", (r"Graph capturing finished",), always=False),
    StartPhase("warm-up", "starting to serve", (r"init engine \(",), always=False),
    StartPhase(
        "server up",
        "listening",
        (
            r"Application startup complete|Uvicorn running on",
            r"Starting vLLM (API )?server",
        ),
    ),
)
_FIRST = PHASES[0].name  # each worker and a draft model say that they begin to load


def phase_ends(log: str, started: datetime, until: datetime | None = None) -> dict[str, datetime]:
    """Return when each phase ended that the log names; lines after ``until`` do not count.

    ``started`` is the container's start: vLLM's own stamps have neither year nor zone.
    """
    lines = [(at, text) for at, text in _stamped(log, started) if until is None or at <= until]
    found: dict[str, datetime] = {}
    for phase in PHASES:
        for pattern in phase.ends:
            times = [at for at, text in lines if re.search(pattern, text)]
            if times:
                found[phase.name] = times[0] if phase.name == _FIRST else times[-1]
                break
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

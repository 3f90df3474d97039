"""Compare this model's scheduling with a recording of vLLM's own scheduler.

    python -m qwenkit.capacity.compare_steps FILE.json[.gz]

Exit 0 if all steps are equal, 1 if not, 2 for a file that cannot be used.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenkit.autoscaling.recording import read_recording, run_on_recording, tell_equal
from qwenkit.capacity.file_fields import FileFields
from qwenkit.capacity.scheduler import V1, ScheduledSequence, SchedulerLimits, scheduler_of
from qwenkit.errors import InvalidValue

_FIELDS = ("scheduled", "running", "waiting", "free blocks", "preempted")


def replay(trace: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield for every recorded step of a trace the fields that differ, one per text.

    Raises:
        InvalidValue: a release or a limit that is not modelled.
    """
    version = _version(trace["version"])
    scheduler = scheduler_of(version, _limits(FileFields(trace["config"], "config"), version))
    arrivals = deque(trace["arrivals"])
    for recorded in trace["steps"]:
        at, scheduled, *others = recorded
        while arrivals and arrivals[0][0] <= at:
            _, name, prompt, answer = arrivals.popleft()
            if not isinstance(prompt, int) or prompt < 1:
                raise InvalidValue("prompt", prompt, "a whole number, at least 1")
            scheduler.add(ScheduledSequence(name, prompt, answer))
        step = scheduler.schedule()
        pairs = [[sequence.name, tokens] for sequence, tokens in scheduler.scheduled(step)]
        if version >= V1:  # whose order means nothing
            scheduled, pairs = sorted(scheduled), sorted(pairs)
        computed = (
            pairs,
            len(scheduler.running),
            len(scheduler.waiting),
            scheduler.free_blocks,
            [sequence.name for sequence in step.preempted],
        )
        yield [
            f"step {at} {field}: recorded {was!r}, computed {value!r}"
            for field, was, value in zip(_FIELDS, (scheduled, *others), computed, strict=True)
            if was != value
        ]


def _version(text: Any) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)", str(text))
    if not found:
        raise InvalidValue("version", text, "a release of vLLM, as 0.4.1")
    return tuple(map(int, found.groups()))


def _limits(config: FileFields, version: tuple[int, ...]) -> SchedulerLimits:
    chunked = config.get("chunked_prefill", version >= V1)
    unmodelled = ["prefix_caching", "long_prefill_token_threshold"]
    for name in unmodelled + ["chunked_prefill"] * (version < V1):
        if config.values.get(name):
            raise config.wrong(name, "false: it is not modelled")
    limits: SchedulerLimits = config.make(SchedulerLimits, chunked_prefill=chunked)
    return limits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_on_recording("qwenkit.capacity.compare_steps", _steps, arguments)


def _steps(path: Path) -> int:
    trace = read_recording(path)
    if not isinstance(trace, dict) or not trace.get("steps"):
        raise InvalidValue("recording", str(path), "one trace: version, config, arrivals, steps")
    return tell_equal("steps", replay(trace))


if __name__ == "__main__":
    sys.exit(main())

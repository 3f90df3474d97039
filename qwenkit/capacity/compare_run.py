"""Compare the scaling of a simulation with a recorded cluster run.

    python -m qwenkit.capacity.compare_run FILE.json[.gz]

A run names its traffic as ``schedule`` (closed loop: ``[from second, clients]``) or as
``arrivals`` (open loop: seconds at which requests were sent). Exit 0 if the ready replicas agree
in at least 90 % of the seconds, 1 if not, 2 for a file that cannot be used.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.autoscaling.recording import read_recording, run_on_recording
from qwenkit.capacity.simulation.environment import Environment
from qwenkit.capacity.simulation.server import FixedServer
from qwenkit.capacity.simulation.simulate import simulate
from qwenkit.capacity.simulation.traffic import Arrival, ClosedLoop, OpenLoop, Traffic
from qwenkit.errors import InvalidValue

_ENOUGH = 0.9
SLACK_S = 2.0


def simulate_run(recording: Mapping[str, Any]) -> tuple[float, float]:
    """Simulate a recorded cluster run; return the shares of seconds predicted correctly.

    Only the run's settings, traffic, service and start-up times are used. The first share is of
    the ready replicas, the second of the desired scale.
    """
    samples = recording["samples"]
    spec = parse_spec(
        recording["annotations"],
        container_concurrency=recording["container_concurrency"],
        config=recording["config_autoscaler"],
        strict=False,
    )
    result = simulate(
        spec,
        _traffic(recording),
        FixedServer(recording["service_seconds"]),
        environment=Environment(
            gpus=recording["gpus"],
            startup_s=recording["startup_seconds"],
            drain_s=recording["drain_seconds"],
            initial_ready=recording["initial_ready"],
            active_for_s=recording.get("active_for_seconds") or 0.0,
        ),
        duration_s=math.ceil(samples[-1][0]) + 1,
    )
    ready = [(sample[0], sample[5]) for sample in samples]
    desired = [(sample[0], sample[2]) for sample in samples]
    return agreement(result.ready, ready), agreement(result.desired, desired)


def _traffic(recording: Mapping[str, Any]) -> Traffic:
    if recording.get("arrivals"):
        return OpenLoop(tuple(Arrival(float(at), 1, 1) for at in sorted(recording["arrivals"])))
    return ClosedLoop(tuple((float(at), int(clients)) for at, clients in recording["schedule"]))


def agreement(predicted: Sequence[int], samples: Sequence[tuple[float, int]]) -> float:
    """Return the share of seconds whose prediction equals a sample at most 2 s away."""
    hits = _hits(predicted, samples)
    return sum(hits) / len(hits) if hits else 0.0


def first_parting(predicted: Sequence[int], samples: Sequence[tuple[float, int]]) -> int | None:
    """Return the first second whose prediction no sample near it equals; None if there is none."""
    hits = _hits(predicted, samples)
    return None if all(hits) else hits.index(False) + 1


def _hits(predicted: Sequence[int], samples: Sequence[tuple[float, int]]) -> list[bool]:
    """Return for each second from 1 to the last sample whether it was predicted."""
    last = math.floor(samples[-1][0]) if samples else 0
    return [
        any(value == predicted[second] for at, value in samples if abs(at - second) <= SLACK_S)
        for second in range(1, last + 1)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_on_recording("qwenkit.capacity.compare_run", _compare, arguments)


def _compare(path: Path) -> int:
    recording = read_recording(path)
    if not isinstance(recording, dict):
        raise InvalidValue("recording", str(path), "one run: a mapping with samples")
    ready, desired = simulate_run(recording)
    print(f"ready replicas: {100 * ready:.1f} % of seconds equal")
    print(f"desired: {100 * desired:.1f} %")
    return 0 if ready >= _ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())

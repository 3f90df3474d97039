"""Replay recordings of the real autoscaler against this model.

    python -m qwenkit.autoscaling.replay FILE.json[.gz]        decision for decision
    python -m qwenkit.autoscaling.replay --run FILE.json[.gz]  a recorded cluster run, simulated

Exit 0 if all decisions are equal (for a run: ready replicas in at least 90 % of the seconds),
1 if not, 2 for a file that cannot be used.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import Decider
from qwenkit.autoscaling.scale_to_zero import apply_bounds
from qwenkit.capacity.environment import Environment
from qwenkit.capacity.fleet import Startup
from qwenkit.capacity.server import FixedServer
from qwenkit.capacity.simulate import simulate
from qwenkit.capacity.traffic import ClosedLoop
from qwenkit.errors import InvalidValue, NotFound, QwenkitError

_TOLERANCE = 1e-9
_ENOUGH = 0.9
_SLACK_S = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one decision that is not what was recorded."""

    scenario: str
    t: float
    field: str
    recorded: Any
    computed: Any

    def __str__(self) -> str:
        where = f"{self.scenario} t={self.t:g}"
        return f"{where} {self.field}: recorded {self.recorded!r}, computed {self.computed!r}"


def replay(scenario: Mapping[str, Any]) -> Iterator[list[Difference]]:
    """Yield for every recorded tick of a scenario the list of fields that differ."""
    name = str(scenario["name"])
    spec = parse_spec(
        scenario["annotations"],
        container_concurrency=scenario["container_concurrency"],
        config=scenario["config_autoscaler"],
        strict=False,  # the recorder drove the autoscaler, not the webhook
    )
    resolved = _resolved(name, scenario, spec)
    decider = Decider(spec, ready=scenario["initial_ready"], now=0.0)
    reachable = not scenario["unreachable"]
    second = 0
    for tick in scenario["ticks"]:
        while second <= tick["t"]:
            _record(decider, scenario, second)
            second += 1
        differences = _compare(name, decider, spec, tick, reachable)
        yield resolved + differences
        resolved = []


def _record(decider: Decider, scenario: Mapping[str, Any], second: int) -> None:
    values = [
        column[second] if second < len(column) else None
        for column in (scenario["concurrency"], scenario["rps"])
    ]
    if values != [None, None]:
        decider.record(second, values[0] or 0.0, values[1] or 0.0)


def _resolved(name: str, scenario: Mapping[str, Any], spec: ScalingSpec) -> list[Difference]:
    pairs = {
        "target_value": spec.target,
        "total_value": spec.total,
        "stable_window_s": spec.stable_window_s,
        "panic_window_s": spec.panic_window_s,
        "max_scale": spec.max_scale,
    }
    return list(_unequal(name, -1.0, scenario, pairs))


def _compare(
    name: str, decider: Decider, spec: ScalingSpec, tick: Mapping[str, Any], reachable: bool
) -> list[Difference]:
    decision = decider.decide(tick["t"] + 0.5, tick["ready"], reachable)
    if decision is None or not tick["valid"]:
        return list(_unequal(name, tick["t"], tick, {"valid": decision is not None}))
    minimum = spec.min_scale if reachable else 0
    computed = {
        "stable": decision.stable,
        "panic": decision.panic,
        "desired": decision.desired,
        "bounded": apply_bounds(decision.desired, minimum, spec.max_scale),
        "ebc": decision.excess_burst_capacity,
    }
    return list(_unequal(name, tick["t"], tick, computed))


def _unequal(
    name: str, t: float, recorded: Mapping[str, Any], computed: Mapping[str, Any]
) -> Iterator[Difference]:
    for field, value in computed.items():
        if field in recorded and not math.isclose(
            recorded[field], value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE
        ):
            yield Difference(name, t, field, recorded[field], value)


def load(path: Path) -> Any:
    """Read JSON, gzipped or not.

    Raises:
        NotFound: there is no such file.
        InvalidValue: it is not JSON.
    """
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except OSError as error:
        raise NotFound(f"{path} cannot be read", str(error)) from error
    except (ValueError, EOFError) as error:
        raise InvalidValue("recording", str(path), f"JSON, gzipped or not: {error}") from error


def replay_file(path: Path) -> tuple[int, int, list[Difference]]:
    """Return decisions, equal decisions, and the fields of the first that differs."""
    scenarios = load(path)
    if not isinstance(scenarios, list) or not scenarios:
        raise InvalidValue("recording", str(path), "a list of scenarios", "a run needs --run")
    total = equal = 0
    first: list[Difference] = []
    for scenario in scenarios:
        for differences in replay(scenario):
            total += 1
            equal += not differences
            first = first or differences
    return total, equal, first


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m qwenkit.autoscaling.replay")
    parser.add_argument("file", type=Path, help="recording, .json or .json.gz")
    parser.add_argument("--run", action="store_true", help="the file is a recorded cluster run")
    options = parser.parse_args(arguments)
    try:
        return _run(options.file) if options.run else _decisions(options.file)
    except QwenkitError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyError, TypeError) as error:
        print(f"{options.file} is not such a recording: {error!r}", file=sys.stderr)
        return 2


def _decisions(path: Path) -> int:
    total, equal, first = replay_file(path)
    for difference in first:
        print(difference)
    print(f"decisions: {equal}/{total} equal")
    return 0 if total == equal else 1


def simulate_run(recording: Mapping[str, Any]) -> tuple[float, float]:
    """Simulate a recorded cluster run; return the shares of seconds in which the prediction holds.

    Only the run's settings, schedule, service and start-up times are used. The first share is of
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
        ClosedLoop(tuple((float(at), int(clients)) for at, clients in recording["schedule"])),
        FixedServer(recording["service_seconds"]),
        environment=Environment(
            gpus=recording["gpus"],
            startup=Startup(
                schedule_s=0.0, mount_s=0.0, load_s=recording["startup_seconds"], ready_s=0.0
            ),
            drain_s=recording["drain_seconds"],
            initial_ready=recording["initial_ready"],
            active_for_s=recording.get("active_for_seconds") or 0.0,
        ),
        duration_s=math.ceil(samples[-1][0]) + 1,
    )
    ready = [(sample[0], sample[5]) for sample in samples]
    desired = [(sample[0], sample[2]) for sample in samples]
    return _share(result.ready, ready), _share(result.desired, desired)


def _share(predicted: Sequence[int], samples: Sequence[tuple[float, int]]) -> float:
    """Return the share of whole seconds whose prediction occurs within 2 s in the samples."""
    seconds = range(1, math.floor(samples[-1][0]) + 1)
    hits = sum(
        any(value == predicted[second] for at, value in samples if abs(at - second) <= _SLACK_S)
        for second in seconds
    )
    return hits / len(seconds)


def _run(path: Path) -> int:
    recording = load(path)
    if not isinstance(recording, dict):
        raise InvalidValue("recording", str(path), "one run", "decisions need no --run")
    ready, desired = simulate_run(recording)
    print(f"ready replicas: {100 * ready:.1f} % of seconds equal")
    print(f"desired: {100 * desired:.1f} %")
    return 0 if ready >= _ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())

"""Compare this model's decisions with recordings of the real autoscaler.

    python -m qwenkit.autoscaling.replay FILE.json[.gz]

Exit 0 if all decisions are equal, 1 if not, 2 for a file that cannot be used.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import Decider
from qwenkit.autoscaling.recording import read_recording, run_on_recording, tell_equal
from qwenkit.autoscaling.scale_to_zero import apply_bounds
from qwenkit.errors import InvalidValue

_TOLERANCE = 1e-9
_MOST_SECONDS = 7 * 86_400


def replay(scenario: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield for every recorded tick of a scenario the fields that differ, one per text."""
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
        if not tick["t"] <= _MOST_SECONDS:
            raise InvalidValue("t", tick["t"], f"at most {_MOST_SECONDS} s")
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


def _resolved(name: str, scenario: Mapping[str, Any], spec: ScalingSpec) -> list[str]:
    pairs = {
        "target_value": spec.target,
        "total_value": spec.total,
        "stable_window_s": spec.stable_window_s,
        "panic_window_s": spec.panic_window_s,
        "max_scale": spec.max_scale,
    }
    return _unequal(f"{name} t=-1", scenario, pairs)


def _compare(
    name: str, decider: Decider, spec: ScalingSpec, tick: Mapping[str, Any], reachable: bool
) -> list[str]:
    where = f"{name} t={tick['t']:g}"
    decision = decider.decide(tick["t"] + 0.5, tick["ready"], reachable)
    if decision is None or not tick["valid"]:
        return _unequal(where, tick, {"valid": decision is not None})
    minimum = spec.min_scale if reachable else 0
    computed = {
        "stable": decision.stable,
        "panic": decision.panic,
        "desired": decision.desired,
        "bounded": apply_bounds(decision.desired, minimum, spec.max_scale),
        "ebc": decision.excess_burst_capacity,
    }
    return _unequal(where, tick, computed)


def _unequal(where: str, recorded: Mapping[str, Any], computed: Mapping[str, Any]) -> list[str]:
    return [
        f"{where} {field}: recorded {recorded[field]!r}, computed {value!r}"
        for field, value in computed.items()
        if field in recorded
        and not math.isclose(recorded[field], value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_on_recording("qwenkit.autoscaling.replay", _decisions, arguments)


def _decisions(path: Path) -> int:
    scenarios = read_recording(path)
    if not isinstance(scenarios, list) or not scenarios:
        raise InvalidValue("recording", str(path), "a list of scenarios")
    return tell_equal("decisions", chain.from_iterable(map(replay, scenarios)))


if __name__ == "__main__":
    sys.exit(main())

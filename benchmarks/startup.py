"""How long does a person wait before anything happens: importing the library, asking for help.

    python benchmarks/startup.py [--rounds 10] [--json]

Prints JSON. Milliseconds of whole processes, median of the rounds. In each round every command runs
once, bare Python among them, so that a busy machine slows all of them alike. ``over_ms`` is what a
command takes longer than bare Python by the clock, ``cpu_over_ms`` in CPU time, which hardly knows
how busy it is. ``import typer`` is what no command can do without.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
GOALS_MS = {"import qwenkit": 10.0, "qwenkit --help": 150.0}
SCRIPT = Path(sys.executable).with_name("qwenkit")
BARE = "bare python"
COMMANDS = {
    BARE: [sys.executable, "-c", "pass"],
    "import qwenkit": [sys.executable, "-c", "import qwenkit"],
    "import typer": [sys.executable, "-c", "import typer"],
    "qwenkit --help": [str(SCRIPT), "--help"]
    if SCRIPT.exists()
    else [sys.executable, "-m", "qwenkit", "--help"],
}


def once(command: list[str]) -> tuple[float, float]:
    """Return how long a process takes and how much CPU time, in milliseconds."""
    there = os.environ | {"PYTHONPATH": str(ROOT)}
    begin, used = time.perf_counter(), cpu_s()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=there)
    return 1e3 * (time.perf_counter() - begin), 1e3 * (cpu_s() - used)


def cpu_s() -> float:
    """Return the CPU time of all processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main() -> int:
    """Measure and print JSON; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    rounds = parser.parse_args().rounds
    for command in COMMANDS.values():  # the first run compiles
        once(command)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            times[name].append(once(command))
    took, used = ({name: median(t[n] for t in times[name]) for name in times} for n in (0, 1))
    over, cpu = (
        {name: round(each[name] - each[BARE], 1) for name in COMMANDS if name != BARE}
        for each in (took, used)
    )
    report = {
        "benchmark": "startup",
        "python": platform.python_version(),
        "rounds": rounds,
        "bare_python_ms": round(took[BARE], 1),
        "over_ms": over,
        "cpu_over_ms": cpu,
        "goals_ms": GOALS_MS,
        "met": all(over[name] <= goal for name, goal in GOALS_MS.items()),
    }
    print(json.dumps(report, indent=2))
    return 0 if report["met"] else 1


if __name__ == "__main__":
    sys.exit(main())

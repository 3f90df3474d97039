"""How long does a person wait before anything happens: importing the library, asking for help.

    python benchmarks/startup.py [--rounds 10] [--json]

Prints JSON. Wall-clock milliseconds of whole processes, median of the rounds; in each round every
command runs once, bare Python among them, so that a busy machine slows all of them alike. ``over``
is what a command takes longer than bare Python. ``import typer`` is what no command can do without.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
GOALS_MS = {"import qwenkit": 10.0, "qwenkit --help": 150.0}
SCRIPT = Path(sys.executable).with_name("qwenkit")
COMMANDS = {
    "bare python": [sys.executable, "-c", "pass"],
    "import qwenkit": [sys.executable, "-c", "import qwenkit"],
    "import typer": [sys.executable, "-c", "import typer"],
    "qwenkit --help": [str(SCRIPT), "--help"]
    if SCRIPT.exists()
    else [sys.executable, "-m", "qwenkit", "--help"],
}


def once(command: list[str]) -> float:
    """Return how long a process takes, in milliseconds."""
    begin = time.perf_counter()
    there = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=there)
    return 1e3 * (time.perf_counter() - begin)


def main() -> int:
    """Measure and print JSON; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    rounds = parser.parse_args().rounds
    for command in COMMANDS.values():  # the first run compiles
        once(command)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            times[name].append(once(command))
    bare = median(times["bare python"])
    over = {name: round(median(times[name]) - bare, 1) for name in COMMANDS if "bare" not in name}
    report = {
        "benchmark": "startup",
        "python": platform.python_version(),
        "rounds": rounds,
        "bare_python_ms": round(bare, 1),
        "over_ms": over,
        "goals_ms": GOALS_MS,
        "met": all(over[name] <= goal for name, goal in GOALS_MS.items()),
    }
    print(json.dumps(report, indent=2))
    return 0 if report["met"] else 1


if __name__ == "__main__":
    sys.exit(main())

"""What is lost, and what stays behind, when a command is killed at any moment?

``.venv/bin/python tools/kills.py [--only run,deploy] [--times 20] [--courses 1] [--json]``: each
command gets SIGKILL at random moments, every second time with its whole process group. After each
kill the same command must end well, every object must equal its source, and a teardown with
``--delete-weights`` must leave nothing in cluster and bucket, as its audit says and as the
sandbox's own files show; and no process, temporary folder, held lock or id of a dead process may
stay. After the last kill a whole course must pass (``--courses N``: after the last N). Prints a
table; exit 1 if a row is bad. ``--seed`` repeats the moments of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from kills_place import (
    BUCKET,
    MARK,
    MODEL,
    PARAMS,
    PREFIX,
    TEARDOWN,
    UP,
    Place,
    Problems,
    equal_bytes,
    left,
    torn_down,
)


def course(place: Place) -> Problems:
    """Run the whole course in a sandbox of its own."""
    words = ("run", "-p", PARAMS, "--output", str(place.runs))
    done = place.run(*words, target=False)
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    good = done.returncode == 0 and "course: 9/9" in last
    return [] if good else [f"next course: exit {done.returncode}: {last}"]


def uploaded(place: Place) -> Problems:
    """Upload the model; every byte must be there."""
    return place.must(*_UPLOAD) or equal_bytes(place)


def deployed(place: Place) -> Problems:
    """Upload and deploy."""
    return uploaded(place) or place.must(*_DEPLOY)


def recovered(place: Place) -> Problems:
    """Deploy again, then tear down."""
    return place.must(*_DEPLOY) + torn_down(place)


def sandbox_again(place: Place) -> Problems:
    """End what a killed ``sandbox up`` or ``down`` left; a new one must take an upload."""
    found = place.down() + left(place)
    return found + (place.up() or uploaded(place)) + place.down()


_UPLOAD = ("upload", f"modelscope:{MODEL}", f"oss://{BUCKET}/{PREFIX}", "--json")
_DEPLOY = ("deploy", "--json", "--set", f"prefix={PREFIX}")
_RUN = ("run", "-p", PARAMS, "--output", "{runs}")


def only_up(place: Place) -> Problems:
    """Start a sandbox that holds nothing of ours."""
    return place.must(*UP, "--root", str(place.root), target=False)


def next_run(place: Place) -> Problems:
    """Run one notebook: a run sweeps what a killed one left."""
    return place.must(*_run_words(place), "--only", "00", target=False)


def torn_down_and_run(place: Place) -> Problems:
    """Tear down what a killed run left in the sandbox that runs, then as ``next_run``."""
    return torn_down(place) + next_run(place)


def nothing(_place: Place) -> Problems:
    """Prepare nothing."""
    return []


def _run_words(place: Place) -> list[str]:
    return [word.format(runs=place.runs) for word in _RUN]


@dataclass(frozen=True)
class Case:
    """A command to kill: what is done before, and after, each time.

    ``target``: it works against the sandbox that runs. ``longest``: it may be killed until about
    this second; for many kills, ``rehearsed``: until the seconds that it takes here.
    """

    words: tuple[str, ...]
    before: Callable[[Place], Problems]
    after: Callable[[Place], Problems]
    longest: float
    target: bool = True
    rehearsed: bool = True


CASES = {
    "upload": Case(_UPLOAD, nothing, lambda place: uploaded(place) + torn_down(place), 2),
    "deploy": Case(_DEPLOY, uploaded, recovered, 3),
    "teardown": Case(TEARDOWN, deployed, torn_down, 2),
    "run": Case(_RUN, nothing, next_run, 60, target=False, rehearsed=False),
    "run-there": Case(_RUN, nothing, torn_down_and_run, 60, rehearsed=False),
    "up": Case((*UP, "--root", "{root}"), nothing, sandbox_again, 1, target=False),
    "down": Case(("sandbox", "down", "--root", "{root}"), only_up, sandbox_again, 1, target=False),
}
_MANY = 5  # kills that are worth a rehearsal


@dataclass
class Row:
    """What came of the kills of one command."""

    command: str
    seed: int
    kills: int = 0
    good: int = 0
    courses: int = 0
    seconds: float = 0
    problems: list[str] = field(default_factory=list)


def killed(place: Place, case: Case, moment: float, *, group: bool) -> bool:
    """Start the command and kill it after some seconds; return False if it ended before."""
    words = [word.format(runs=place.runs, root=place.root) for word in case.words]
    process = place.start(*words, target=case.target)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL
    return False


def attack(name: str, times: int, courses: int, seed: int, say: Callable[[str], None]) -> Row:
    """Kill one command a number of times; say what happened after each."""
    case, row, rng = CASES[name], Row(name, seed), random.Random(f"{seed} {name}")
    began = time.monotonic()
    with place_for(name, case) as place:
        many = case.rehearsed and times >= _MANY
        longest = _rehearsed(place, case) if many else case.longest
        while row.kills < times:
            group, moment = row.kills % 2 == 0, rng.uniform(0.05, longest)
            problems = case.before(place)
            if not problems and not killed(place, case, moment, group=group):
                longest = max(0.5, longest * 0.9)
                _cleared(place, case)
                continue
            problems += case.after(place)
            row.kills += 1
            if row.kills > times - courses:
                row.courses += 1
                problems += course(place)
            problems += left(place)
            row.good += not problems
            what = f"{'group' if group else 'alone'} at {moment:.2f} s"
            row.problems += [f"{what}: {one}" for one in problems]
            say(f"{name} {row.kills}/{times}: {what}: {'; '.join(problems) or 'good'}")
    row.seconds = round(time.monotonic() - began, 1)
    return row


def _rehearsed(place: Place, case: Case) -> float:
    """Run the command once without a kill; return its seconds."""
    problems = case.before(place)
    words = [word.format(runs=place.runs, root=place.root) for word in case.words]
    began = time.monotonic()
    problems += place.must(*words, target=case.target)
    seconds = time.monotonic() - began
    if problems:
        sys.exit(f"without any kill: {problems}")
    _cleared(place, case)
    return seconds


def _cleared(place: Place, case: Case) -> None:
    case.after(place)


@contextmanager
def place_for(name: str, case: Case) -> Iterator[Place]:
    """Make a place, with a running sandbox if the command needs one; remove all of it."""
    with tempfile.TemporaryDirectory(prefix=f"kills-{name}-", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder).resolve())
        try:
            if case.target:
                place.up()
            yield place
        finally:
            place.down()
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.environ().get(MARK) == place.mark:
                        process.kill()


def table(rows: list[Row]) -> str:
    """Lay the rows out."""
    lines = [f"{'command':<10} {'kills':>5} {'good':>5} {'courses':>7} {'seconds':>8}  seed"]
    for row in rows:
        lines.append(
            f"{row.command:<10} {row.kills:>5} {row.good:>5} {row.courses:>7} {row.seconds:>8}"
            f"  {row.seed}"
        )
        lines += [f"    {problem}" for problem in row.problems]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Kill what is asked for; return 1 if a row is bad."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(CASES), help="commands, joined by commas")
    parser.add_argument("--times", type=int, default=20, help="kills of each command")
    parser.add_argument("--courses", type=int, default=1, help="last kills with a course after")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the moments")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(words)
    names = asked.only.split(",")
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"--only: {', '.join(unknown)}: must be of {', '.join(CASES)}")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    rows = [attack(name, asked.times, asked.courses, asked.seed, say) for name in names]
    found: list[dict[str, Any]] = [asdict(row) for row in rows]
    print(json.dumps(found, indent=1) if asked.json else table(rows))
    return 0 if all(row.good == row.kills for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

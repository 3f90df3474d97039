"""What a run found, read from its summary: the verdict, and figures as people read them.

A summary may be of any run: partial, failed, of another cluster, of notebooks of your own.
What is not there, or is not what it should be, is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from qwenkit.capacity.band import Band
from qwenkit.capacity.simulation.clock import clock_note as clock_note  # for the page
from qwenkit.loadtest.figures import FIGURES as FIGURES
from qwenkit.loadtest.figures import show as in_words

Summary = Mapping[str, Any]


def result(summary: Summary, number: str) -> Mapping[str, Any]:
    """Return what the notebook of a number recorded; nothing if it did not run."""
    named = (each for each in summary["notebooks"] if each["name"].startswith(number))
    return part(next(named, {}), "result")


def part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a mapping inside a record; an empty one if there is none."""
    return found if isinstance(found := record.get(name), Mapping) else {}


def number(value: object) -> float | None:
    """Return a finite number, or None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Whole numbers of JSON have no limit; NaN is not below any.
    return float(value) if abs(value) <= sys.float_info.max else None


def show(value: object, unit: str = "") -> str:
    """Write a figure for people; a dash for what is no number."""
    return in_words(number(value), unit)


def percent(before: object, after: object) -> float | None:
    """Return by how many percent a figure grew; None if it cannot be told."""
    first, last = number(before), number(after)
    return round(100 * (last - first) / abs(first), 1) if first and last is not None else None


def cold_start(summary: Summary) -> float | None:
    """Return the seconds of the cold start: as recorded, else the sum of its steps."""
    record = result(summary, "03")
    steps = [number(seconds) or 0.0 for seconds in part(record, "cold_start").values()]
    whole = number(record.get("cold_start_s"))
    return whole if whole is not None else sum(steps) or None


def clock(summary: Summary) -> float:
    """Return how many times faster than the GPU that it models the server ran; 1 on a cluster."""
    told = (number(result(summary, name).get("clock")) for name in ("06", "04", "03"))
    return next((clock for clock in told if clock is not None and clock > 0), 1.0)


def figures(summary: Summary, name: str) -> dict[str, float]:
    """Return by key what was ``predicted``, ``measured`` or ``after``, in the GPU's own time."""
    record, own = part(result(summary, "06"), name), clock(summary)
    scale = {"s": own, "requests/s": 1 / own, "tokens/s": 1 / own}
    found = {key: (number(record.get(key)), scale.get(unit, 1.0)) for key, _, unit, _ in FIGURES}
    return {key: value * times for key, (value, times) in found.items() if value is not None}


def predicted(summary: Summary, key: str, unit: str) -> str:
    """Write what was predicted, with its band where there is one."""
    names = ("predicted_low", "predicted", "predicted_high")
    known = [found[key] for name in names if key in (found := figures(summary, name))]
    if len(known) < len(names):
        return show(figures(summary, "predicted").get(key), unit)
    return in_words(Band(*known), unit)


def final(summary: Summary) -> dict[str, float]:
    """Return the last measurement of the load: after the change of settings, if there was one."""
    return figures(summary, "after") or figures(summary, "measured")


def objective(summary: Summary) -> float | None:
    """Return the TTFT p95 that was asked for, in seconds."""
    return number(part(result(summary, "06"), "objective").get("ttft_p95_s"))


def verdict(summary: Summary) -> tuple[bool, str]:
    """Return whether the run is good news, and its headline."""
    count = f"{summary['passed']}/{summary['total']} notebooks passed"
    failed = [n["name"] for n in summary["notebooks"] if not n["passed"] and not n.get("skipped")]
    if summary["interrupted"] or failed or not summary["ok"]:
        why = "Interrupted" if summary["interrupted"] else f"{failed[0]} failed" if failed else ""
        return False, f"{why or 'Not clean'}: {count}"
    found, asked = final(summary).get("ttft_p95_s"), objective(summary)
    if found is None or asked is None:
        return True, f"Passed: {count}"
    met = "met" if found <= asked else "missed"
    return (
        found <= asked,
        f"Objective {met}: TTFT p95 {show(found, 's')} of at most {show(asked, 's')}",
    )

"""What changed between two runs: verdicts, latency, cost, cold start, time, versions, settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from qwenkit.course import findings
from qwenkit.course.findings import Summary, number, part, show
from qwenkit.errors import InvalidValue

NOISE = 0.1  # of a figure; more where other work shares the machine
_LEAST_S = 1.0  # of a notebook's time: below a second the start of its kernel decides
_NEEDED = {"id", "ok", "passed", "total", "leaks", "seconds", "versions", "interrupted"}
_WORDS = ("same", "better", "worse")  # the last at -1


def read_summary(place: str, runs: Path) -> dict[str, Any]:
    """Read the summary of a run: its folder, its ``summary.json``, or its id under ``runs``.

    Raises:
        InvalidValue: there is none, or it is not the summary of a run.
    """
    found = (Path(place), Path(place) / "summary.json", runs / place / "summary.json")
    path = next((path for path in found if os.path.isfile(path)), None)
    if path is None:
        rule = f"neither a run's folder, a summary.json nor a run under {runs}"
        raise InvalidValue("run", place, rule, f"see which there are: ls {runs}")
    try:
        summary: dict[str, Any] = json.loads(path.read_text("utf-8"))
        books = [summary, *summary["notebooks"]]
        if any({"passed", "seconds"} - book.keys() for book in books) or _NEEDED - summary.keys():
            raise KeyError("a field is missing")
        sorted(book["name"].upper() for book in books[1:])  # an AttributeError if it is no text
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        rule = "its summary.json is not one that a run writes"
        raise InvalidValue("run", place, rule, "run again, or name another run") from error
    return summary


def compare_runs(a: Summary, b: Summary, *, noise: float = NOISE) -> dict[str, Any]:
    """Compare two summaries: ``{a, b, noise_percent, differences: [{what, a, b, verdict}]}``.

    A verdict is better, worse, same or changed, and "" where one of the two is unknown; figures
    also have ``percent``, and those that are in neither run are left out.

    Raises:
        InvalidValue: ``noise`` is not a share from 0 to below 1.
    """
    if not 0 <= noise < 1:
        raise InvalidValue("noise", noise, "a share from 0 to below 1, such as 0.1")
    (good_a, said_a), (good_b, said_b) = findings.verdict(a), findings.verdict(b)
    # A run that failed is worse than one that missed its objective.
    rank_a, rank_b = bool(a["ok"]) + good_a, bool(b["ok"]) + good_b
    word = _WORDS[(rank_b > rank_a) - (rank_b < rank_a)]
    lines: list[dict[str, Any]] = [{"what": "verdict", "a": said_a, "b": said_b, "verdict": word}]
    old, new = _figures(a), _figures(b)
    for name, (_, unit, up, least) in (old | new).items():
        first, last = (number(run[name][0]) if name in run else None for run in (old, new))
        if first is not None or last is not None:
            shown = {"what": name, "a": show(first, unit), "b": show(last, unit)}
            percent = findings.percent(first, last)
            verdict = _verdict(first, last, up, (noise, least))
            lines.append(shown | {"verdict": verdict, "percent": percent})
    facts, now = _facts(a), _facts(b)
    for name in sorted(name for name in facts.keys() & now.keys() if facts[name] != now[name]):
        lines += [{"what": name, "a": facts[name], "b": now[name], "verdict": "changed"}]
    return {"a": a["id"], "b": b["id"], "noise_percent": 100 * noise, "differences": lines}


def as_text(made: dict[str, Any]) -> str:
    """Lay a comparison out in columns."""
    rows = [("", str(made["a"]), str(made["b"]), "")]
    for line in made["differences"]:
        by = "" if line.get("percent") is None else f"{line['percent']:+.0f} % "
        rows.append((line["what"], line["a"], line["b"], by + line["verdict"]))
    wide = [max(len(row[n]) for row in rows) for n in range(3)]
    text = [f"{w:{wide[0]}}  {a:{wide[1]}}  {b:{wide[2]}}  {v}".rstrip() for w, a, b, v in rows]
    rule = f"better and worse mean a difference of more than {made['noise_percent']:g} %"
    return "\n".join([*text, rule])


def _figures(run: Summary) -> dict[str, tuple[object, str, int, float]]:
    """Return by name each figure, its unit, if less (-1) or more is better, and its least step."""
    last = findings.final(run)
    found = {name: (last.get(key), unit, up, 0.0) for key, name, unit, up in findings.FIGURES}
    found["cold start"] = (findings.cold_start(run), "s", -1, 0.0)
    times = {each["name"]: each["seconds"] for each in run["notebooks"] if each["passed"]}
    times["the whole run"] = run["seconds"]
    return found | {name: (seconds, "s", -1, _LEAST_S) for name, seconds in times.items()}


def _verdict(first: float | None, last: float | None, up: int, least: tuple[float, float]) -> str:
    if first is None or last is None:
        return ""
    if abs(last - first) <= max(least[0] * abs(first), least[1]):
        return "same"
    return _WORDS[up if last > first else -up] if up else "changed"


def _facts(run: Summary) -> dict[str, str]:
    """Return what a run stands on: with another clock or cluster, times say nothing."""
    own = {"clock": findings.clock(run), "context": run.get("context")}
    facts = {**part(run, "versions"), **part(run, "settings"), **own}
    shown = {name: "–" if it in (None, "") else str(it) for name, it in facts.items()}
    here = "http://127.0.0.1:"  # a sandbox's port, another one each time
    return {n: it for n, it in shown.items() if n != "run" and not it.startswith(here)}

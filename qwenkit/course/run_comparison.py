"""What changed between two runs: verdicts, latency, cost, cold start, time, versions, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenkit.course import findings
from qwenkit.course.findings import Figure, Summary, number, part, show
from qwenkit.errors import InvalidValue

NOISE = 0.10
"""The share by which a figure may differ before the difference is called better or worse.

The sandbox's figures differ by up to a twentieth between equal runs on a busy machine.
"""
_LEAST_S = 1.0  # a notebook's time: below a second the start of a kernel decides


@dataclass(frozen=True)
class Difference:
    """A line of a comparison. ``verdict``: better, worse, same, changed; "" if one is unknown."""

    what: str
    a: str
    b: str
    verdict: str
    percent: float | None = None


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side. ``notes`` say why figures may not be comparable."""

    a: str
    b: str
    noise_percent: float
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Lay the lines out in columns."""
        rows = [("", self.a, self.b, "")]
        for each in self.differences:
            percent = "" if each.percent is None else f"{each.percent:+.0f} % "
            rows.append((each.what, each.a, each.b, percent + each.verdict))
        widths = [max(len(row[n]) for row in rows) for n in range(3)]
        lines = [
            "  ".join([*(row[n].ljust(widths[n]) for n in range(3)), row[3]]).rstrip()
            for row in rows
        ]
        least = f"better and worse mean a difference of more than {self.noise_percent:g} %"
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes), least])


def read_summary(place: str, runs: Path) -> dict[str, Any]:
    """Read the summary of a run: its folder, its ``summary.json``, or its id under ``runs``.

    Raises:
        InvalidValue: there is none, or it is not the summary of a run.
    """
    given = Path(place)
    found = [given, given / "summary.json", runs / place / "summary.json"]
    try:
        path = next(path for path in found if path.is_file())
        summary = json.loads(path.read_text("utf-8"))
        known = {"id", "ok", "passed", "total", "leaks", "seconds", "versions", "interrupted"}
        notebooks = summary["notebooks"]
        if known - summary.keys() or any({"passed", "seconds"} - each.keys() for each in notebooks):
            raise KeyError
        if not all(isinstance(each["name"], str) for each in notebooks):
            raise TypeError
    except StopIteration:
        rule = f"neither a run's folder, a summary.json nor a run under {runs}"
        raise InvalidValue("run", place, rule, "see which there are: ls runs") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        rule = "its summary.json is not one that a run writes"
        raise InvalidValue("run", place, rule, "run again, or name another run") from error
    checked: dict[str, Any] = {"settings": {}, "unchosen": [], "began": ""} | summary
    return checked


def compare_runs(a: Summary, b: Summary, *, noise: float = NOISE) -> RunComparison:
    """Compare two summaries; a figure that is in neither is left out.

    Raises:
        InvalidValue: ``noise`` is not a share of at least 0.
    """
    if not 0 <= noise < 1:
        raise InvalidValue("noise", noise, "a share from 0 to below 1, such as 0.1")
    lines = (*_verdicts(a, b), *_figures(a, b, noise), *_times(a, b, noise), *_facts(a, b))
    return RunComparison(str(a["id"]), str(b["id"]), 100 * noise, lines, tuple(_notes(a, b)))


def _verdicts(a: Summary, b: Summary) -> Iterator[Difference]:
    (good_a, said_a), (good_b, said_b) = findings.verdict(a), findings.verdict(b)
    verdict = "same" if good_a == good_b else "better" if good_b else "worse"
    yield Difference("verdict", said_a, said_b, verdict)


def _figures(a: Summary, b: Summary, noise: float) -> Iterator[Difference]:
    last_a, last_b = findings.final(a), findings.final(b)
    for each in findings.FIGURES:
        yield from _line(each, last_a.get(each.key), last_b.get(each.key), noise)
    cold = Figure("", "cold start", "s", -1)
    yield from _line(cold, findings.cold_start(a), findings.cold_start(b), noise)


def _times(a: Summary, b: Summary, noise: float) -> Iterator[Difference]:
    times = [
        {each["name"]: each["seconds"] for each in run["notebooks"] if each["passed"]}
        for run in (a, b)
    ]
    for name in sorted(times[0].keys() | times[1].keys()):
        figure = Figure("", name, "s", -1)
        yield from _line(figure, times[0].get(name), times[1].get(name), noise, _LEAST_S)
    yield from _line(Figure("", "the whole run", "s", -1), a["seconds"], b["seconds"], noise)


def _line(
    figure: Figure, a: object, b: object, noise: float, least: float = 0.0
) -> Iterator[Difference]:
    before, after = number(a), number(b)
    if before is None and after is None:
        return
    percent = 100 * (after - before) / before if before and after is not None else None
    verdict = ""
    if before is not None and after is not None:
        far = abs(after - before) > max(noise * abs(before), least)
        names = {-1: "better", 0: "changed", 1: "worse"}
        verdict = names[figure.better and (1 if (after > before) == (figure.better < 0) else -1)]
        verdict = verdict if far else "same"
    a_said, b_said = (show(value, figure.unit) for value in (before, after))
    yield Difference(figure.name, a_said, b_said, verdict, percent and round(percent, 1))


def _facts(a: Summary, b: Summary) -> Iterator[Difference]:
    for group, kind in (("versions", ""), ("settings", "setting ")):
        before, after = part(a, group), part(b, group)
        for name in sorted(before.keys() | after.keys()):
            if before and after and before.get(name) != after.get(name) and name != "run":
                said, now = (_text(facts, name) for facts in (before, after))
                yield Difference(f"{kind}{name}", said, now, "changed")


def _text(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return "–" if value is None else str(value)


def _notes(a: Summary, b: Summary) -> Iterator[str]:
    clocks = [number(findings.result(run, "06").get("clock")) for run in (a, b)]
    if None not in clocks and clocks[0] != clocks[1]:
        yield f"the clocks differ, × {clocks[0]:g} and × {clocks[1]:g}: compare no times"
    if a.get("context") != b.get("context"):
        yield f"the clusters differ: {a.get('context')} and {b.get('context')}"

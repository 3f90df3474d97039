"""Chapter 05: what the autoscaler counts."""

from __future__ import annotations

from qwenkit.exercises.exercise import PASSED, TODO, Verdict, exercise, wrong
from qwenkit.exercises.facts import Facts


@exercise("05.1")
def from_load_to_replicas(facts: Facts) -> Verdict:
    """ceil(5 / (2 × 0.7)) is 4."""
    if (given := facts.answer) is None:
        return TODO
    if isinstance(given, bool) or not isinstance(given, int | float):
        return wrong("no-number", answer=given)
    if given == 4:
        return PASSED
    named: dict[float, str] = {3: "no-headroom", 2: "rounded-down", 5: "one-each"}
    if round(given, 1) in (3.5, 3.6):
        return wrong("not-rounded", answer=given)
    return wrong(named.get(given, "multiplied" if given > 5 else "other"), answer=given)

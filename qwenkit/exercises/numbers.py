"""Judge a number by the slip that leads to it."""

from __future__ import annotations

from collections.abc import Mapping

from qwenkit.exercises.exercise import PASSED, Verdict, wrong


def number(given: object, right: float, slips: Mapping[str, float], within: float) -> Verdict:
    """Judge a learner's number: right, or the first slip whose figure it is.

    The texts ``no-number`` and ``other`` are needed too. ``within`` is relative: 0.05 is 5 %.
    """
    if isinstance(given, bool) or not isinstance(given, int | float):
        return wrong("no-number", answer=given)
    figures = {"": right, **slips}.items()
    # Comparing works with whole numbers of any size; arithmetic does not.
    near = (n for n, x in figures if x - within * abs(x) <= given <= x + within * abs(x))
    name = next(near, "other")
    return wrong(name, answer=given) if name else PASSED

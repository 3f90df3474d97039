"""An exercise: its texts, and the function that judges what a learner did.

The texts of chapter 02 are in ``texts/02.toml``, its graders in ``chapters/ch02.py``; of an answer
that is a number, the right one and those of usual slips are among the texts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from qwenkit.errors import InvalidValue
from qwenkit.exercises.facts import Facts


@dataclass(frozen=True)
class Verdict:
    """What a grader found; ``wrong`` names one of the exercise's misunderstandings.

    ``unknown`` is said where the target could not be read; ``values`` fill the texts' fields.
    """

    kind: Literal["passed", "todo", "wrong", "unknown"]
    wrong: str = ""
    values: Mapping[str, object] = field(default_factory=dict)


PASSED, TODO = Verdict("passed"), Verdict("todo")
Grader: TypeAlias = Callable[[Facts], Verdict]
_GRADERS: dict[str, Grader] = {}
_SLIP = 0.2  # how near a slip's figure must be


def wrong(name: str, **values: object) -> Verdict:
    """Return the verdict that a learner has the misunderstanding ``name``."""
    return Verdict("wrong", name, values)


def judged(seen: Mapping[str, object], **values: object) -> Verdict:
    """Return the first misunderstanding whose sign is seen (true); if none is, it is passed."""
    name = next((name for name, sign in seen.items() if sign), "")
    return wrong(name, **values) if name else PASSED


def number(
    given: object, right: float, slips: Mapping[str, float], within: float = 0.01
) -> Verdict:
    """Judge a learner's number: right, or the first slip whose figure it is.

    The texts ``no-number`` and ``other`` are needed too. ``within`` is relative: 0.05 is 5 %. A
    slip must be as near as 20 %: its text claims to know how the number came about.
    """
    if given is None:
        return TODO
    if isinstance(given, bool) or not isinstance(given, int | float):
        return wrong("no-number", answer=given)
    figures = [("", right, within), *((n, x, min(within, _SLIP)) for n, x in slips.items())]
    # Comparing works with whole numbers of any size; arithmetic does not.
    near = (n for n, x, by in figures if x - by * abs(x) <= given <= x + by * abs(x))
    name = next(near, "other")
    return wrong(name, answer=given) if name else PASSED


@dataclass(frozen=True)
class Exercise:
    """The texts of an exercise, in English, and its grader.

    ``hints`` go from a nudge to nearly the answer; ``passed`` says why the answer is right.
    """

    id: str
    title: str
    task: str
    hints: tuple[str, str, str]
    solution: str
    passed: str
    wrong: Mapping[str, str]
    grade: Grader


def exercise(id_: str) -> Callable[[Grader], Grader]:
    """Register the grader of an exercise."""

    def keep(grader: Grader) -> Grader:
        _GRADERS[id_] = grader
        return grader

    return keep


@cache
def chapters() -> tuple[str, ...]:
    """Return the numbers of the chapters that have exercises, such as ``"02"``."""
    names = (path.name for path in files(__package__).joinpath("texts").iterdir())
    return tuple(sorted(name[:2] for name in names if name.endswith(".toml")))


@cache
def of_chapter(chapter: str) -> Mapping[str, Exercise]:
    """Return the exercises of a chapter by their ids, in order.

    Raises:
        InvalidValue: there is no such chapter.
    """
    if chapter not in chapters():
        rule = f"must be one of {', '.join(chapters())}"
        raise InvalidValue("chapter", chapter, rule, "qwenkit progress lists them")
    import_module(f"qwenkit.exercises.chapters.ch{chapter}")
    text = files(__package__).joinpath("texts", f"{chapter}.toml").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            id_: Exercise(id_, grade=_grader(id_, said), **{**said, "hints": tuple(said["hints"])})
            for id_, said in tomllib.loads(text).items()
        }
    )


def _grader(id_: str, said: dict[str, Any]) -> Grader:
    """Return a function of the chapter, or what compares with the number among the texts."""
    if "right" not in said:
        return _GRADERS[id_]
    right, slips = said.pop("right"), said.pop("slips")
    return lambda facts: number(facts.answer, right, slips)


def find(id_: str) -> Exercise:
    """Return an exercise by its id, such as ``"02.1"``.

    Raises:
        InvalidValue: there is none.
    """
    known = of_chapter(id_[:2]) if id_[:2] in chapters() else {}
    if id_ in known:
        return known[id_]
    ids = [one for chapter in chapters() for one in of_chapter(chapter)]
    raise InvalidValue("exercise", id_, f"must be one of {', '.join(ids)}")

"""Answer and check an exercise, in a notebook or in a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.exercises.exercise import Exercise, Verdict, chapters, find, of_chapter
from qwenkit.exercises.facts import Facts
from qwenkit.exercises.learner import Learner
from qwenkit.exercises.sharing import share
from qwenkit.language import said
from qwenkit.widgets.display import CellOutput

if TYPE_CHECKING:
    from qwenkit.settings import Settings

_MARKS = {"passed": "✓", "todo": "○", "wrong": "✗", "unknown": "?"}
_WORDS = {
    "passed": "passed",
    "todo": "not done yet",
    "wrong": "not yet right",
    "unknown": "cannot be checked",
}


@dataclass(frozen=True)
class Checked:
    """An exercise, its verdict, and what else is to say; ``str`` and HTML are for people."""

    exercise: Exercise
    verdict: Verdict
    note: str = ""

    @property
    def message(self) -> str:
        """Why it is right; which misunderstanding is seen; or what to do."""
        texts = {"passed": self.exercise.passed, "todo": self.exercise.task}
        if self.verdict.kind == "unknown":
            return str(self.verdict.values["error"])
        text = texts.get(self.verdict.kind) or self.exercise.wrong[self.verdict.wrong]
        return text.format(**self.verdict.values) if self.verdict.values else text

    def __str__(self) -> str:
        kind, own = self.verdict.kind, self.exercise
        head = f"{_MARKS[kind]} {own.id} " + said(f"{own.title}: {_WORDS[kind]}")
        return "\n  ".join(filter(None, (head, said(self.message), said(self.note))))

    def __repr__(self) -> str:
        return str(self)

    def to_dict(self) -> dict[str, str]:
        """Return JSON-ready values, in English."""
        return {
            "exercise": self.exercise.id,
            "verdict": self.verdict.kind,
            "misunderstanding": self.verdict.wrong,
            "message": self.message,
            "note": self.note,
        }

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        own = self.exercise
        parts = [f"<p>{_html(str(self))}</p>"]
        if self.verdict.kind != "passed":
            steps = [(f"Hint {n}", text) for n, text in enumerate(own.hints, 1)]
            parts.append(_unfolding([*steps, ("Solution", own.solution)]))
        return {"text/plain": str(self), "text/html": "".join(parts)}


def _html(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _unfolding(steps: list[tuple[str, str]]) -> str:
    """Nest the steps: each next one can be unfolded only inside the one before."""
    if not steps:
        return ""
    (label, text), *rest = steps
    inner = f"<p>{_html(said(text))}</p>{_unfolding(rest)}"
    return f"<details><summary>{said(label)}</summary>{inner}</details>"


def answer(id_: str, value: object, settings: Settings | None = None) -> CellOutput:
    """Keep a learner's answer for ``check``; ``...`` means that there is none yet.

    Raises:
        InvalidValue: there is no such exercise, or the answer is no text, number or list.

    A number as a text, such as ``"4"``, is kept as the number.

    >>> from qwenkit import answer
    >>> answer("05.1", ...)
    05.1: put your answer in place of the dots
    """
    exercise = find(id_)
    if value is ... or value is None:
        return _said(f"{exercise.id}: put your answer in place of the dots")
    try:
        value = _as_number(value)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        rule = "must be a text, a number, true or false, or a list of these"
        raise InvalidValue("answer", type(value).__name__, rule) from error
    Learner(settings or _current()).answer(id_, value)
    return _said(f"{exercise.id}: {value} is noted")


def _as_number(value: object) -> object:
    with suppress(ValueError):
        if isinstance(value, str | float) and math.isfinite(number := float(value)):
            return int(number) if number.is_integer() else number
    return value


def check(id_: str, settings: Settings | None = None) -> Checked:
    """Judge an exercise by the state of the target, or by the answer that was noted.

    Without ``settings`` they are those that the notebook made last. What cannot be read gives the
    verdict *unknown*.

    Raises:
        InvalidValue: there is no such exercise.

    >>> from qwenkit import check
    >>> check("05.1").verdict.kind
    'todo'
    """
    return _checked([find(id_)], settings or _current())[0]


def check_all(ids: Iterable[str], settings: Settings | None = None) -> list[Checked]:
    """Judge exercises as ``check`` does, all if none is named; ``02`` names a chapter."""
    wanted = [
        one
        for id_ in (list(ids) or chapters())
        for one in (of_chapter(id_).values() if id_ in chapters() else [find(id_)])
    ]
    return _checked(wanted, settings or _current())


def _checked(exercises: Iterable[Exercise], settings: Settings | None) -> list[Checked]:
    """Judge exercises over one connection to the target."""
    learner = Learner(settings)
    with closing(Facts(settings)) as facts:
        found = [_judged(one, facts, learner) for one in exercises]
    if settings and settings.workshop and found:
        share(settings, learner, found[-1].exercise.id[:2])
    return found


def _judged(exercise: Exercise, facts: Facts, learner: Learner) -> Checked:
    try:
        facts.answer, facts.passed = learner.answers.get(exercise.id), learner.passed
        verdict = exercise.grade(facts)
    except QwenkitError as error:
        return Checked(exercise, Verdict("unknown", values={"error": error}))
    try:
        if verdict.kind == "passed":
            learner.passes(exercise.id)
    except QwenkitError as error:
        return Checked(exercise, verdict, f"not recorded: {error.why}; {error.fix}")
    return Checked(exercise, verdict)


def _current() -> Settings | None:
    """Return the settings that were made last, else those of the environment."""
    try:
        from qwenkit.settings import Settings
    except ModuleNotFoundError:  # in a page's own Python there is no cluster to have settings of
        return None
    return Settings.latest or Settings.load()


def _said(text: str) -> CellOutput:
    text = said(text)
    return CellOutput(f"<p>{escape(text)}</p>", text)

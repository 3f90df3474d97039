"""How far a learner is: the exercises passed, by chapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwenkit.exercises.exercise import chapters, of_chapter
from qwenkit.exercises.learner import Learner

if TYPE_CHECKING:
    from qwenkit.settings import Settings


@dataclass(frozen=True)
class ChapterProgress:
    """The exercises of one chapter: when each was passed (RFC 3339), empty if it was not."""

    chapter: str
    exercises: dict[str, str]

    @property
    def passed(self) -> int:
        """How many are passed."""
        return sum(map(bool, self.exercises.values()))

    def __str__(self) -> str:
        marks = "  ".join(f"{'✓' if when else '○'} {id_}" for id_, when in self.exercises.items())
        return f"{self.chapter}  {self.passed}/{len(self.exercises)}  {marks}"


@dataclass(frozen=True)
class CourseProgress:
    """All chapters that have exercises."""

    chapters: tuple[ChapterProgress, ...]

    @property
    def passed(self) -> int:
        """How many exercises are passed."""
        return sum(one.passed for one in self.chapters)

    @property
    def total(self) -> int:
        """How many exercises there are."""
        return sum(len(one.exercises) for one in self.chapters)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.chapters), f"{self.passed} of {self.total} passed"])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "passed": self.passed,
            "total": self.total,
            "chapters": [
                {"chapter": one.chapter, "passed": one.passed, "exercises": one.exercises}
                for one in self.chapters
            ],
        }


def progress(settings: Settings | None) -> CourseProgress:
    """Read what the learner has passed against the target of the settings."""
    passed = Learner(settings).passed
    return CourseProgress(
        tuple(
            ChapterProgress(number, {id_: passed.get(id_, "") for id_ in of_chapter(number)})
            for number in chapters()
        )
    )

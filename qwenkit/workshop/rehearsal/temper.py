"""How a scripted learner works: how long it reads, and where it slips. All follows from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

# A quick and a slow reader: the pauses of a chapter by this factor.
_QUICK, _SLOW = 0.6, 1.8
# How long a person reads and thinks in a chapter, in seconds of the target's clock.
_READS_S = {"00": 120, "01": 180, "02": 180, "03": 240, "04": 180, "05": 300, "06": 240, "90": 60}
_SLIPS_MOST = 0.6  # of the chapters, by the least careful


@dataclass(frozen=True)
class Temper:
    """One learner: its factor on every pause, and in which chapters it makes a mistake first."""

    pace: float
    slips: frozenset[str]
    forgets_slot: bool
    """Whether it does not give its GPU back: the keeper has to take it."""

    @classmethod
    def of(cls, seed: int, number: int, chapters: Sequence[str]) -> Temper:
        """Return the learner of a number: the same for the same seed."""
        random = Random(f"{seed}/{number}")
        care = random.random() * _SLIPS_MOST
        slips = frozenset(chapter for chapter in chapters if random.random() < care)
        return cls(random.uniform(_QUICK, _SLOW), slips, random.random() < care / 3)

    def pause_s(self, chapter: str, clock: float) -> float:
        """Return how long it reads in a chapter, in seconds of this machine at ``clock``."""
        return self.pace * _READS_S.get(chapter, 60) / clock

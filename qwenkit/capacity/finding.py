"""A finding about settings or a manifest: level, place, message and fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "advice"]
_ORDER: dict[Level, int] = {"error": 0, "warning": 1, "advice": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, where, and what to do.

    ``error``: the cluster refuses it or it cannot work. ``warning``: it works, but not as
    expected. ``advice``: it works and could be better.
    """

    level: Level
    rule: str
    where: str
    message: str
    fix: str


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort by level, errors first; keep the order within a level."""
    return sorted(findings, key=lambda finding: _ORDER[finding.level])

"""One check's result, and a constructor for each verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Check:
    """A prerequisite: what was found, the verdict, and unless it is ``ok``, why and the fix."""

    name: str
    found: str
    verdict: Verdict
    why: str = ""
    fix: str = ""

    def lines(self) -> list[str]:
        """Return the check as text."""
        notes = [("why", self.why), ("fix", self.fix)]
        shown = [f"         {label}: {text}" for label, text in notes if text]
        return [f"{self.verdict:<8} {self.name}: {self.found}".rstrip(": "), *shown]


def ok(name: str, found: str) -> Check:
    """Return a prerequisite that is met."""
    return Check(name, found, "ok")


def warn(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite that is met badly; the course works all the same."""
    return Check(name, found, "warn", why, fix)


def fail(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite that is missing; the course cannot work."""
    return Check(name, found, "fail", why, fix)


def unknown(name: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite that could not be checked."""
    return Check(name, "", "unknown", why, fix)

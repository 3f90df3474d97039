"""One finding of the preflight, and a constructor for each verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Check:
    """A prerequisite: what was found, the verdict, and for any but ``ok`` why and what to do."""

    name: str
    found: str
    verdict: Verdict
    why: str = ""
    fix: str = ""

    def lines(self) -> list[str]:
        """Return the check as text."""
        notes = [
            f"         {label}: {text}" for label, text in (("why", self.why), ("fix", self.fix))
        ]
        shown = [note for note, text in zip(notes, (self.why, self.fix), strict=True) if text]
        return [f"{self.verdict:<8} {self.name}: {self.found}".rstrip(": "), *shown]


def ok(name: str, found: str) -> Check:
    """Return a prerequisite that is met."""
    return Check(name, found, "ok")


def warn(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return one that will hurt, though not stop."""
    return Check(name, found, "warn", why, fix)


def fail(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return one without which the course stops."""
    return Check(name, found, "fail", why, fix)


def unknown(name: str, why: str, fix: str = "") -> Check:
    """Return one that could not be looked at."""
    return Check(name, "", "unknown", why, fix)

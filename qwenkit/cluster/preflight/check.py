"""A prerequisite and its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qwenkit.cluster.api_errors import may_not_look, needs
from qwenkit.errors import Forbidden

Verdict = Literal["ok", "warn", "fail", "unknown", "not applicable"]


@dataclass(frozen=True)
class Check:
    """A prerequisite: what was found, the verdict, and unless it is ``ok``, why and the fix.

    ``not applicable`` is what this target does not need, such as GPUs for ``gpu_count`` 0.
    """

    name: str
    found: str
    verdict: Verdict
    why: str = ""
    fix: str = ""

    def lines(self) -> list[str]:
        """Return the check as text."""
        notes = [("why", self.why), ("fix", self.fix)]
        shown = [f"         {label}: {text}" for label, text in notes if text]
        word = "n/a" if self.verdict == "not applicable" else self.verdict
        return [f"{word:<8} {self.name}: {self.found}".rstrip(": "), *shown]


def ok(name: str, found: str) -> Check:
    """Return a prerequisite that is met."""
    return Check(name, found, "ok")


def warn(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite with a problem that does not stop the course."""
    return Check(name, found, "warn", why, fix)


def fail(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite that is missing, which stops the course."""
    return Check(name, found, "fail", why, fix)


def unknown(name: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite that could not be checked."""
    return Check(name, "", "unknown", why, fix)


def hidden(name: str, error: Forbidden) -> Check:
    """Return a prerequisite that this role may not look at, with what the role needs."""
    needed = needs(error.why)
    fix = "" if needed and needed in error.fix else error.fix
    return unknown(name, may_not_look(error), fix)


def not_applicable(name: str, why: str) -> Check:
    """Return a prerequisite that this target does not need."""
    return Check(name, why, "not applicable")


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare them: ``v1.33.1-2c`` is 1, 33, 1."""
    digits = version.removeprefix("v").partition("-")[0].split(".")
    return tuple(int(one) if one.isdecimal() else -1 for one in digits)

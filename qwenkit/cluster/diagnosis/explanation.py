"""One cause of trouble, its evidence and its fix, as people and programs read it."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.errors import NotReady


@dataclass(frozen=True, repr=False)
class Explanation:
    """One cause. ``code`` is for programs, ``permanent`` means that waiting does not mend it."""

    code: str
    cause: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    permanent: bool = True

    def __str__(self) -> str:
        seen = [f"  evidence: {line}" for line in self.evidence]
        return "\n".join([self.cause, *seen, *([f"  fix: {self.fix}"] if self.fix else [])])

    __repr__ = __str__

    def error(self, what: str, **context: object) -> NotReady:
        """Return the error that carries this explanation."""
        why = "\n       ".join([self.cause, *self.evidence])
        return NotReady(what, why, self.fix, cause=self.code, **context)

"""One cause of a problem, its evidence and its fix, for people and programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Self

from qwenkit.errors import NotReady, QwenkitError
from qwenkit.language import Shown

# Waiting ends at the second restart: the first crash may be a mount that came late.
CRASH_BUDGET = 2


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """One cause. ``kind`` is for programs; ``permanent`` means that waiting does not help.

    ``kind`` is ``ready`` where nothing is wrong, and ``unknown`` where no rule fits.
    """

    kind: str
    cause: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    permanent: bool = True

    def to_dict(self) -> dict[str, object]:
        """Return the names and values that programs read."""
        return asdict(self)

    @property
    def is_ready(self) -> bool:
        """Whether nothing is wrong."""
        return self.kind == "ready"

    def __str__(self) -> str:
        evidence = [f"  evidence: {line}" for line in self.evidence]
        return "\n".join([self.cause, *evidence, *([f"  fix: {self.fix}"] if self.fix else [])])

    def shown_by(self, *texts: str) -> Self:
        """Return this explanation with evidence: each text that is not empty, once, on one line."""
        lines = (" ".join(text.split()) for text in texts)
        return replace(self, evidence=tuple(dict.fromkeys(filter(None, lines))))

    def error(
        self, what: str, cls: type[QwenkitError] = NotReady, **context: object
    ) -> QwenkitError:
        """Return the error that carries this explanation."""
        context |= {"cause": self.kind, "evidence": self.evidence}
        return cls(what, self.cause, self.fix, **context)

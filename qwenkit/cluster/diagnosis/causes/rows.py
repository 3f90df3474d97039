"""Known causes as rows of a table: what a message says, and what that means (``rows.toml``)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.kinds import Obj


class CauseRow(NamedTuple):
    """A cause that is claimed where ``when`` is found; its groups fill ``cause`` and ``fix``.

    ``permanent`` means that waiting longer is useless.
    """

    kind: str
    when: str
    cause: str
    fix: str = ""
    permanent: bool = True

    def explains(self, text: str, known: Mapping[str, str] | None = None) -> Explanation | None:
        """Return the cause if the text names it; ``known`` fills what its groups do not."""
        found = re.search(self.when, text, re.IGNORECASE)
        if not found:
            return None
        words = {
            **(known or {}),
            **{name: value or "" for name, value in found.groupdict().items()},
        }
        cause, fix = (" ".join(part.format(**words).split()) for part in (self.cause, self.fix))
        return Explanation(self.kind, cause, (text,), fix, self.permanent)


@cache
def rows_of(subject: str) -> tuple[CauseRow, ...]:
    """Return the rows of a subject, the most specific first."""
    text = files(__package__).joinpath("rows.toml").read_text("utf-8")
    return tuple(CauseRow(**{"kind": subject, **row}) for row in tomllib.loads(text)[subject])


def first_row(
    subject: str, texts: Iterable[str], known: Mapping[str, str] | None = None
) -> Explanation | None:
    """Return the cause of the first text that a row knows; put the last error first."""
    for text in (" ".join(text.split()) for text in texts):
        for row in rows_of(subject):
            if found := row.explains(text, known):
                return found
    return None


def reason_and_message(state: Obj) -> str:
    """Return ``reason: message`` of a condition or a state, empty if it has neither."""
    parts = (str(state.get(part) or "") for part in ("reason", "message"))
    return ": ".join(filter(None, parts))

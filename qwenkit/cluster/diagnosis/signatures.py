"""What a container's last error means: the table ``signatures.toml``, read and applied."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from qwenkit.cluster.diagnosis.explanation import Explanation

_VALUE_CHARS = 100


class Signature(NamedTuple):
    """A known error. ``cause`` and ``fix`` may name the groups of ``pattern``."""

    kind: str
    pattern: re.Pattern[str]
    cause: str
    fix: str
    permanent: bool

    def explain(self, text: str) -> Explanation | None:
        """Return what an error means, its deciding line as evidence; None if it is another one."""
        found = self.pattern.search(text)
        if not found:
            return None
        # The same value has a name for each wording: fits, fits2.
        values = {"0": found[0]} | {
            name.rstrip("0123456789"): value for name, value in found.groupdict().items() if value
        }
        start = text.rfind("\n", 0, found.start()) + 1
        line = text[start:].partition("\n")[0]
        cause, fix = (_filled(template, values) for template in (self.cause, self.fix))
        return Explanation(self.kind, cause, (line,), fix, self.permanent)


def read_signatures(rows: Iterable[Mapping[str, Any]], kind: str = "") -> tuple[Signature, ...]:
    """Read the rows of a table; ``when`` is one wording or several, ``kind`` that of others."""
    return tuple(
        Signature(
            row.get("kind", kind),
            re.compile(
                row["when"] if isinstance(row["when"], str) else "|".join(row["when"]),
                re.IGNORECASE | re.MULTILINE,
            ),
            row["cause"],
            row.get("fix", ""),
            row.get("permanent", True),
        )
        for row in rows
    )


def first_known(signatures: Iterable[Signature], texts: Iterable[str]) -> Explanation | None:
    """Explain the first text that a signature knows; None if none is known."""
    found = (signature.explain(text) for text in texts for signature in signatures)
    return next(filter(None, found), None)


_DATA = tomllib.loads((files(__package__) / "signatures.toml").read_text("utf-8"))
SIGNATURES = read_signatures(_DATA["signature"])


def of_exit(said: object) -> Explanation | None:
    """Explain what an exit code, or the kubelet's reason, says by itself; None if it is nothing."""
    row = _DATA["exit"].get(str(said))
    return Explanation(row["kind"], row["cause"], fix=row["fix"], permanent=False) if row else None


def _filled(template: str, values: dict[str, str]) -> str:
    """Put the values into a text; what the log left out leaves no empty brackets."""

    def value(name: re.Match[str]) -> str:
        return values.get(name[1], "").strip()[:_VALUE_CHARS]

    return re.sub(r"\{(\w+)\}", value, template).replace(" ()", "")

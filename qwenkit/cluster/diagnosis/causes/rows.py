"""The known causes of ``rows.toml``: what a message of the cluster says, and what that means."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.signatures import Signature
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.kinds import Obj, condition


@cache
def _table() -> dict[str, list[dict[str, str]]]:
    return tomllib.loads((files(__package__) / "rows.toml").read_text("utf-8"))


@cache
def rows_of(subject: str) -> tuple[Signature, ...]:
    """Return the rows of a subject, the most specific first."""
    return tuple(
        Signature(
            row.get("kind", subject),
            re.compile(row["when"], re.IGNORECASE),
            row["cause"],
            row.get("fix", ""),
            bool(row.get("permanent", True)),
        )
        for row in _table()[subject]
    )


def first_row(subject: str, texts: Iterable[str]) -> Explanation | None:
    """Return the cause of the first text that a row knows; put the last error first."""
    lines = (" ".join(text.split()) for text in texts)
    found = (row.explain(line) for line in lines for row in rows_of(subject))
    return next(filter(None, found), None)


def failures(snapshot: Snapshot) -> list[str]:
    """Return why Knative gave a revision up, if its pods are gone: pods would tell it better."""
    found = (
        condition(obj or {}, name)
        for obj in (snapshot.revision, snapshot.service)
        for name in ("ContainerHealthy", "ResourcesAvailable", "Ready", "ConfigurationsReady")
    )
    said = [reason_and_message(each) for each in found if each.get("status") == "False"]
    return [] if snapshot.living() else said


def reason_and_message(state: Obj) -> str:
    """Return ``reason: message`` of a condition or a state, empty if it has neither."""
    parts = (str(state.get(part) or "") for part in ("reason", "message"))
    return ": ".join(filter(None, parts))

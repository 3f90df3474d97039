"""The known causes of ``rows.toml``: what a message of the cluster says, and what that means."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.signatures import Signature, first_known, read_signatures
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.kinds import Obj, condition

_ROWS = tomllib.loads((files(__package__) / "rows.toml").read_text("utf-8"))


@cache
def rows_of(subject: str) -> tuple[Signature, ...]:
    """Return the rows of a subject, the most specific first."""
    return read_signatures(_ROWS[subject], subject)


def first_row(subject: str, texts: Iterable[str]) -> Explanation | None:
    """Return the cause of the first text that a row knows; put the last error first."""
    return first_known(rows_of(subject), (" ".join(text.split()) for text in texts))


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

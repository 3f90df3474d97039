"""How far a participant of a workshop is, where the instructor's board reads it.

It is a ConfigMap of the participant's namespace that the workshop made: a record of JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qwenkit.errors import QwenkitError
from qwenkit.exercises.exercise import chapters, of_chapter

if TYPE_CHECKING:
    from qwenkit.exercises.learner import Learner
    from qwenkit.settings import Settings

PROGRESS = "progress"  # the ConfigMap that a participant writes
_KEY = "record"
_MOST_LETTERS = 20_000
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class SharedProgress:
    """The chapter of the exercise that was checked last, and how many are passed."""

    chapter: str = ""
    passed: int = 0


def share(settings: Settings, learner: Learner, chapter: str) -> None:
    """Write what the learner has passed; nothing is raised: a check goes on without it."""
    from qwenkit.cluster.api.retries import within
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.kinds import CONFIG_MAP
    from qwenkit.cluster.ownership import workshop_run

    record = json.dumps({"chapter": chapter, "passed": learner.passed})
    owner = {"run": workshop_run(settings.workshop)}
    connect = partial(Cluster.connect, settings.model_copy(update=owner))
    with suppress(QwenkitError), within(_PATIENCE_S), closing(connect()) as cluster:
        cluster.patch(CONFIG_MAP, PROGRESS, {"data": {_KEY: record}})


def shared(config: Mapping[str, Any]) -> SharedProgress:
    """Read a participant's ConfigMap, whatever it holds: only what the course has counts."""
    from qwenkit.untrusted.parsing import parse_json  # a page's own Python, which checks, lacks it

    text = str((config.get("data") or {}).get(_KEY) or "")
    try:
        record = parse_json(text) if len(text) <= _MOST_LETTERS else None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        return SharedProgress()
    chapter, passed = record.get("chapter"), record.get("passed")
    known = {id_ for each in chapters() for id_ in of_chapter(each)}
    done = known & set(passed) if isinstance(passed, dict) else set()
    return SharedProgress(chapter if chapter in chapters() else "", len(done))

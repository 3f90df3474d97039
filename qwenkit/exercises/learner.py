"""What a learner has answered and passed, kept in a file of the home directory by target.

``QWENKIT_PROGRESS`` names another file. It holds no secret; to lose it loses only the record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenkit.errors import InvalidValue
from qwenkit.private_files import OWN, home, make_folder, read_private, write_private

if TYPE_CHECKING:
    from qwenkit.settings import Settings

RECORD = "QWENKIT_PROGRESS"
_MOST_BYTES = 1_000_000


class Learner:
    """The record of one target: where the settings point to, or the page's own Python."""

    def __init__(self, settings: Settings | None) -> None:
        self.path = Path(os.environ.get(RECORD) or home() / OWN / "progress.json")
        self._target = (
            "/".join((settings.context, settings.namespace, settings.service, settings.run))
            if settings
            else "here"
        )

    @property
    def answers(self) -> dict[str, Any]:
        """The last answer to each exercise, by its id."""
        return dict(self._read().get(self._target, {}).get("answers", {}))

    @property
    def passed(self) -> dict[str, str]:
        """When each exercise was first passed, by its id, RFC 3339."""
        return dict(self._read().get(self._target, {}).get("passed", {}))

    def answer(self, id_: str, value: object) -> None:
        """Keep an answer."""
        with self._changed() as record:
            record.setdefault("answers", {})[id_] = value

    def passes(self, id_: str) -> None:
        """Keep that an exercise is passed; the first time counts."""
        if id_ not in self.passed:
            with self._changed() as record:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                record.setdefault("passed", {})[id_] = now

    def forget(self, *chapters: str) -> None:
        """Forget the answers and passes of chapters."""
        with self._changed() as record:
            for part, kept in record.items():
                left = {id_: value for id_, value in kept.items() if id_[:2] not in chapters}
                record[part] = left

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        try:
            make_folder(self.path.parent)
            with _one_at_a_time(self.path.parent):
                whole = self._read()
                yield whole.setdefault(self._target, {})
                write_private(self.path, json.dumps(whole, ensure_ascii=False, indent=1))
        except OSError as error:
            raise self._unusable(f"must be writable: {error.strerror}") from error

    def _read(self) -> dict[str, Any]:
        try:
            whole: dict[str, Any] = json.loads(read_private(self.path, _MOST_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise self._unusable(f"must be a record that qwenkit wrote: {error}") from error
        if not (_of_dicts(whole) and all(map(_of_dicts, whole.values()))):
            raise self._unusable("must be a record that qwenkit wrote")
        return whole

    def _unusable(self, rule: str) -> InvalidValue:
        fix = "delete the file, or name another one in QWENKIT_PROGRESS"
        return InvalidValue("progress", str(self.path), rule, fix)


def _of_dicts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes out, where Python and the file system have locks: no browser has."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(ImportError, OSError):
            from fcntl import LOCK_EX, flock

            flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)

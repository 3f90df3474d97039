"""The state of an unfinished upload on this machine: one file for each object.

Each state is written to a temporary file and renamed, so a reader finds the state before or
after, never a mix. Losing a checkpoint, or finding a damaged one, loses no data: the server lists
the parts too, and a part is kept only if its CRC equals that of the source.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from qwenkit.errors import Conflict
from qwenkit.weights.parts import Part

_log = logging.getLogger("qwenkit.weights")
_FORMAT = 1


@dataclass
class Checkpoint:
    """The state of one multipart upload. ``sha256`` is empty where the source states none."""

    upload_id: str
    size: int
    sha256: str
    part_size: int
    parts: dict[int, Part] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one prefix in one bucket.

    A folder that cannot be written costs a warning, not the upload.
    """

    def __init__(self, folder: Path, target: str) -> None:
        """Use ``folder`` for the uploads to ``target``, an address that names the prefix."""
        self._target = target
        self._folder = folder / _name(target)
        self._writing = threading.Lock()
        self._warned = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            self._warn(error)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock this prefix for this process; the lock ends with the process, however it ends.

        Raises:
            Conflict: another process of this machine uploads to the prefix.
        """
        # The pid is in its own file: older versions of filelock truncate the lock's.
        lock, pid = FileLock(self._folder / "lock"), self._folder / "pid"
        try:
            lock.acquire(timeout=0)
            pid.write_text(str(os.getpid()))
        except Timeout as error:
            holder = pid.read_text() if pid.exists() else "of unknown id"
            raise Conflict(
                f"another upload to {self._target} is running on this machine",
                f"process {holder} holds {self._folder / 'lock'}",
                "wait for it to end, or stop it: the next upload resumes it",
            ) from error
        except OSError as error:
            self._warn(error)
        try:
            yield
        finally:
            lock.release()

    def load(self, key: str) -> Checkpoint | None:
        """Return the checkpoint of an object, None if there is none or it is damaged."""
        path = self._path(key)
        try:
            return _parse(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("checkpoint %s is ignored, it is damaged: %s", path, error)
            return None

    def save(self, key: str, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of an object."""
        path = self._path(key)
        temporary = path.with_suffix(".tmp")
        with self._writing:
            parts = [vars(part) for _, part in sorted(checkpoint.parts.copy().items())]
            document = {"format": _FORMAT, "key": key, **vars(checkpoint), "parts": parts}
            try:
                with temporary.open("w", encoding="utf-8") as file:
                    json.dump(document, file)
                    file.flush()
                    os.fsync(file.fileno())  # a power failure must not leave half a file
                temporary.replace(path)
            except OSError as error:
                self._warn(error)

    def delete(self, key: str) -> None:
        """Delete the checkpoint of an object that is complete, or whose upload is gone."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    def _path(self, key: str) -> Path:
        return self._folder / f"{_name(key)}.json"

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            _log.warning(
                "no checkpoints: %s (%s); the upload continues, and resumes from the server's "
                "list of parts",
                self._folder,
                error.strerror or error,
            )
            self._warned = True


def _parse(text: bytes, key: str) -> Checkpoint:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a mapping")
    if document.pop("format") != _FORMAT or document.pop("key") != key:
        raise ValueError("another format or key")
    parts = {part["number"]: Part(**part) for part in document.pop("parts")}
    found = Checkpoint(**document, parts=parts)
    numbers = [found.size, found.part_size, *parts, *(part.size for part in parts.values())]
    texts = [found.upload_id, *(part.etag for part in parts.values())]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError("not a positive number")
    if not all(type(text) is str and text for text in texts):
        raise ValueError("not a text")
    return found


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]

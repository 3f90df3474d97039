"""The record of a multipart upload on this machine's disk: one file an object.

Each state is written whole to a temporary name, fsynced and renamed, so that a reader finds the
state before or after, never between. Losing a checkpoint loses no data: parts are listed by the
server too, and are believed only where their CRC equals that of the source.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qwenkit.errors import Conflict
from qwenkit.weights.parts import Part

_log = logging.getLogger("qwenkit.weights")
_FORMAT = 1


@dataclass
class Checkpoint:
    """What is known of one upload. ``sha256`` is empty where the source states none."""

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
        self._warned = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            self._warn(error)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold this prefix for this process; the lock dies with the process.

        Raises:
            Conflict: another process uploads to it from this machine.
        """
        try:
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self._warn(error)
            yield
            return
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def load(self, key: str) -> Checkpoint | None:
        """Return the checkpoint of an object; one that does not read counts as none."""
        path = self._path(key)
        try:
            return _parse(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("checkpoint %s does not read (%s); it is begun anew", path, error)
            return None

    def save(self, key: str, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of an object, durably; call it from one thread at a time."""
        path = self._path(key)
        temporary = path.with_suffix(".tmp")
        parts = [vars(part) for _, part in sorted(checkpoint.parts.copy().items())]
        document = {"format": _FORMAT, "key": key, **vars(checkpoint), "parts": parts}
        try:
            with temporary.open("wb") as stream:
                stream.write(json.dumps(document).encode())
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            _sync_folder(self._folder)
        except OSError as error:
            self._warn(error)

    def delete(self, key: str) -> None:
        """Forget an object: it is complete, or its upload is gone."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    def _path(self, key: str) -> Path:
        return self._folder / f"{_name(key)}.json"

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise Conflict(
                f"another upload to {self._target} is running on this machine",
                f"process {holder} holds {self._folder / 'lock'}",
                "wait for it, or end it: the upload then resumes where it was",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            _log.warning(
                "no checkpoints: %s (%s); the upload goes on, and resumes by the server's list "
                "of parts",
                self._folder,
                error.strerror or error,
            )
            self._warned = True


class Saver:
    """Writes changed checkpoints in a thread of its own: no part waits for the disk.

    Changes that come while it writes go into the next write together.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._changed: dict[str, Checkpoint] = {}
        self._condition = threading.Condition()
        self._busy = self._closed = False
        self._thread = threading.Thread(target=self._run, name="qwenkit-checkpoints", daemon=True)
        self._thread.start()

    def save(self, key: str, checkpoint: Checkpoint) -> None:
        """Have the state of now written soon."""
        with self._condition:
            self._changed[key] = checkpoint
            self._condition.notify_all()

    def forget(self, key: str) -> None:
        """Delete a checkpoint, after whatever is being written."""
        with self._condition:
            self._changed.pop(key, None)
            self._condition.wait_for(lambda: not self._busy)
        self._checkpoints.delete(key)

    def close(self) -> None:
        """Write what is left, then end."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._changed or self._closed)
                if not self._changed:
                    return
                key = next(iter(self._changed))
                checkpoint = self._changed.pop(key)
                self._busy = True
            self._checkpoints.save(key, checkpoint)


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

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
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from qwenkit.errors import Conflict
from qwenkit.private_files import OWN, make_folder, read_private, tighten, write_private
from qwenkit.weights.parts import Part

_log = logging.getLogger("qwenkit.weights")
_FORMAT = 1
_LIMIT = 16 << 20  # bytes; the checkpoint of 10,000 parts has about 1.3 MB
_LARGEST_PART = 5 << 30  # bytes; OSS takes none that is larger
_ID = re.compile(r"[!-~]{1,1024}")


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

    A folder or a file that is not usable costs the resume and one warning, never the upload.
    """

    def __init__(self, folder: Path, target: str) -> None:
        """Use ``folder`` for the uploads to ``target``, an address that names the prefix."""
        self._target = target
        self._folder = folder / _name(target)
        self._writing = threading.Lock()
        self._warned, self._usable = False, True
        try:
            make_folder(self._folder)
            for own in (folder, folder.parent) if folder.parent.name == OWN else (folder,):
                tighten(own)
            for file in self._folder.iterdir():
                if file.is_file() and not file.is_symlink():
                    with suppress(OSError):  # it may be on a file system that is read-only
                        file.chmod(0o600)
        except OSError as error:
            self._usable = False
            self._warn(error)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock this prefix for this process; the lock ends with the process, however it ends.

        Raises:
            Conflict: another process of this machine uploads to the prefix.
        """
        if not self._usable:
            yield
            return
        # The pid is in its own file: older versions of filelock truncate the lock's.
        lock, pid = FileLock(self._folder / "lock", mode=0o600), self._folder / "pid"
        try:
            lock.acquire(timeout=0)
            write_private(pid, str(os.getpid()))
        except Timeout as error:
            raise Conflict(
                f"another upload to {self._target} is running on this machine",
                f"process {_holder(pid)} holds {self._folder / 'lock'}",
                "wait for it to end, or stop it: the next upload resumes it",
            ) from error
        except (OSError, NotImplementedError) as error:
            self._warn(error)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.release()

    def load(self, key: str) -> Checkpoint | None:
        """Return the checkpoint of an object, None if there is none or it is damaged."""
        if not self._usable:
            return None
        path = self._path(key)
        try:
            return _parse(read_private(path, _LIMIT), key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            _log.warning(
                "checkpoint %s is ignored, it is damaged or of another version or user: %.200s; "
                "the upload resumes from the server's list of parts",
                path,
                _text(error),
            )
            return None

    def save(self, key: str, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of an object."""
        if not self._usable:
            return
        with self._writing:
            parts = [vars(part) for _, part in sorted(checkpoint.parts.copy().items())]
            document = {"format": _FORMAT, "key": key, **vars(checkpoint), "parts": parts}
            try:
                write_private(self._path(key), json.dumps(document), durable=True)
            except OSError as error:
                self._warn(error)

    def delete(self, key: str) -> None:
        """Delete the checkpoint of an object that is complete, or whose upload is gone."""
        try:
            if self._usable:
                self._path(key).unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    def _path(self, key: str) -> Path:
        return self._folder / f"{_name(key)}.json"

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            _log.warning(
                "no checkpoints: %s (%.200s); the upload continues, and resumes from the server's "
                "list of parts",
                self._folder,
                _text(error),
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
    if max(found.part_size, *(part.size for part in parts.values()), 0) > _LARGEST_PART:
        raise ValueError("not the size of a part")
    if not all(type(part.crc64) is int and 0 <= part.crc64 < 1 << 64 for part in parts.values()):
        raise ValueError("not a CRC-64")
    if not all(type(text) is str and _ID.fullmatch(text) for text in texts):
        raise ValueError("not an id or ETag")
    if type(found.sha256) is not str:
        raise ValueError("not a hash")
    return found


def _holder(pid: Path) -> str:
    with suppress(OSError, ValueError):
        return str(int(read_private(pid, 20)))
    return "of unknown id"


def _text(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(text.split()) or type(error).__name__


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]

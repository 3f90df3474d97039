"""Is a folder a sandbox's?

It is by its marker, which is written before anything else. The keys, written next, carry the
marker's id: a marker that was copied into another folder makes nothing else there ours.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from qwenkit.errors import SandboxError
from qwenkit.sandbox import state_files
from qwenkit.sandbox.root_lock import HOLDER, LOCK

MARKER = ".qwenkit-sandbox"
_NEW = f"{MARKER}.new"
# What stands in the folder before the marker.
_BORN = (LOCK, HOLDER, _NEW)
LAST = (f"{Path(state_files.KEYS).stem}.new", MARKER, _NEW, HOLDER, LOCK)
"""What goes last when the folder is removed, in this order."""
_MAGIC, _FORMAT = "qwenkit-sandbox", 1
_ID = re.compile("sandbox-[0-9a-f]{12}")
_LONGEST = 4096


@dataclass(frozen=True)
class Marker:
    """What a sandbox's folder says of itself."""

    id: str
    """``sandbox-`` and 12 hexadecimal digits, made once for each root; a valid label's value."""
    run: str = ""
    """The label of what is made in it. It follows from the path: a record of what was done outlives
    the folder, and no other folder has it."""
    temporary: bool = False
    """Whether it was made for one run, so that nobody comes back to it."""
    machine: str = ""
    """Which machine made it; elsewhere, the locks of a shared folder may not be seen."""
    magic: str = _MAGIC
    format: int = _FORMAT

    @property
    def key_id(self) -> str:
        """The id of the access key that was made with it."""
        return self.id.replace("-", "-key-", 1)


def read(root: Path) -> Marker | None:
    """Return the marker of a folder, None if it has none.

    Raises:
        SandboxError: the marker is damaged, or of another version.
    """
    path = root / MARKER
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from error
    try:
        raw = json.loads(os.read(handle, _LONGEST))
        if raw["magic"] == _MAGIC and raw["format"] != _FORMAT:
            why = f"its format is {raw['format']!r}, and this qwenkit knows {_FORMAT}"
            raise _damaged(path, why)
        made = Marker(**raw)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise _damaged(path, f"it is no such JSON ({type(error).__name__})") from error
    finally:
        os.close(handle)
    if made.magic != _MAGIC or not _ID.fullmatch(str(made.id)):
        raise _damaged(path, "its magic or its id is not a sandbox's")
    return made


def _damaged(path: Path, why: str) -> SandboxError:
    return SandboxError(
        f"{path} is no marker of a sandbox's folder",
        f"{why}; without it qwenkit cannot tell its own files from yours, and touches none",
        f"look into {path.parent} and remove yourself what you do not need, or give another --root",
    )


def claimed(root: Path) -> Marker:
    """Return the marker of a folder that has one.

    Raises:
        SandboxError: it has none, or it is damaged.
    """
    if (made := read(root)) is None:
        raise SandboxError(f"{root} is no sandbox's folder", f"it has no {MARKER}", "give --root")
    return made


def is_proven(root: Path, made: Marker) -> bool:
    """Return whether the keys beside the marker were made with it."""
    try:
        return state_files.read_keys(root)[0] == made.key_id
    except (OSError, ValueError, TypeError):
        return False


def is_born(root: Path, names: set[str]) -> bool:
    """Return whether all that is there is what a start writes before the marker."""
    if names - {*_BORN}:
        return False
    states = [(root / name).lstat() for name in names - {_NEW}]
    return all(stat.S_ISREG(one.st_mode) and not one.st_size for one in states)


def hold(root: Path) -> int:
    """Show that a process wants the sandbox, until it closes the descriptor or dies."""
    handle = os.open(root / MARKER, os.O_RDONLY | os.O_NOFOLLOW)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def is_held(root: Path) -> bool:
    """Return whether a process wants the sandbox."""
    handle = os.open(root / MARKER, os.O_RDWR | os.O_NOFOLLOW)  # NFS wants writing for this lock
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False

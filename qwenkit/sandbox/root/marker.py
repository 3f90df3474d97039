"""Is a folder a sandbox's?

It is by its marker, which is written before anything else. The keys, written next, carry the
marker's id: a marker that was copied into another folder makes nothing else there ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from qwenkit import private_files
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
_LONGEST = 4096
_OWN = "give --root a new or empty folder"


@dataclass(frozen=True)
class Marker:
    """What a sandbox's folder says of itself."""

    id: str
    """``sandbox-`` and 12 hexadecimal digits, made once for each root; a valid label's value."""
    temporary: bool = False
    """Whether it was made for one run, so that nobody comes back to it."""
    magic: str = _MAGIC
    format: int = _FORMAT


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
    with os.fdopen(handle, "rb") as file:
        try:
            raw = json.loads(file.read(_LONGEST))
            if raw["magic"] == _MAGIC and raw["format"] != _FORMAT:
                why = f"its format is {raw['format']!r}, and this qwenkit knows {_FORMAT}"
                raise _damaged(path, why)
            made = Marker(**raw)
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            raise _damaged(path, f"it is no such JSON ({type(error).__name__})") from error
    if made.magic != _MAGIC or not isinstance(made.id, str) or not made.id.startswith("sandbox-"):
        raise _damaged(path, "its magic or its id is not a sandbox's")
    return made


def _damaged(path: Path, why: str) -> SandboxError:
    return SandboxError(
        f"{path} is no marker of a sandbox's folder",
        f"{why}; without it qwenkit cannot tell its own files from yours, and touches none",
        f"look into {path.parent} and remove yourself what you do not need, or give another --root",
    )


def adopt(root: Path) -> None:
    """Make the folder, unless it exists and may become or is a sandbox's.

    Raises:
        SandboxError: it holds something else, is a link or another user's, or cannot be made.
    """
    refuse_link(root)
    try:
        if not root.exists():
            private_files.make_folder(root)
        names, status = set(os.listdir(root)), root.stat()
    except (OSError, ValueError) as error:
        raise unusable(root, error) from error
    if status.st_uid != os.geteuid():
        why = f"it belongs to user {status.st_uid}, and this is user {os.geteuid()}"
        raise SandboxError(f"{root} is another user's folder", why, _OWN)
    if status.st_mode & stat.S_ISVTX or root.resolve() in _shared():
        why = "a sandbox owns its folder and removes it when it goes down"
        raise SandboxError(f"{root} is used by other programs too", why, _OWN)
    made = read(root)
    if made is None and not is_born(root, names):
        raise foreign(root, names)
    if made is not None and not is_proven(root, made) and (more := names - {*LAST}):
        raise foreign(root, more)


def refuse_link(root: Path) -> None:
    """Refuse a symbolic link as a root; links above it are allowed.

    Raises:
        SandboxError: it is one.
    """
    with contextlib.suppress(OSError, ValueError):
        if root.is_symlink():
            raise SandboxError(
                f"{root} is a symbolic link",
                "a sandbox removes its folder when it goes down, and a link may lead anywhere",
                f"give --root the folder itself: {root.resolve()}",
            )


def foreign(root: Path, names: set[str]) -> SandboxError:
    """Return the error for a folder that holds something else; it names some of it."""
    if state_files.KEYS in names:
        why = f"its {state_files.KEYS} has no {MARKER} to go with it: an older qwenkit's, or yours"
        fix = f"if it is an old sandbox's, remove {root} yourself; or {_OWN}"
    else:
        why = f"a sandbox owns its folder; here is also {listed(names)}"
        fix = _OWN
    return SandboxError(f"{root} is not empty and no sandbox made it", why, fix)


def listed(names: set[str] | list[str]) -> str:
    """Return names as text, the first ten of them; what does not print is escaped."""
    shown = [name if name.isprintable() else ascii(name) for name in sorted(names)]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def unusable(root: Path, error: OSError | ValueError) -> SandboxError:
    """Return the error for a folder that cannot be read or written."""
    why = getattr(error, "strerror", None) or str(error)
    return SandboxError(f"{str(root)!r} cannot be a sandbox's folder", why, _OWN)


def claim(root: Path, *, temporary: bool = False) -> Marker:
    """Make the folder a sandbox's, or return its marker. The caller holds its lock.

    Raises:
        SandboxError: the marker is damaged.
    """
    made = read(root)
    if made is None:
        made = Marker(f"sandbox-{secrets.token_hex(6)}", temporary)
        root.chmod(0o700)
        private_files.write_private(root / MARKER, json.dumps(asdict(made)), durable=True)
    if not is_proven(root, made):
        pair = [_key_id(made), secrets.token_urlsafe(24)]
        private_files.write_private(root / state_files.KEYS, json.dumps(pair))
    return made


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
        return state_files.read_keys(root)[0] == _key_id(made)
    except (OSError, ValueError, TypeError):
        return False


def _key_id(made: Marker) -> str:
    return made.id.replace("sandbox-", "sandbox-key-")


def is_born(root: Path, names: set[str]) -> bool:
    """Return whether all that is there is what a start writes before the marker."""
    if names - {*_BORN}:
        return False
    states = [(root / name).lstat() for name in names - {_NEW}]
    return all(stat.S_ISREG(one.st_mode) and not one.st_size for one in states)


def _shared() -> set[Path]:
    return {Path("/"), private_files.home().resolve(), Path(tempfile.gettempdir()).resolve()}

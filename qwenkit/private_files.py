"""Files and folders that only their owner reads, whatever the umask: keys, checkpoints, runs.

Nothing here follows a link, waits for a FIFO, or trusts a file of another user; each such case is
an ``OSError``.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

OWN = ".qwenkit"  # the folder of the home directory that is ours
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def home() -> Path:
    """Return the user's home directory; a path below which nothing can be, if it has none."""
    try:
        return Path.home().absolute()
    except (RuntimeError, OSError):  # no HOME and no entry in the list of users
        return Path(os.devnull)


def make_folder(path: Path) -> None:
    """Make a folder of mode 0700, and those above it that are missing; tighten one of ours.

    Raises:
        OSError: it cannot be made, is not a folder (a link is not one), or belongs to another user.
    """
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            with suppress(FileExistsError):
                folder.mkdir(0o700)
                _chmod(folder)  # the umask may have taken the owner's rights too
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, "it is not a folder")
    _require_own(status)
    tighten(path)


def tighten(folder: Path) -> None:
    """Take others' rights from a folder, if it is ours alone; a shared one such as /tmp stays."""
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == _me()
    if ours and not status.st_mode & stat.S_ISVTX and stat.S_IMODE(status.st_mode) != 0o700:
        _chmod(folder)


def _chmod(folder: Path) -> None:
    with suppress(OSError):  # a file system without modes, or one that is read-only
        folder.chmod(0o700)


def read_private(path: Path, limit: int) -> bytes:
    """Return the bytes of a file.

    Raises:
        OSError: it is not an ordinary file of this user, or has more than ``limit`` bytes.
    """
    with os.fdopen(_opened(path, os.O_RDONLY), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes")
    return data


def write_private(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a file of mode 0600 in one step; ``durable``: a power failure leaves no half of it.

    Raises:
        OSError: it cannot be written; nothing is left over.
    """
    temporary = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        temporary.unlink()  # of a process that was killed, or somebody else's
    try:
        handle = _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _opened(path: Path, flags: int) -> int:
    handle = os.open(path, flags | _SAFE, 0o600)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file")
        _require_own(status)
        if stat.S_IMODE(status.st_mode) != 0o600:
            with suppress(OSError):  # a read-only file system; the file can still be read
                os.fchmod(handle, 0o600)
    except OSError:
        os.close(handle)
        raise
    return handle


def _require_own(status: os.stat_result) -> None:
    if status.st_uid != _me():
        raise PermissionError(errno.EPERM, f"it belongs to another user, id {status.st_uid}")


def _me() -> int:
    """Return this user's number; Python in a browser has one user, and no call for it."""
    return os.geteuid() if hasattr(os, "geteuid") else 0

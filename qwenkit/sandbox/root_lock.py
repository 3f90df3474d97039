"""Which process runs a sandbox's folder, or changes it?

That process holds an exclusive lock on ``lock`` for as long as it lives, so a dead process is never
mistaken for a running one. It also holds one byte of ``holder``: the kernel then says which process
it is. An id that is only written in a file may be another process's by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from qwenkit.errors import SandboxError

LOCK, HOLDER = "lock", "holder"
RUNS, CHANGES, USES = 0, 1, 2
"""What a holder does: it runs the sandbox, claims or removes the folder; or it is a lab on it."""
UNKNOWN_S = 1.0
"""A process that begins or ends to hold the lock is unknown for less than that."""
# ``struct flock``: type, whence, start, length, pid; macOS has another order.
_FLOCK, _TYPE, _PID = ("qqihh", 3, 2) if sys.platform == "darwin" else ("hhqqi4x", 0, 4)
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_POLL_S = 0.02


@contextlib.contextmanager
def locked(root: Path, does: int = RUNS, *, timeout_s: float = 1) -> Iterator[None]:
    """Hold the lock of ``root`` in this process.

    Raises:
        SandboxError: another process holds it for longer than a look at it takes.
        FileNotFoundError: the folder is gone.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, _lock(root, time.monotonic() + timeout_s))
        byte = os.open(root / HOLDER, _FLAGS, 0o600)
        stack.callback(os.close, byte)
        fcntl.lockf(byte, fcntl.LOCK_EX, 1, does)
        yield


@contextlib.contextmanager
def used(root: Path) -> Iterator[None]:
    """Show that this process is a lab on the sandbox; at most one is.

    Only functions of another process may look at ``root`` meanwhile: the kernel forgets the lock
    when this one closes any descriptor of the file.

    Raises:
        SandboxError: there is one already.
    """
    byte = os.open(root / HOLDER, _FLAGS, 0o600)
    try:
        fcntl.lockf(byte, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, USES)
    except OSError as error:
        os.close(byte)
        raise SandboxError(
            f"a lab already uses the sandbox under {root}",
            f"it is process {holder(root, USES) or 'unknown'}",
            "open that one, or give this one another --root",
        ) from error
    try:
        yield
    finally:
        os.close(byte)


def _lock(root: Path, deadline: float) -> int:
    while True:
        handle = os.open(root / LOCK, _FLAGS, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed it: the name must still be this file's.
            if os.path.samestat(os.fstat(handle), os.stat(root / LOCK)):
                return handle
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(handle)
                raise already_running(root) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        time.sleep(_POLL_S)


def is_locked(root: Path) -> bool:
    """Return whether a process holds the lock of ``root``."""
    try:
        handle = os.open(root / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # there is none, or nothing of ours
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def has_lock_file(root: Path) -> bool:
    """Return whether the lock's file exists; without it the folder was removed."""
    return (root / LOCK).exists()


def holder(root: Path, does: int = RUNS) -> int | None:
    """Return the process that holds the lock and does that, 0 if it is unknown, None if none does.

    The id is the kernel's: it is safe to send it a signal.
    """
    if not is_locked(root):
        return None
    try:
        handle = os.open(root / HOLDER, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # not made yet, or another user's
        return 0
    asked = [0, os.SEEK_SET, does, 1, 0] if _TYPE == 0 else [does, 1, 0, 0, os.SEEK_SET]
    asked[_TYPE] = fcntl.F_WRLCK
    try:
        answer = struct.unpack(
            _FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, struct.pack(_FLOCK, *asked))
        )
    finally:
        os.close(handle)
    return 0 if answer[_TYPE] == fcntl.F_UNLCK else max(0, answer[_PID])


def already_running(root: Path) -> SandboxError:
    """Return the error for a root that another sandbox holds; it names the process."""
    return SandboxError(
        f"a sandbox is already running under {root}",
        f"its process is {holder(root) or 'unknown'}",
        "use it, `qwenkit sandbox down` it, or give another --root",
    )

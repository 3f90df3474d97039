"""How does a folder become a sandbox's, and which may not?"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from qwenkit import private_files
from qwenkit.errors import SandboxError
from qwenkit.sandbox import root_lock, state_files
from qwenkit.sandbox.kubelet.child import clear
from qwenkit.sandbox.root import marker
from qwenkit.sandbox.root.marker import MARKER, Marker

# How long a start or an end that is under way may take.
_CHANGE_S = 15.0
_POLL_S = 0.02
_ATTEMPTS = 5
_OWN = "give --root a new or empty folder"


@contextlib.contextmanager
def owned(root: Path, does: int, *, temporary: bool = False, known: str = "") -> Iterator[bool]:
    """Make ``root`` a sandbox's folder, and hold its lock; yields whether it was none before.

    What a crashed sandbox left there is kept, except for the programs that ran. With the id of
    a ``known`` marker, only the folder with that marker is good.

    Raises:
        SandboxError: a sandbox runs there, or the folder holds something else.
    """
    with contextlib.ExitStack() as stack:
        for attempt in itertools.count(1):
            _require(root, known)
            _adopt(root)
            try:
                stack.enter_context(root_lock.locked(root, does))
                break
            except FileNotFoundError as error:  # `down` removed it meanwhile
                if attempt == _ATTEMPTS:
                    raise unusable(root, error) from error
            except OSError as error:
                raise unusable(root, error) from error
        _require(root, known)
        try:
            fresh = _claim(root, temporary)
            clear(root / state_files.PROGRAMS)
            with contextlib.suppress(FileNotFoundError):
                (root / state_files.STATE).replace(root / state_files.PREVIOUS_STATE)
        except OSError as error:
            raise unusable(root, error) from error
        yield fresh


def _require(root: Path, known: str) -> None:
    """Refuse a folder that was removed since its marker was read; `down` said it is gone."""
    if known and ((made := marker.read(root)) is None or made.id != known):
        raise SandboxError(
            f"{root} was removed while a sandbox started there",
            "another command took it down",
            "start it again",
        )


def wait_free(root: Path) -> None:
    """Wait for a sandbox that starts there, or that ends.

    Raises:
        SandboxError: one runs there.
    """
    now = known_at = time.monotonic()
    deadline = now + _CHANGE_S
    while (pid := root_lock.holder(root)) is not None:
        now = time.monotonic()
        if pid or root_lock.holder(root, root_lock.CHANGES):
            known_at = now
        late = now > min(deadline, known_at + root_lock.UNKNOWN_S)
        if late or state_files.find(root):
            raise root_lock.already_running(root)
        time.sleep(_POLL_S)


def _adopt(root: Path) -> None:
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
    made = marker.read(root)
    if made is None and not marker.is_born(root, names):
        raise foreign(root, names)
    if made is not None and not marker.is_proven(root, made) and (more := names - {*marker.LAST}):
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
        why = f"a sandbox owns its folder, and this one holds {listed(names)}"
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


def _claim(root: Path, temporary: bool) -> bool:
    made, fresh = marker.read(root), False
    if made is None:
        name, path = f"sandbox-{secrets.token_hex(6)}", f"{os.geteuid()}:{root.resolve()}"
        run = f"sandbox-{hashlib.sha256(path.encode()).hexdigest()[:12]}"
        made, fresh = Marker(name, run, temporary, platform.node()), True
        root.chmod(0o700)
        private_files.write_private(root / MARKER, json.dumps(asdict(made)), durable=True)
    if not marker.is_proven(root, made):
        pair = [made.key_id, secrets.token_urlsafe(24)]
        private_files.write_private(root / state_files.KEYS, json.dumps(pair))
    return fresh


def _shared() -> set[Path]:
    shared = {Path("/"), private_files.home().resolve()}
    with contextlib.suppress(OSError):  # there may be no folder for temporary files
        shared.add(Path(tempfile.gettempdir()).resolve())
    return shared

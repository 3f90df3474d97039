"""What is removed when a sandbox goes down? Only names that it wrote, and the objects it serves.

What a person put beside them stays, and is named.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from qwenkit.errors import SandboxError
from qwenkit.sandbox import state_files, tiny_model
from qwenkit.sandbox.kubelet.child import clear
from qwenkit.sandbox.oss.key_paths import BOOKKEEPING, is_bucket_name
from qwenkit.sandbox.root import marker
from qwenkit.sandbox.root_lock import HOLDER, LOCK
from qwenkit.sandbox.trees import is_folder, remove_tree

_FILES = (
    state_files.LOG,
    state_files.STATE,
    state_files.PREVIOUS_STATE,
    state_files.CLUSTER,
    state_files.FAULTS_ADDRESS,
    state_files.KUBECONFIG,
)
_MODEL = Path(state_files.HUB) / state_files.MODEL
_RECORDS = Path(state_files.OSS) / BOOKKEEPING
_UPLOADS, _ESCAPED = _RECORDS / "uploads", _RECORDS / "escaped"
# The sandbox's folders in which something of a person's may be, each after those in it.
_FOLDERS = (
    *(_MODEL, *_MODEL.parents[:-1]),
    *(_UPLOADS, _ESCAPED, _RECORDS / "temporary", _RECORDS, _RECORDS.parent),
    Path(state_files.PROGRAMS),
    Path(state_files.VOLUMES),
)
_WRITTEN = {
    _MODEL: re.compile("|".join(map(re.escape, tiny_model.names()))),
    _RECORDS: re.compile(r"oss\.sqlite(-wal|-shm|-journal)?"),
    _RECORDS / "temporary": re.compile("[0-9a-f]{32}"),
    Path(): re.compile("|".join(f"{Path(name).stem}.new|{re.escape(name)}" for name in _FILES)),
}
# Of a claim, or of the server of a NAS.
_VOLUME = re.compile("pvc-[0-9a-f-]{36}|nas-[0-9a-f]{16}")
_KEY, _UPLOAD = re.compile("[0-9a-f]{64}"), re.compile("[0-9A-F]{32}")


def remove(root: Path) -> list[str]:
    """Remove a sandbox's folder, except for what no sandbox wrote; the caller holds its lock.

    The marker goes after all that it explains: a removal that was killed can be repeated.

    Returns:
        What stays because no sandbox wrote it, relative to the folder.

    Raises:
        SandboxError: something that a sandbox wrote cannot be removed, or the marker is damaged.
    """
    problems: list[str] = []
    made = marker.read(root)
    if made is not None and marker.is_proven(root, made):
        clear(root / state_files.PROGRAMS)
        for folder, name in _trees(root):
            problems += (f"{name}: {why}" for why in remove_tree(root / folder / name))
        written = _WRITTEN | dict.fromkeys(_escaped(root), _KEY)
        for folder, ours in written.items():
            for name in filter(ours.fullmatch, _names(root, folder)):
                _unlink(root / folder / name, problems)
        for folder in (*_escaped(root), *_FOLDERS):
            if _is_folder(root, folder):
                with contextlib.suppress(OSError):  # something stays in it
                    (root / folder).rmdir()
        if not problems:
            _unlink(root / state_files.KEYS, problems)
    for name in () if problems else marker.LAST:
        _unlink(root / name, problems, empty=name in (LOCK, HOLDER))
    if problems:
        raise SandboxError(
            f"{root} stays: {len(problems)} of its files cannot be removed",
            "; ".join(problems[:5]),
            "let this user remove them, then qwenkit sandbox down again",
        )
    with contextlib.suppress(OSError):  # something stays in it, or it is a mount point
        root.rmdir()
    return _left(root)


def _is_folder(root: Path, folder: Path) -> bool:
    """Return whether no link leads to the folder."""
    return all(is_folder(root / one) for one in (folder, *folder.parents))


def _names(root: Path, folder: Path) -> list[str]:
    return os.listdir(root / folder) if _is_folder(root, folder) else []


def _trees(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield what goes whole: buckets, with all that they serve, parts of uploads, volumes."""
    volumes = Path(state_files.VOLUMES)
    yield from ((volumes, name) for name in _names(root, volumes) if _VOLUME.fullmatch(name))
    yield from (
        (_RECORDS.parent, name) for name in _names(root, _RECORDS.parent) if is_bucket_name(name)
    )
    yield from ((_UPLOADS, name) for name in _names(root, _UPLOADS) if _UPLOAD.fullmatch(name))


def _escaped(root: Path) -> list[Path]:
    """Return the folders of the objects that can be no ordinary files, one for each bucket."""
    found = [_ESCAPED / name for name in _names(root, _ESCAPED) if is_bucket_name(name)]
    return [folder for folder in found if _is_folder(root, folder)]


def _unlink(path: Path, problems: list[str], *, empty: bool = False) -> None:
    """Remove an ordinary file; a link or a folder of that name is not the sandbox's.

    If the sandbox's is always ``empty``, another one is not the sandbox's either.
    """
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and not (empty and status.st_size):
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")


def _left(root: Path) -> list[str]:
    """Return what is in the folder and in the sandbox's own folders in it."""
    folders = (*_FOLDERS, *_escaped(root))
    left = []
    for folder in (Path(), *folders):
        inside = [folder / name for name in _names(root, folder)]
        left += [str(one) for one in inside if one not in folders or not _is_folder(root, one)]
    return sorted(left)

"""What is removed when a sandbox goes down? Only names that it wrote, and the objects it serves.

What a person put beside them stays, and is named.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from qwenkit.errors import SandboxError
from qwenkit.sandbox import state_files, tiny_model
from qwenkit.sandbox.kubelet.child import clear
from qwenkit.sandbox.oss.key_paths import BOOKKEEPING, is_bucket_name
from qwenkit.sandbox.root import marker
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
# The folders that may be left with something of a person's in them.
_FOLDERS = (_MODEL, *_MODEL.parents[:-1], Path(state_files.OSS), Path(state_files.PROGRAMS))


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
        problems += _remove_buckets(root / state_files.OSS)
        for name in tiny_model.names() if is_folder(root / _MODEL) else ():
            _unlink(root / _MODEL / name, problems)
        for name in _FILES:
            _unlink(root / name, problems)
            _unlink((root / name).with_suffix(".new"), problems)
        for folder in _FOLDERS:
            with contextlib.suppress(OSError):
                (root / folder).rmdir()
        if not problems:
            _unlink(root / state_files.KEYS, problems)
    for name in () if problems else marker.LAST:
        _unlink(root / name, problems)
    if problems:
        raise SandboxError(
            f"{root} is not removed: {len(problems)} of its files cannot be",
            "; ".join(problems[:5]),
            "let this user remove them, then qwenkit sandbox down again",
        )
    with contextlib.suppress(OSError):  # something stays in it, or it is a mount point
        root.rmdir()
    return _left(root)


def _remove_buckets(oss: Path) -> list[str]:
    """Remove the buckets with all that they serve, and the server's own records."""
    names = os.listdir(oss) if is_folder(oss) else []
    ours = [name for name in names if name == BOOKKEEPING or is_bucket_name(name)]
    return [f"{name}: {why}" for name in ours for why in remove_tree(oss / name)]


def _unlink(path: Path, problems: list[str]) -> None:
    """Remove an ordinary file; a link or a folder of that name is not the sandbox's."""
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")


def _left(root: Path) -> list[str]:
    """Return what is in the folder and in the sandbox's own folders in it."""
    left = []
    for folder in (Path(), *_FOLDERS):
        if is_folder(root / folder):
            inside = [folder / name for name in os.listdir(root / folder)]
            left += [str(one) for one in inside if one not in _FOLDERS or not is_folder(root / one)]
    return sorted(left)

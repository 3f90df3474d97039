"""How is a folder removed whole, without leaving it?

No symbolic link is followed, no other file system entered, and no depth is too deep: one folder is
open at a time, and the way up is checked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_folder(path: Path) -> bool:
    """Return whether the path is a folder itself, not a link to one."""
    return is_plain(path, stat.S_ISDIR)


def is_plain(path: Path, kind: Callable[[int], bool]) -> bool:
    """Return whether the path itself, not what a link leads to, is of a kind of ``stat``."""
    try:
        return kind(path.lstat().st_mode)
    except OSError:
        return False


def remove_tree(path: Path) -> list[str]:
    """Remove a folder and all that is in it; return what could not be removed, and why.

    What is not a folder is left alone.
    """
    problems: list[str] = []
    if is_folder(path):
        with contextlib.suppress(FileNotFoundError):
            parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _remove(parent, path.name, problems)
            finally:
                os.close(parent)
    return problems


def _remove(parent: int, name: str, problems: list[str]) -> None:
    way, above = [name], [os.fstat(parent)]
    skipped: set[int] = set()
    folders: list[list[str]] = [[]]
    try:
        here = _enter(parent, name)
    except OSError as error:
        problems.append(f"{name}: {error.strerror}")
        return
    try:
        while way:
            folders[-1] = folders[-1] or _clear_files(here, skipped, problems)
            if folders[-1]:
                inner = folders[-1].pop()
                try:
                    below = _enter(here, inner)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    problems.append(f"{inner}: {error.strerror}")
                    with contextlib.suppress(FileNotFoundError):
                        skipped.add(os.lstat(inner, dir_fd=here).st_ino)
                    continue
                way.append(inner)
                above.append(os.fstat(here))
                folders.append([])
                here = _instead(here, below)
                continue
            folders.pop()
            inode = os.fstat(here).st_ino
            here = _instead(here, os.open("..", _FOLDER, dir_fd=here))
            if not os.path.samestat(os.fstat(here), above.pop()):
                problems.append(f"{way[0]}: it was moved meanwhile")
                return
            try:
                os.rmdir(gone := way.pop(), dir_fd=here)
            except FileNotFoundError:
                continue
            except OSError as error:
                skipped.add(inode)
                # What stays in it is among the problems already.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    problems.append(f"{gone}: {error.strerror}")
    finally:
        os.close(here)


def _clear_files(folder: int, skipped: set[int], problems: list[str]) -> list[str]:
    """Remove what is no folder; return the folders."""
    device, folders = os.fstat(folder).st_dev, list[str]()
    for name in os.listdir(folder):
        inode = 0
        try:
            status = os.lstat(name, dir_fd=folder)
            inode = status.st_ino
            if inode in skipped:
                continue
            if stat.S_ISDIR(status.st_mode):
                if status.st_dev != device:
                    raise OSError(0, "another file system is mounted there")
                folders.append(name)
            else:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            skipped.add(inode)
            problems.append(f"{name}: {error.strerror}")
    return folders


def _enter(parent: int, name: str) -> int:
    with contextlib.suppress(OSError):
        mode = os.lstat(name, dir_fd=parent).st_mode
        if mode & stat.S_IRWXU != stat.S_IRWXU and stat.S_ISDIR(mode):
            os.chmod(name, stat.S_IRWXU, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new

"""Which keys are ordinary files, where the others are kept, and the order of both.

A key is an ordinary file at ``ROOT/<bucket>/<key>`` whenever a file system can hold it as it
is. No key leads out of the bucket's folder: a segment ``..`` is not representable, and symbolic
links are not followed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from qwenkit.sandbox import trees

BOOKKEEPING = ".qwenkit"
MAX_KEY_BYTES = 1023
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_UNREPRESENTABLE = {"", ".", ".."}


def is_bucket_name(name: str) -> bool:
    """Return whether OSS accepts the name: 3 to 63 of a-z, 0-9 and -, no - at the ends."""
    return _BUCKET.fullmatch(name) is not None


class KeyPaths:
    """The mapping between keys and files under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.bookkeeping = self.root / BOOKKEEPING
        self._folds_case = False

    def prepare(self) -> None:
        """Make the folders; find out whether this file system folds case.

        Raises:
            OSError: they cannot be made, or a link stands for one: what it leads to is not ours.
        """
        for folder in (".", "escaped", "uploads", "temporary"):
            path = self.bookkeeping / folder
            path.mkdir(exist_ok=True)
            if not trees.is_folder(path):
                raise NotADirectoryError(errno.ENOTDIR, "is a link, no folder", str(path))
        self._folds_case = (self.root / BOOKKEEPING.upper()).exists()

    def bucket(self, bucket: str) -> Path:
        """Return a bucket's folder."""
        return self.root / bucket

    def is_bucket(self, bucket: str) -> bool:
        """Return whether the bucket exists. A folder made by hand is a bucket."""
        return is_bucket_name(bucket) and trees.is_folder(self.bucket(bucket))

    def escaped(self, bucket: str, key: str) -> Path:
        """Return the path of a key that cannot be an ordinary file."""
        return self.bookkeeping / "escaped" / bucket / sha256(key.encode()).hexdigest()

    def ordinary(self, bucket: str, key: str) -> Path | None:
        """Return the key's path as an ordinary file, None if it can have none."""
        for segment in key.split("/"):
            if segment in _UNREPRESENTABLE or "\0" in segment or len(segment.encode()) > 255:
                return None
        path = self.bucket(bucket) / key
        # Through a symbolic link the name would mean a file elsewhere.
        if os.path.realpath(path.parent) != str(path.parent) or self._spelled_otherwise(path):
            return None
        return path

    def existing(self, bucket: str, key: str) -> tuple[Path, os.stat_result] | None:
        """Return the file that holds the key now, ordinary before escaped, with its status."""
        for place in (self.ordinary, self.escaped):
            path = place(bucket, key)
            try:
                if path is not None and stat.S_ISREG((status := path.lstat()).st_mode):
                    return path, status
            except OSError:
                continue
        return None

    def place(self, bucket: str, key: str) -> Path:
        """Return the path to write the key to, its folder made."""
        path = self.ordinary(bucket, key)
        if path is not None and not trees.is_folder(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.lstat()
            except FileNotFoundError:
                return path
            except OSError:  # a file where a folder is needed, or a path too long
                self.prune(bucket, path)
            else:
                return path
        path = self.escaped(bucket, key)
        path.parent.mkdir(exist_ok=True)
        return path

    def prune(self, bucket: str, path: Path) -> None:
        """Remove the folders above ``path`` that became empty, up to the bucket's own."""
        for folder in path.parents:
            if self.bucket(bucket) not in folder.parents:
                return
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return

    def walk(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """Yield the keys of ordinary files in byte order, with ``prefix`` and after ``after``.

        Code-point order of Python's strings equals byte order of their UTF-8.
        """
        pending = [("", True)]
        while pending:
            key, is_folder = pending.pop()
            if not is_folder:
                if key.startswith(prefix) and key > after:
                    yield key
            elif _may_hold(key, prefix, after):
                pending.extend(sorted(self._children(bucket, key), reverse=True))

    def _children(self, bucket: str, folder: str) -> Iterator[tuple[str, bool]]:
        try:
            with os.scandir(self.bucket(bucket) / folder) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    key = folder + entry.name + ("/" if is_folder else "")
                    if _is_key(key) and (is_folder or entry.is_file(follow_symlinks=False)):
                        yield key, is_folder
        except OSError:  # removed meanwhile
            return

    def _spelled_otherwise(self, path: Path) -> bool:
        """Return whether a file system that folds case has the name in another spelling."""
        if not self._folds_case:
            return False
        for step in (path, *path.parents):
            if step == self.root:
                return False
            if step.exists() and step.name not in os.listdir(step.parent):
                return True
        return False


def _may_hold(folder: str, prefix: str, after: str) -> bool:
    if not (folder.startswith(prefix) or prefix.startswith(folder)):
        return False
    return folder > after or after.startswith(folder)


def _is_key(name: str) -> bool:
    try:
        return len(name.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:  # a name on disk that is not UTF-8
        return False

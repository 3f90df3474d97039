"""The repositories of a hub in a folder: revisions, files and their hashes.

``ROOT/<owner>/<name>/`` is a repository's default branch; ``ROOT/<owner>/<name>@<revision>/``
another revision of it. A revision's commit is a hash of its listing, so it changes exactly
when a file does. A repository without a folder may have a stand-in, which is in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20
_NAME_BYTES = 200  # of a folder's 255; a revision may follow
_LFS_BYTES = 1 << 20
_LFS_SUFFIXES = {".safetensors", ".bin", ".gguf", ".pt"}
_DEFAULT_BRANCHES = {"", "master", "main"}


@dataclass(frozen=True)
class Hashes:
    """A file's sha256, and its git object id as an ordinary file."""

    sha256: str
    git: str


@dataclass(frozen=True)
class Entry:
    """One file or folder of a repository. Folders have no size and no hashes."""

    path: str
    modified: int
    size: int = 0
    hashes: Hashes | None = None

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_lfs(self) -> bool:
        """Whether a hub would keep this file in large-file storage."""
        return self.size >= _LFS_BYTES or Path(self.path).suffix in _LFS_SUFFIXES

    @property
    def lfs_pointer(self) -> bytes:
        """The Git LFS pointer to the file."""
        sha256 = self.hashes.sha256 if self.hashes else ""
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{sha256}")
        return "\n".join([*lines, f"size {self.size}", ""]).encode()

    @property
    def git_oid(self) -> str:
        """The git object id at this path: of the file, or of its LFS pointer."""
        if self.hashes and self.is_lfs:
            pointer = self.lfs_pointer
            return hashlib.sha1(
                b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False
            ).hexdigest()
        return self.hashes.git if self.hashes else ""


@dataclass(frozen=True)
class RepositorySnapshot:
    """One revision of a repository: its entries in path order, and their commit.

    ``contents`` are the files of a stand-in, which has no folder.
    """

    folder: Path
    entries: list[Entry]
    commit: str
    contents: Mapping[str, bytes] = field(default_factory=dict)

    def open(self, entry: Entry) -> BinaryIO:
        """Open a file for reading."""
        if entry.path in self.contents:
            return BytesIO(self.contents[entry.path])
        return (self.folder / entry.path).open("rb", buffering=0)

    def files(self) -> list[Entry]:
        """Return the entries that are files."""
        return [entry for entry in self.entries if entry.hashes]

    def file(self, path: str) -> Entry | None:
        """Return one file. Only listed paths are opened, so none leads out of the folder."""
        return next((entry for entry in self.files() if entry.path == path), None)

    def under(self, root: str, *, recursive: bool) -> list[Entry]:
        """Return the entries below a folder of the repository, or directly in it."""
        prefix = f"{root.strip('/')}/" if root.strip("/") else ""
        below = [entry for entry in self.entries if entry.path.startswith(prefix)]
        return [item for item in below if recursive or "/" not in item.path[len(prefix) :]]


class HubFiles:
    """The repositories of one folder. Hashes are cached by size and modification time.

    ``stand_in`` returns the files that stand for a repository by its name; none for most.
    """

    def __init__(self, root: Path, stand_in: Callable[[str], Mapping[str, bytes]]) -> None:
        self._root, self._stand_in = root.resolve(), stand_in
        self._hashes: dict[Path, tuple[tuple[int, int], Hashes]] = {}

    def revisions(self, owner: str, name: str) -> list[str]:
        """Return the revisions of a repository, none if it does not exist."""
        if not (_is_name(owner) and _is_name(name)):
            return []
        others = sorted((self._root / owner).glob(f"{name}@*/"))
        found = [other.name.partition("@")[2] for other in others]
        if (self._root / owner / name).is_dir() or (not found and self._stand_in(name)):
            return ["master", *found]
        return found

    async def snapshot(self, owner: str, name: str, revision: str) -> RepositorySnapshot | None:
        """Return a revision, named by branch, tag or commit; None if there is none."""
        known = self.revisions(owner, name)
        wanted = "master" if revision in _DEFAULT_BRANCHES else revision
        if wanted in known:
            return await self._read(owner, name, wanted)
        for candidate in known:
            snapshot = await self._read(owner, name, candidate)
            if snapshot.commit == revision:
                return snapshot
        return None

    async def _read(self, owner: str, name: str, revision: str) -> RepositorySnapshot:
        folder = self._root / owner / (name if revision == "master" else f"{name}@{revision}")
        contents = {} if folder.is_dir() else self._stand_in(name)
        found = _entries_of(contents) if contents else self._entries(folder)
        entries = await asyncio.to_thread(lambda: sorted(found, key=_by_path))
        listing = hashlib.sha256()
        for entry in entries:
            if entry.hashes:
                line = f"{entry.path}\0{entry.size}\0{entry.hashes.sha256}\n"
                listing.update(line.encode("utf-8", "surrogateescape"))
        return RepositorySnapshot(folder, entries, listing.hexdigest()[:40], contents)

    def _entries(self, folder: Path, prefix: str = "") -> Iterator[Entry]:
        with os.scandir(folder / prefix) as found:
            for item in found:
                path = prefix + item.name
                if item.is_dir(follow_symlinks=False):
                    yield Entry(path, int(item.stat().st_mtime))
                    yield from self._entries(folder, f"{path}/")
                elif item.is_file():
                    status = item.stat()
                    hashes = self._hash(folder / path, (status.st_size, status.st_mtime_ns))
                    yield Entry(path, int(status.st_mtime), status.st_size, hashes)

    def _hash(self, path: Path, identity: tuple[int, int]) -> Hashes:
        known = self._hashes.get(path)
        if known and known[0] == identity:
            return known[1]
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % identity[0], usedforsecurity=False)
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                sha256.update(block)
                git.update(block)
        hashes = Hashes(sha256.hexdigest(), git.hexdigest())
        self._hashes[path] = (identity, hashes)
        return hashes


def _entries_of(contents: Mapping[str, bytes]) -> Iterator[Entry]:
    for path, content in contents.items():
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        hashes = Hashes(hashlib.sha256(content).hexdigest(), git.hexdigest())
        yield Entry(path, 0, len(content), hashes)


def _by_path(entry: Entry) -> str:
    return entry.path


def _is_name(name: str) -> bool:
    short = len(name.encode("utf-8", "replace")) <= _NAME_BYTES
    return short and name not in ("", ".", "..") and not set(name) & set("/\\@*?[\0")

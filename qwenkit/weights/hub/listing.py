"""What is in a source of weights: its files, and what every source can do.

ModelScope, Hugging Face and a folder look the same to the transfer engine: a ``Listing`` of files
with size and, where the hub states it, sha256, and a byte stream of any file from any offset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from qwenkit.errors import Rejected

MANIFEST_NAME = "qwenkit.json"


@dataclass(frozen=True)
class Source:
    """What the user named. ``revision`` is empty for a folder."""

    kind: Literal["modelscope", "hf", "folder"]
    name: str
    revision: str = ""

    def describe(self) -> str:
        """Return the source as the user would write it, revision included."""
        return self.name if self.kind == "folder" else f"{self.kind}:{self.name}@{self.revision}"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source; ``sha256`` is empty where the source does not state it."""

    path: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of one revision, sorted by path.

    ``revision`` is the hub's commit or, where none is named, a hash of the listing. It is empty
    for a folder, whose listing is known only once every file has been hashed.
    """

    source: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


class Reader(Protocol):
    """A stream of bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the start of ``buffer``; return how many bytes, 0 at the end."""
        ...


class Repository(Protocol):
    """One source, opened."""

    def listing(self) -> Listing:
        """Return the files of this revision."""
        ...

    def open(self, file: RemoteFile, offset: int = 0) -> AbstractContextManager[Reader]:
        """Stream the bytes of ``file`` from ``offset``, which lies before its end."""
        ...


def listed(source: str, files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Check and sort what a source lists; a ``qwenkit.json`` is ours and stays behind.

    Raises:
        Rejected: a path is listed twice, or would leave the prefix.
    """
    found: dict[str, RemoteFile] = {}
    for file in files:
        check_path(file.path, source)
        if file.path in found:
            raise Rejected(f"{source} lists {file.path!r} twice")
        found[file.path] = file
    found.pop(MANIFEST_NAME, None)
    return tuple(found[path] for path in sorted(found))


def check_path(path: str, source: str) -> None:
    """Refuse a path that is absolute, climbs, or that no object key can hold.

    A backslash is a letter like any other, on Linux, on macOS and within a key. OSS refuses it
    only at the start of a key, where the prefix stands.
    """
    unsafe = any(segment in ("", ".", "..") for segment in path.split("/"))
    control = any(ord(character) < 32 or character == "\x7f" for character in path)
    surrogate = any(0xD800 <= ord(character) < 0xE000 for character in path)
    if unsafe or control or surrogate:
        raise Rejected(
            f"{source} names a file {path!r}",
            "a path must be relative, stay inside the repository, and be printable UTF-8",
            "rename the file",
        )


def content_revision(files: Iterable[RemoteFile]) -> str:
    """Return the hash of a listing: equal files give an equal revision, wherever they lie."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path}\0{file.size}\0{file.sha256}\n".encode())
    return digest.hexdigest()[:40]

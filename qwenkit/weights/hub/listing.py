"""The files of a source of weights, and the interface of every source.

ModelScope, Hugging Face and a folder look the same to the transfer engine: a ``Listing`` of files
with size and, where the hub states it, sha256, and a byte stream of any file from any offset.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from qwenkit.capacity.catalogue import find_config
from qwenkit.errors import Rejected

MANIFEST_NAME = "qwenkit.json"
PATH_LIMIT = 1023  # OSS allows no longer keys
_SAME_SIZE = 0.5  # of the weights: with less, the files are not the model's


@dataclass(frozen=True)
class Source:
    """A source as the user named it. ``revision`` is empty for a folder."""

    kind: Literal["modelscope", "hf", "folder"]
    name: str
    revision: str = ""

    def describe(self) -> str:
        """Return the source as the user would write it, revision included."""
        return self.name if self.kind == "folder" else f"{self.kind}:{self.name}@{self.revision}"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source; ``sha256`` is empty where the source does not state it."""

    path: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of one revision, sorted by path.

    ``revision`` is the hub's commit or, if it names none, a hash of the listing. It is empty for
    a folder, until every file is hashed.
    """

    source: str
    revision: str
    files: tuple[SourceFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def stand_in(self) -> str:
        """Say that a small stand-in has the model's name; empty for the model itself.

        Empty too for a model whose size is not known here.
        """
        name = self.source.rstrip("/").rpartition("/")[2].partition("@")[0]
        known = find_config(name)
        weights = known.model().weights_bytes if known else 0.0
        if self.size >= _SAME_SIZE * weights:
            return ""
        return (
            f"a stand-in of {self.size / 1e6:.1f} MB under the name of {name}, whose weights are "
            f"{weights / 1e9:.1f} GB: the bytes are as real, the times are not"
        )


class ByteReader(Protocol):
    """A stream of bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the start of ``buffer``; return how many bytes, 0 at the end."""


class Repository(Protocol):
    """One source, opened."""

    def listing(self) -> Listing:
        """Return the files of this revision."""

    def open(self, file: SourceFile, offset: int = 0) -> AbstractContextManager[ByteReader]:
        """Stream the bytes of ``file`` from ``offset``, which is before its end."""

    def read_json(self, path: str, within_s: float) -> Any:
        """Return a small JSON file, which must be there after so many seconds."""


def listed(source: str, files: Iterable[SourceFile]) -> tuple[SourceFile, ...]:
    """Check and sort the files of a source; a ``qwenkit.json`` is ours and is left out.

    Raises:
        Rejected: a path is listed twice, or leads out of the prefix.
    """
    found: dict[str, SourceFile] = {}
    for file in files:
        check_path(file.path, source)
        if file.path in found:
            raise Rejected(
                f"{source} lists {file.path!r} twice",
                "one path is one object",
                "the hub is faulty: download the repository with git and upload the folder",
            )
        found[file.path] = file
    found.pop(MANIFEST_NAME, None)
    return tuple(found[path] for path in sorted(found))


def check_path(path: str, source: str) -> None:
    """Refuse a path that is absolute, contains ``..``, or cannot be an object key.

    A backslash is an ordinary character on Linux, on macOS and inside a key. OSS refuses it only
    at the start of a key, and there is the prefix.
    """
    unsafe = any(segment in ("", ".", "..") for segment in path.split("/"))
    # Control characters and surrogates.
    if unsafe or len(path) > PATH_LIMIT or {"Cc", "Cs"} & set(map(unicodedata.category, path)):
        raise Rejected(
            f"{source} names a file {shown(path)}",
            "a path must be relative, stay inside the repository, be printable UTF-8, and have "
            f"at most {PATH_LIMIT} characters",
            "rename the file",
        )


def shown(value: object) -> str:
    """Return a value of a server as it may be printed: short, and without control characters."""
    if not isinstance(value, str | int | float | None):
        return f"of type {type(value).__name__}"
    text = repr(value[:100] if isinstance(value, str) else value)
    cut = len(value) > 100 if isinstance(value, str) else len(text) > 100
    return f"{text[:100]}…" if cut else text


def content_revision(files: Iterable[SourceFile]) -> str:
    """Return the hash of a listing: equal files give an equal revision, from any source."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path}\0{file.size}\0{file.sha256}\n".encode())
    return digest.hexdigest()[:40]

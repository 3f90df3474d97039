"""Where the parts of an upload are written: at their offset in the whole, if it is known.

Clients cut a file into equal parts. The first part with a Content-Length fixes the stride;
part N of at most that length is written at (N - 1) strides of one shared file, which becomes
the object by a rename. Any other part (another length, a number sent twice, no length) gets its
own file, and completing the upload then copies.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from qwenkit.sandbox.oss.ledger import PartRecord

WHOLE = "whole"
_MOST_BYTES = 2**40  # file systems refuse larger files


@dataclass(frozen=True)
class PartSlot:
    """The place of one part: an open file, its name, and the offset of the part in it."""

    file: BinaryIO
    name: str
    start: int


@dataclass
class UploadLayout:
    """The places of one upload's parts. Used on the event loop's thread only."""

    folder: Path
    stride: int = 0
    taken: set[int] = field(default_factory=set)
    writing: int = 0

    @classmethod
    def of(cls, folder: Path, parts: Iterable[PartRecord]) -> UploadLayout:
        """Return the layout of parts that were written earlier."""
        shared = [part for part in parts if part.file == WHOLE]
        strides = [part.start // (part.number - 1) for part in shared if part.number > 1]
        stride = max(strides or [part.size for part in shared], default=0)
        return cls(folder, stride, {part.number for part in shared})

    @contextlib.contextmanager
    def slot(self, number: int, length: int | None) -> Iterator[PartSlot]:
        """Yield the place for a part of that many bytes; an error frees it."""
        if self._fits(number, length):
            with self._shared(number) as slot:
                yield slot
            return
        path = self.folder / f"{number:05}-{secrets.token_hex(4)}"
        try:
            with path.open("wb", buffering=0) as file:
                yield PartSlot(file, path.name, 0)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def is_whole(self, parts: Sequence[PartRecord]) -> bool:
        """Return whether the shared file begins with these parts and nothing writes to it."""
        end = 0
        for part in parts:
            if part.file != WHOLE or part.start != end:
                return False
            end += part.size
        return not self.writing

    def _fits(self, number: int, length: int | None) -> bool:
        self.stride = self.stride or length or 0
        fits = length is not None and length <= self.stride and number not in self.taken
        return fits and number * self.stride <= _MOST_BYTES

    @contextlib.contextmanager
    def _shared(self, number: int) -> Iterator[PartSlot]:
        start = (number - 1) * self.stride
        self.taken.add(number)
        self.writing += 1
        try:
            with (self.folder / WHOLE).open("r+b", buffering=0) as file:
                file.seek(start)
                yield PartSlot(file, WHOLE, start)
        except BaseException:
            self.taken.discard(number)
            raise
        finally:
            self.writing -= 1

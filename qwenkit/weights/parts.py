"""The parts of an object: their layout, buffers, request bodies and CRC-64."""

from __future__ import annotations

import base64
import hashlib
import queue
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import anycrc

from qwenkit.weights.retry import Stop

MAX_PARTS = 10_000
MIN_PART = 100 * 1024
SMALL = 1 << 20  # up to this size, latency limits a file's upload and not bandwidth
_SLICE = 1 << 19

_CRC = anycrc.Model("CRC64-XZ")


@dataclass(frozen=True)
class PartLayout:
    """An object of ``size`` bytes in parts numbered from 1, all but the last ``part_size`` long."""

    size: int
    part_size: int

    @classmethod
    def cut(cls, size: int, part_size: int) -> Self:
        """Cut an object into at most 10,000 parts, larger than requested if necessary."""
        return cls(size, max(part_size, -(-size // MAX_PARTS)))

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.size // self.part_size)

    def length(self, number: int) -> int:
        """Return the size of one part."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


@dataclass(frozen=True)
class Part:
    """A part that the server confirmed."""

    number: int
    etag: str
    crc64: int
    size: int


def crc64(data: memoryview | bytes, start: int = 0) -> int:
    """Return the CRC-64/XZ of ``data``, continuing from ``start``."""
    return int(_CRC.calc(data, start))


def md5_header(body: memoryview | bytes) -> dict[str, str]:
    """Return the header that lets the server refuse a body that was changed on its way."""
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}


def combine(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC of a whole from (crc, size) of its parts in order."""
    whole = 0
    for crc, size in parts:
        whole = int(_CRC.combine(whole, crc, size))
    return whole


class Buffers:
    """A fixed number of part buffers: an upper limit on the memory for part data.

    A buffer is allocated when it is first needed, and reused.
    """

    def __init__(self, count: int) -> None:
        self._free: queue.LifoQueue[bytearray] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(bytearray())

    def take(self, size: int, stop: Stop) -> bytearray:
        """Wait for a buffer of at least ``size`` bytes."""
        while True:
            stop.check()
            try:
                buffer = self._free.get(timeout=0.5)
            except queue.Empty:
                continue
            return buffer if len(buffer) >= size else bytearray(size)

    def give(self, buffer: bytearray) -> None:
        """Return a buffer."""
        self._free.put(buffer)


class SlicedBody:
    """A request body over a buffer, created again for every attempt.

    It is sent in slices, because a socket's timeout bounds each write: a part in one piece would
    have to be sent within the connect timeout, however slow the line.
    """

    def __init__(self, data: memoryview, stop: Stop, on_bytes: Callable[[int], None]) -> None:
        self._data, self._stop, self._on_bytes = data, stop, on_bytes

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        for start in range(0, len(self._data), _SLICE):
            self._stop.check()
            piece = self._data[start : start + _SLICE]
            yield piece
            self._on_bytes(len(piece))

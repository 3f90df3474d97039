"""Move bodies between sockets and files in constant memory, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anycrc
from aiohttp import StreamReader, web

# One trip to a worker thread per megabyte costs little and keeps the loop free.
BATCH_BYTES = 1 << 20
_CRC = anycrc.Model("CRC64-XZ")


@dataclass(frozen=True)
class Digest:
    """Facts of some bytes. ``md5`` is empty where it was not asked for."""

    size: int = 0
    crc: int = 0
    md5: bytes = b""


def combine(first: int, second: int, second_size: int) -> int:
    """Return the CRC of two byte strings one after the other, from theirs."""
    return int(_CRC.combine(first, second, second_size))


class _Sink:
    """Writes what it is given to a file (or nowhere) and keeps the running digests."""

    def __init__(self, file: BinaryIO | None, *, with_md5: bool) -> None:
        self._file = file
        self._size, self._crc = 0, 0
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None

    def take(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self._size += len(chunk)
            self._crc = int(_CRC.calc(chunk, self._crc))
            if self._md5:
                self._md5.update(chunk)
            if self._file:
                self._file.write(chunk)

    def digest(self) -> Digest:
        return Digest(self._size, self._crc, self._md5.digest() if self._md5 else b"")


async def receive(stream: StreamReader, path: Path, *, with_md5: bool = True) -> Digest:
    """Write a request's body to ``path``; the next batch arrives while one is written."""
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[None] | None = None
    with path.open("wb", buffering=0) as file:
        sink = _Sink(file, with_md5=with_md5)
        try:
            batch: list[bytes] = []
            held = 0
            async for chunk in stream.iter_any():
                batch.append(chunk)
                held += len(chunk)
                if held >= BATCH_BYTES:
                    await _done(writing)
                    writing = loop.run_in_executor(None, sink.take, batch)
                    batch, held = [], 0
            await _done(writing)
            sink.take(batch)
        except BaseException:
            # The thread must let go of the file before it is closed.
            if writing:
                await asyncio.wait([writing])
            raise
        return sink.digest()


async def _done(writing: asyncio.Future[None] | None) -> None:
    if writing:
        await asyncio.wait([writing])
        writing.result()


def digest_file(path: Path, *, with_md5: bool = True) -> Digest:
    """Digest a file's content. Blocks: call it in a thread."""
    sink = _Sink(None, with_md5=with_md5)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(BATCH_BYTES):
            sink.take([chunk])
    return sink.digest()


def copy_file(source: BinaryIO, path: Path, *, with_md5: bool = True) -> Digest:
    """Copy an open file to ``path``. Blocks."""
    with path.open("wb", buffering=0) as file:
        sink = _Sink(file, with_md5=with_md5)
        while chunk := source.read(BATCH_BYTES):
            sink.take([chunk])
    return sink.digest()


def append(base: Path, size: int, others: Sequence[Path]) -> None:
    """Append files to the first ``size`` bytes of ``base``, in place. Blocks.

    Cutting ``base`` first makes a second attempt after a killed one right.
    """
    with base.open("r+b", buffering=0) as whole:
        whole.truncate(size)
        whole.seek(size)
        for other in others:
            with other.open("rb", buffering=0) as source:
                _pour(source, whole)


def _pour(source: BinaryIO, target: BinaryIO) -> None:
    # Linux copies within the kernel, ten times faster where blocks can be shared. Both file
    # positions follow, so the plain loop takes over wherever that stops.
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):
            while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
                pass
    while chunk := source.read(BATCH_BYTES):
        target.write(chunk)


async def send(response: web.StreamResponse, file: BinaryIO, start: int, length: int) -> None:
    """Write ``length`` bytes of an open file from ``start`` to a prepared response."""
    file.seek(start)
    while length:
        chunk = await asyncio.to_thread(file.read, min(BATCH_BYTES, length))
        if not chunk:  # the file shrank: the client must not take this for the whole
            raise ConnectionResetError("file became shorter while it was sent")
        await response.write(chunk)
        length -= len(chunk)

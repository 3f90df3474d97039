"""Move bodies between sockets and files in constant memory, off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anycrc
from aiohttp import StreamReader, web

# One trip to a worker thread per megabyte costs little and keeps the loop free.
BATCH_BYTES = 1 << 20
# All bodies that arrive now hold no more than this in memory, and one piece each.
_BATCHES_BYTES = 1 << 26
_CRC = anycrc.Model("CRC64-XZ")


@dataclass(frozen=True)
class Digest:
    """Size and checksums of some bytes. ``md5`` is empty if it was not computed."""

    size: int = 0
    crc: int = 0
    md5: bytes = b""


def combine(first: int, second: int, second_size: int) -> int:
    """Return the CRC of two byte strings one after the other, from their CRCs."""
    return int(_CRC.combine(first, second, second_size))


class _Sink:
    """Writes chunks to a file (or nowhere) and computes their digests."""

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


_arriving: set[_Sink] = set()


async def receive(stream: StreamReader, file: BinaryIO, *, with_md5: bool = True) -> Digest:
    """Write a request's body to an open file; the next batch arrives while one is written."""
    loop = asyncio.get_running_loop()
    sink = _Sink(file, with_md5=with_md5)
    writing: asyncio.Future[None] | None = None
    batch: list[bytes] = []
    held = 0
    _arriving.add(sink)
    try:
        async for chunk in stream.iter_any():
            batch.append(chunk)
            held += len(chunk)
            if held >= min(BATCH_BYTES, _BATCHES_BYTES // len(_arriving)):
                await _done(writing)
                writing = loop.run_in_executor(None, sink.take, batch)
                batch, held = [], 0
        await _done(writing)
    except BaseException:
        # The thread must be done with the file before the caller closes it.
        if writing:
            await asyncio.wait([writing])
        raise
    finally:
        _arriving.discard(sink)
    sink.take(batch)
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


def copy(source: BinaryIO, target: BinaryIO, *, with_md5: bool = True) -> Digest:
    """Copy the rest of one open file to another. Blocks."""
    sink = _Sink(target, with_md5=with_md5)
    while chunk := source.read(BATCH_BYTES):
        sink.take([chunk])
    return sink.digest()


def concatenate(slices: Iterable[tuple[Path, int, int]], target: Path) -> None:
    """Write slices of files (path, start, size) one after the other to ``target``. Blocks."""
    with target.open("wb", buffering=0) as whole:
        for path, start, size in slices:
            with path.open("rb", buffering=0) as source:
                source.seek(start)
                while size:
                    chunk = source.read(min(BATCH_BYTES, size))
                    if not chunk:
                        raise OSError(f"{path} ends before its part does")
                    whole.write(chunk)
                    size -= len(chunk)


async def send_file(
    request: web.Request,
    file: BinaryIO,
    size: int,
    wanted: tuple[int, int] | None,
    headers: Mapping[str, str],
    *,
    partial_status: int = 206,
) -> web.StreamResponse:
    """Answer with an open file of that size, or with one range of it: its first and last byte.

    If the client leaves, or the file becomes shorter, the connection is broken: no client must
    take an incomplete body for a whole one.
    """
    start, end = wanted or (0, size - 1)
    length = end - start + 1
    response = web.StreamResponse(status=partial_status if wanted else 200, headers=headers)
    response.headers["Content-Length"] = str(length)
    if wanted:
        response.headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    try:
        await response.prepare(request)
        file.seek(start)
        while length and request.method != "HEAD":
            chunk = await asyncio.to_thread(file.read, min(BATCH_BYTES, length))
            if not chunk:
                raise ConnectionAbortedError
            await response.write(chunk)
            length -= len(chunk)
        await response.write_eof()
    except ConnectionError:
        if request.transport:
            request.transport.abort()
    return response

"""Read a file that a person names: whatever it is, within a size and a time."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import select
import stat
import time
import zlib
from pathlib import Path

MOST_BYTES = 2**20
_PIPE_S = 10.0
_CHUNK = 2**16
_GZIP = b"\x1f\x8b"


def read_file(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file or of a pipe such as ``<(command)``.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more than ``most`` bytes, or is a pipe that is empty or does not end.
    """
    # Opening a named pipe waits for its writer, and a device may never end.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(opened, "rb", buffering=0) as file:
        content, end = bytearray(), time.monotonic() + _PIPE_S
        while len(content) <= most:
            if not select.select([file], [], [], max(0.0, end - time.monotonic()))[0]:
                raise ValueError(f"it did not end within {_PIPE_S:.0f} s")
            if not (chunk := file.read(_CHUNK)):
                break
            content += chunk
        if len(content) > most:
            raise ValueError(f"it has more than {most:,} bytes")
        if not content and stat.S_ISFIFO(os.fstat(opened).st_mode):
            raise ValueError("it is a pipe, and nothing writes to it")
    return bytes(content)


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """Return a file's text, without a byte order mark.

    Raises:
        OSError, ValueError: as for ``read_file``; also, it is not UTF-8.
    """
    content = read_file(path, most=most)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error.reason} at byte {error.start}") from None


def unzipped(content: bytes, *, most: int) -> bytes:
    """Return what a gzip file holds; other content is returned as it is.

    Raises:
        ValueError: it is damaged, or holds more than ``most`` bytes.
    """
    if not content.startswith(_GZIP):
        return content
    try:
        found = gzip.GzipFile(fileobj=io.BytesIO(content)).read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"it is a damaged gzip file: {error}") from None
    if len(found) > most:
        raise ValueError(f"unzipped it has more than {most:,} bytes")
    return found

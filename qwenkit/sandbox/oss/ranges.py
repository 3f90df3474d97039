"""The Range header as OSS reads it, which differs from HTTP."""

from __future__ import annotations

import re

from qwenkit.sandbox.oss.errors import OssError


def requested(header: str, size: int, *, standard: bool = False) -> tuple[int, int] | None:
    """Return first and last byte to send, None for the whole object with status 200.

    A range that is not within the object is ignored, unless the client asks for ``standard``
    behaviour (header ``x-oss-range-behavior: standard``). Of several ranges the first is used.

    Raises:
        OssError: InvalidRange, in standard behaviour only.
    """
    found = re.match(r"bytes=(\d{0,19})-(\d{0,19})(?:,|$)", header.replace(" ", ""), re.ASCII)
    if not found or not any(found.groups()):
        return None
    start, end = _bounds(found[1], found[2], size)
    if start > end:
        return None
    if start >= 0 and end < size:
        return start, end
    if not standard:
        return None
    if start >= size:
        raise OssError("InvalidRange", ActualObjectSize=str(size), RangeRequested=header)
    return max(start, 0), min(end, size - 1)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return size - int(last), size - 1
    start = int(first)
    return start, int(last) if last else max(size - 1, start)

"""Whether the header of a safetensors file is consistent with the file's size.

Layout: 8 bytes little-endian length N, N bytes of JSON, then the tensors without gaps. The sandbox
reads the same layout in ``sandbox/engine/safetensors.py``: it must not import this package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from qwenkit.weights.hub.listing import shown

# Bits per element. Of other types only the position is checked.
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16,
    "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
_HEADER_LIMIT = 24 << 20  # bytes: 400,000 tensors, which take 400 MB to read; the format has 100 MB
_DIMENSIONS = 64


class HeaderError(ValueError):
    """The header is wrong; the caller adds the file's name."""


def read_header(size: int, fetch: Callable[[int, int], bytes]) -> frozenset[str]:
    """Return the names of the tensors of a file; ``fetch(start, count)`` returns its bytes.

    Raises:
        HeaderError: header and size contradict each other.
    """
    length = int.from_bytes(fetch(0, 8), "little") if size >= 8 else 0
    if not 2 <= length <= size - 8:
        raise HeaderError("is no safetensors file: its first 8 bytes are no header length")
    if length > _HEADER_LIMIT:
        raise HeaderError(f"has a header of {length} bytes; at most {_HEADER_LIMIT} are read")
    try:
        header = json.loads(fetch(8, length))
        header.pop("__metadata__", None)
        tensors = {str(name): _place(entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HeaderError(f"has a broken safetensors header: {shown(str(error))}") from None
    end = 0
    for name, (start, stop) in sorted(tensors.items(), key=lambda item: item[1]):
        if start != end:
            raise HeaderError(f"has a gap or an overlap before tensor {shown(name)}")
        end = stop
    if end != size - 8 - length:
        raise HeaderError(f"holds {size - 8 - length} bytes of tensors instead of {end}")
    return frozenset(tensors)


def _place(entry: dict[str, Any]) -> tuple[int, int]:
    start, stop = entry["data_offsets"]
    shape, bits = entry["shape"], _BITS.get(entry["dtype"])
    numbers = (start, stop, *shape)
    if len(shape) > _DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
        raise ValueError("offsets and shape must be whole numbers")
    wanted = math.prod(shape) * bits // 8 if bits else stop - start
    if stop - start != wanted:
        raise ValueError(f"{entry['dtype']} {shape} does not take {stop - start} bytes")
    return start, stop

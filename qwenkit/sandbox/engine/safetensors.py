"""Read the tensors of a safetensors file: header length, header in JSON, tensors end to end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_HEADER = 100_000_000
# numpy has no bfloat16: its bits are read as integers, see _values.
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True)
class _Place:
    kind: str
    shape: tuple[int, ...]
    first: int
    last: int


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """Return a file's tensors by name, as views of ``data``; bfloat16 comes as float32.

    Raises:
        ValueError: the header is broken or does not match the file; the message is the error
            name of the safetensors library.
    """
    start, places = _header(data)
    end = 0
    for name, place in sorted(places.items(), key=lambda item: item[1].first):
        if place.first != end:
            raise ValueError(f'InvalidOffset("{name}")')
        if place.last - end != prod(place.shape) * np.dtype(_TYPES[place.kind]).itemsize:
            raise ValueError("TensorInvalidInfo")
        end = place.last
    if start + end != len(data):
        raise ValueError("MetadataIncompleteBuffer")
    return {name: _values(data, start, place) for name, place in places.items()}


def _header(data: bytes) -> tuple[int, dict[str, _Place]]:
    """Return the offset of the tensors, and the place of each one from there."""
    if len(data) < 8:
        raise ValueError("HeaderTooSmall")
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER:
        raise ValueError("HeaderTooLarge")
    if 8 + length > len(data):
        raise ValueError("InvalidHeaderLength")
    try:
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        return 8 + length, {name: _place(entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("InvalidHeaderDeserialization") from None


def _place(entry: dict[str, Any]) -> _Place:
    first, last = entry["data_offsets"]
    sizes = (*entry["shape"], first, last)
    if not all(type(size) is int and size >= 0 for size in sizes) or entry["dtype"] not in _TYPES:
        raise ValueError
    return _Place(entry["dtype"], tuple(entry["shape"]), first, last)


def _values(data: bytes, start: int, place: _Place) -> NDArray[Any]:
    count = prod(place.shape)
    kind = np.dtype(_TYPES[place.kind])
    values: NDArray[Any] = np.frombuffer(data, kind, count, start + place.first)
    if place.kind == "BF16":
        # The upper half of a float32.
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(place.shape)

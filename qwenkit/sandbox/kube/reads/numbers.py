"""Integers in requests, read as Go's ``strconv`` reads them."""

from __future__ import annotations

import re

from qwenkit.sandbox.kube.api_error import bad_request

_SHOWN = 60


def integer(text: str, *, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """Return the integer that a parameter stands for; by default one of 64 bits.

    Raises:
        ApiError: 400, in Go's words.
    """
    function = "ParseUint" if low == 0 else "ParseInt"
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if not re.fullmatch("[0-9]+" if low == 0 else "[+-]?[0-9]+", text):
        raise bad_request(f'strconv.{function}: parsing "{shown}": invalid syntax')
    digits = text.lstrip("+-0") or "0"
    # Python refuses to read thousands of digits.
    value = int(digits) if len(digits) <= len(str(high)) else high + 1
    value = -value if text.startswith("-") else value
    if not low <= value <= high:
        raise bad_request(f'strconv.{function}: parsing "{shown}": value out of range')
    return value

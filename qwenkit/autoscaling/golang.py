"""How Go parses numbers and durations.

Knative reads its annotations with Go's ``strconv`` and ``time`` packages, so ``+2`` is an
integer, ``2.0`` is not, and ``60`` is not a duration. Source of the grammar: the Go
documentation of ``strconv.ParseInt``, ``strconv.ParseFloat`` and ``time.ParseDuration``.
All functions raise ``ValueError`` on text that Go refuses.
"""

from __future__ import annotations

import math
import re

_INT = re.compile(r"[+-]?[0-9]+")
_D, _H = r"[0-9](?:_?[0-9])*", r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"  # one _ between digits is valid
_DEC_FLOAT = re.compile(rf"[+-]?({_D}\.?({_D})?|\.{_D})([eE][+-]?{_D})?")
_HEX_FLOAT = re.compile(rf"[+-]?0[xX](_?{_H}\.?({_H})?|\.{_H})[pP][+-]?{_D}")
_SPECIAL = re.compile(r"[+-]?(inf|infinity)|nan", re.IGNORECASE)
_TERM = re.compile(r"(?=\.?[0-9])([0-9]*)\.?([0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_INT64 = 2**63


def parse_int(text: str, *, bits: int = 32) -> int:
    """Parse a base-10 integer that fits ``bits`` signed bits."""
    if not _INT.fullmatch(text):
        raise ValueError(f"{text!r} is not an integer")
    value = int(text)
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError(f"{text!r} does not fit {bits} bits")
    return value


def parse_float(text: str) -> float:
    """Parse a float; ``NaN`` and infinities are accepted, as Go accepts them."""
    if _SPECIAL.fullmatch(text):
        return float(text)
    digits = text.replace("_", "")
    if _DEC_FLOAT.fullmatch(text):
        value = float(digits)
    elif _HEX_FLOAT.fullmatch(text):
        value = _from_hex(text, digits)
    else:
        raise ValueError(f"{text!r} is not a number")
    if math.isinf(value):
        raise ValueError(f"{text!r} is too large for a 64-bit float")
    return value


def _from_hex(text: str, digits: str) -> float:
    try:
        return float.fromhex(digits)
    except OverflowError:
        raise ValueError(f"{text!r} is too large for a 64-bit float") from None


def parse_duration_ns(text: str) -> int:
    """Parse a duration such as ``1m30s`` into whole nanoseconds."""
    sign, body = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    total, at = 0, 0
    while at < len(body):
        term = _TERM.match(body, at)
        if term is None:
            raise ValueError(f"{text!r} is not a duration such as 60s or 1m30s")
        total += _term_ns(*term.groups())
        at = term.end()
    if not body or not -_INT64 <= sign * total < _INT64:
        raise ValueError(f"{text!r} is not a duration such as 60s or 1m30s")
    return sign * total


def _term_ns(whole: str, fraction: str, unit: str) -> int:
    while fraction and int(fraction) > _INT64:  # Go ignores the digits that overflow
        fraction = fraction[:-1]
    part = float(int(fraction or 0)) * (_UNIT_NS[unit] / 10 ** len(fraction))
    return int(whole or 0) * _UNIT_NS[unit] + int(part)


def parse_duration_s(text: str) -> float:
    """Parse a duration into seconds."""
    return parse_duration_ns(text) / 1e9

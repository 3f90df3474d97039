"""Kubernetes quantities (``500m``, ``16Gi``): parse, compare, print in canonical form."""

from __future__ import annotations

import json
import re
from fractions import Fraction

_SHAPE = re.compile(r"([+-]?)([0-9]*)(\.[0-9]*)?([eEinumkKMGTP]*[+-]?[0-9]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_WRONG = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_GREATEST = 2**63 - 1
_INT64_DIGITS, _NANO = 18, -9
_MOST_DIGITS = 1000  # no quantity needs more; a billion digits would take minutes


def parse(value: object) -> Fraction:
    """Return the number that a text or JSON number means; parts under a nano are rounded up.

    Raises:
        ValueError: not a quantity; the message is Kubernetes' own.
    """
    return _parse(_text(value))[0]


def canonical(value: object) -> str:
    """Print a quantity as Kubernetes stores it: ``1024Mi`` becomes ``1Gi``, ``0.5`` ``500m``.

    Raises:
        ValueError: not a quantity; the message is Kubernetes' own.
    """
    text = _text(value)
    number, suffix = _parse(text)
    if _is_kept(text):
        return text
    if suffix in _BINARY and number.denominator == 1 and abs(number) >= 1024:
        return _print_binary(int(number))
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return _print_scaled(
            number, {f"e{power}" if power else "": power for power in range(-9, 19, 3)}
        )
    return _print_scaled(number, _DECIMAL)


def _text(value: object) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).strip()


def _is_kept(text: str) -> bool:
    """Return whether Kubernetes keeps a quantity as written, as it does ``+1`` and ``1E3``."""
    _, whole, fraction, suffix = _split(text)
    whole, fraction = whole.lstrip("0") or "0", fraction[1:]
    digits = whole + fraction
    if suffix in _BINARY:
        return not fraction and len(digits) < 15 - 3 * _BINARY[suffix] and int(digits) % 8 != 0
    power = _DECIMAL[suffix] if suffix in _DECIMAL else _exponent(suffix)
    scale = power - len(fraction)
    precise = len(digits) <= _INT64_DIGITS and scale >= _NANO
    return precise and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def _split(text: str) -> tuple[str, str, str, str]:
    match = _SHAPE.fullmatch(text)
    if match is None or not text:
        raise ValueError(_WRONG)
    sign, whole, fraction, suffix = match.groups("")
    return sign, whole, fraction, suffix


def _parse(text: str) -> tuple[Fraction, str]:
    sign, whole, fraction, suffix = _split(text)
    number = Fraction(f"{whole or 0}.{fraction[1:] or 0}") * _scale(suffix)
    nano = -(-number * 10**9 // 1)
    number = Fraction(nano, 10**9)
    if suffix in _BINARY and number > _GREATEST:
        number, suffix = Fraction(_GREATEST), ""
    return (-1 if sign == "-" else 1) * number, suffix


def _scale(suffix: str) -> Fraction:
    if suffix in _BINARY:
        return Fraction(1024 ** _BINARY[suffix])
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix]
    return Fraction(10) ** _exponent(suffix)


def _exponent(suffix: str) -> int:
    if not re.fullmatch("[eE][+-]?[0-9]+", suffix):
        raise ValueError("unable to parse quantity's suffix")
    return max(-_MOST_DIGITS, min(int(suffix[1:]), _MOST_DIGITS))


def _print_binary(number: int) -> str:
    suffix = ""
    for name in _BINARY:
        if number % 1024:
            break
        number, suffix = number // 1024, name
    return f"{number}{suffix}"


def _print_scaled(number: Fraction, powers: dict[str, int]) -> str:
    if number == 0:
        return "0"
    for suffix, power in sorted(powers.items(), key=lambda item: -item[1]):
        scaled = number / Fraction(10) ** power
        if scaled.denominator == 1:
            return f"{int(scaled)}{suffix}"
    return str(number)

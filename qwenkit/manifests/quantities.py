"""Kubernetes quantities (``500m``, ``16Gi``): parse, compare, print in canonical form."""

from __future__ import annotations

import re
from fractions import Fraction

_SHAPE = re.compile(r"([+-]?)([0-9]*\.?[0-9]*)([eE][+-]?[0-9]+|[a-zA-Z]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_WRONG = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_BAD_SUFFIX = "unable to parse quantity's suffix"


def parse(text: str) -> Fraction:
    """Return the number that ``text`` means; parts under a nano are rounded up.

    Raises:
        ValueError: not a quantity; the message is Kubernetes' own.
    """
    return _parse(text)[0]


def canonical(text: str) -> str:
    """Print a quantity as Kubernetes stores it: ``1024Mi`` becomes ``1Gi``, ``0.5`` ``500m``.

    Raises:
        ValueError: not a quantity.
    """
    number, suffix = _parse(text)
    if suffix in _BINARY and number.denominator == 1 and abs(number) >= 1024:
        return _print_binary(int(number))
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return _print_scaled(
            number, {f"e{power}" if power else "": power for power in range(-9, 19, 3)}
        )
    return _print_scaled(number, _DECIMAL)


def _parse(text: str) -> tuple[Fraction, str]:
    match = _SHAPE.fullmatch(text)
    if match is None or not text:
        raise ValueError(_WRONG)
    sign, digits, suffix = match.groups()
    if not digits.strip(".") and (suffix or not sign):
        raise ValueError(_WRONG)
    scale = _scale(suffix)
    number = Fraction(digits if digits.strip(".") else "0") * scale
    nano = -(-number * 10**9 // 1)
    return (-1 if sign == "-" else 1) * Fraction(nano, 10**9), suffix


def _scale(suffix: str) -> Fraction:
    if suffix in _BINARY:
        return Fraction(1024 ** _BINARY[suffix])
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix]
    if re.fullmatch("[eE][+-]?[0-9]+", suffix):
        return Fraction(10) ** int(suffix[1:])
    if not re.fullmatch("[eEinumkKMGTP]*", suffix):
        raise ValueError(_WRONG)
    raise ValueError(_BAD_SUFFIX)


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

"""The faults that Knative's webhooks find, and how they merge, sort and print them.

Knative's ``apis.FieldError``. The API server's errors are in ``field_errors``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

HERE = ""  # the path of a fault at the field itself
_MAX_INT32 = 2**31 - 1
_ESCAPES = dict(zip('"\\\a\b\f\n\r\t\v', map("\\{}".format, '"\\abfnrtv'), strict=True))


@dataclass(frozen=True)
class Fault:
    """One message and the paths of the fields that it concerns."""

    message: str
    paths: tuple[str, ...] = ()
    details: str = ""


Faults = Iterator[Fault]
Object = Mapping[str, Any]  # an object, or a part of one


def via(faults: Iterable[Fault], *prefix: str) -> list[Fault]:
    """Put ``prefix`` before every path; ``[0]`` joins the part before it."""
    return [
        replace(fault, paths=tuple(_flatten((*prefix, path)) for path in fault.paths))
        for fault in faults
    ]


def text(faults: Iterable[Fault]) -> str:
    """Print faults: equal messages share their paths, sorted by message, one line each."""
    merged: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        paths = merged.setdefault((fault.message, fault.details), [])
        paths.extend(path for path in fault.paths if path not in paths)
    return "\n".join(
        f"{message}: {', '.join(sorted(paths))}" + (f"\n{details}" if details else "")
        for (message, details), paths in sorted(merged.items())
    )


def missing(*paths: str) -> Fault:
    """A required field is absent."""
    return Fault("missing field(s)", paths)


def disallowed(*paths: str) -> Fault:
    """A field is set that must not be set."""
    return Fault("must not set the field(s)", paths)


def masked(obj: Mapping[str, object], *forbidden: str) -> list[Fault]:
    """Refuse the fields of ``forbidden`` that are set, in one fault."""
    found = sorted(name for name in forbidden if name in obj)
    return [disallowed(*found)] if found else []


def invalid(value: object, path: str, *details: str) -> Fault:
    """A field has a value that is not allowed."""
    return Fault(f"invalid value: {value}", (path,), ", ".join(details))


def invalid_key(key: str, path: str, *details: str) -> Fault:
    """A key of a map is not allowed there."""
    return Fault(f'invalid key name "{key}"', (path,), ", ".join(details))


def missing_one_of(*paths: str) -> Fault:
    """None of several exclusive fields is set."""
    return Fault("expected exactly one, got neither", paths)


def multiple_one_of(*paths: str) -> Fault:
    """More than one of several exclusive fields is set."""
    return Fault("expected exactly one, got both", paths)


def out_of_bounds(value: object, low: object, high: object, path: str) -> Fault:
    """A number or duration is out of range."""
    return Fault(f"expected {low} <= {value} <= {high}", (path,))


def below(value: int, low: int, path: str) -> Fault:
    """An int32 is below its least value."""
    return out_of_bounds(value, low, _MAX_INT32, path)


def go_quoted(text: str) -> str:
    """Quote a string as Go's ``%q`` does."""
    return f'"{"".join(_escaped(letter) for letter in text)}"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter == " " or (letter.isprintable() and not letter.isspace()):
        return letter
    code = ord(letter)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_float(value: float) -> str:
    """Print a float as Go's ``%v`` does."""
    if not math.isfinite(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    if value == 0 or 1e-4 <= abs(value) < 1e21:
        plain = format(Decimal(repr(value)), "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    digits, exponent = f"{Decimal(repr(value)).normalize():e}".split("e")
    return f"{digits}e{exponent[0]}{exponent[1:].zfill(2)}"


def _flatten(parts: tuple[str, ...]) -> str:
    joined: list[str] = []
    for part in ".".join(parts).split("."):
        if part == HERE:
            continue
        if joined and part.startswith("[") and part.endswith("]"):
            joined[-1] += part
        else:
            joined.append(part)
    return ".".join(joined)

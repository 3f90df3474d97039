"""How wide a text is in a terminal."""

from __future__ import annotations

import re
import unicodedata

# A Chinese letter or a word, with what may not begin a line.
_PARTS = re.compile(r"(?:[^\s\u2e80-\uffef]+|[\u2e80-\uffef])[、-】！），．：；？]*\s*")


def columns(text: str) -> int:
    """Return how many columns a text takes: a Chinese letter takes two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text that are at most ``width`` columns; Chinese breaks anywhere."""
    lines = [""]
    for part in _PARTS.findall(text):
        if lines[-1] and columns(lines[-1] + part.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    lines[-1] = lines[-1].rstrip()
    return lines


def padded(text: str, width: int) -> str:
    """Return a text with blanks behind it, up to a width in columns."""
    return text + " " * (width - columns(text))

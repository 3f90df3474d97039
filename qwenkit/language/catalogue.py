"""Finds the Chinese of a finished English text.

Code writes f-strings, and the catalogue holds their templates: ``"the {0} {1} does not exist"``.
The template that a text was made from is found again by its words. The values in its holes are
translated in turn: they may be messages themselves. Names and numbers have no entry, and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from string import Formatter

from qwenkit.language.width import columns, padded

# How texts are put together, and how their parts stand together in Chinese.
_JOINTS = (("\n", "\n"), (". ", "。"), ("; ", "；"), (": ", "："), (", ", "，"))
_GAP = re.compile(r"( {2,})")
_WORD = re.compile(r"\w+")
# A word that no hole touches: it would be the half of one.
_WHOLE = re.compile(r"(?<![\w{}])\w+(?![\w{}])")
_HOLE = re.compile(r"\{\d+\}")
_LETTER = re.compile(r"[A-Za-z]")
# With fewer letters a template, such as "{0} of {1}", is found in any sentence: then its values
# must be single words, or known themselves.
_TELLING = 8


class Template:
    """A text with holes, and its Chinese: both as in ``str.format``."""

    def __init__(self, english: str, chinese: str) -> None:
        parts = [(text, hole) for text, hole, *_ in Formatter().parse(english)]
        self.chinese = chinese
        self.size = sum(len(text) for text, _ in parts)
        self.letters = sum(len(_LETTER.findall(text)) for text, _ in parts)
        holes = (re.escape(text) + ("" if hole is None else "(.*?)") for text, hole in parts)
        self._pattern = re.compile("".join(holes), re.DOTALL)

    def values(self, text: str) -> tuple[str, ...] | None:
        """Return the values that make the text of this template; None if none do."""
        found = self._pattern.fullmatch(text)
        return found.groups() if found else None


class Catalogue:
    """English texts and templates, and their Chinese."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._exact: dict[str, str] = {}
        # By the longest word that every text of a template holds; compiled when one is needed.
        self._near: dict[str, list[str]] = {}
        for english, chinese in entries.items():
            if _HOLE.search(english):
                word = max(_WHOLE.findall(english), key=len, default="")
                self._near.setdefault(word, []).append(english)
            elif "{" in english:
                self._exact[english.format()] = chinese.format()
            else:
                self._exact[english] = chinese
        self._template = lru_cache(None)(lambda english: Template(english, entries[english]))
        self.said = lru_cache(4096)(self._said)

    def _said(self, text: str) -> str:
        core = text.strip()
        if core in self._exact:
            return text.replace(core, self._exact[core], 1)
        if not _LETTER.search(core):
            return text
        found = self._filled(core) or self._in_columns(core) or self._joined(core)
        return text.replace(core, found, 1) if found else text

    def _filled(self, text: str) -> str:
        """Return the Chinese by the template with the most literal text; empty if none fits."""
        words = {"", *_WORD.findall(text)}
        near = (self._template(one) for word in words for one in self._near.get(word, ()))
        for template in sorted(near, key=lambda one: -one.size):
            values = template.values(text)
            if values is None:
                continue
            new = [self.said(value) for value in values]
            if template.letters >= _TELLING or all(
                a != b or " " not in a for a, b in zip(values, new, strict=True)
            ):
                return template.chinese.format(*new)
        return ""

    def _in_columns(self, text: str) -> str:
        """Translate a line's columns one by one; each begins where it began, if there is room."""
        if "\n" in text or "  " not in text:
            return ""
        *parts, last = _GAP.split(text)
        line, place = "", 0
        for cell, gap in zip(parts[::2], parts[1::2], strict=True):
            place += columns(cell + gap)
            line = padded(line + self.said(cell) + "  ", place)
        return line + self.said(last)

    def _joined(self, text: str) -> str:
        """Translate what is put together of several texts, part by part; empty if none is known."""
        for joint, chinese in _JOINTS:
            parts = text.split(joint)
            if len(parts) == 1:
                continue
            new = [self.said(part) for part in parts]
            if new != parts:
                return chinese.join(new)
        return ""


@lru_cache(1)
def chinese() -> Catalogue:
    """Return the catalogue of the package; it is read once."""
    return Catalogue(entries(files("qwenkit.language").joinpath("zh.toml").read_text("utf-8")))


def entries(text: str) -> dict[str, str]:
    """Return the entries of a catalogue, one a line: ``"English" = "Chinese"``.

    It is TOML whose strings are JSON too, which Python reads many times faster.
    """
    lines = (line for line in text.splitlines() if line.startswith('"'))
    found: dict[str, str] = json.loads(
        "{" + ",".join(line.replace('" = "', '": "', 1) for line in lines) + "}"
    )
    return found

"""Finds the Chinese of a finished English text.

Code writes f-strings, and the catalogue holds their templates: ``"the {0} {1} does not exist"``.
The template that a text was made from is found again by its words. The values in its holes are
translated in turn: they may be messages themselves. Names and numbers have no entry, and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from string import Formatter

from qwenkit.language.width import columns, padded

# How texts are put together, and how their parts stand together in Chinese.
_JOINTS = {"\n": "\n", ". ": "。", "; ": "；", ": ": "：", ", ": "，"}
_GAP = re.compile(r"( {2,})")
_BRACKETS = re.compile(r"(.+) \((.+)\)", re.DOTALL)
_WORD = re.compile(r"\w+")
# A word that no hole touches: it would be the half of one.
_WHOLE = re.compile(r"(?<![\w{}])\w+(?![\w{}])")
_HOLE = re.compile(r"\{\d+\}")
# Between Chinese and Chinese stands no blank; a value was put there that is Chinese.
_APART = re.compile(r"(?<=[\u3001-\u9fff\uff00-\uffef]) (?=[\u3001-\u9fff\uff00-\uffef])")
_LABEL = re.compile(r"[^{]+: \{0\}")
_LETTER = re.compile(r"[A-Za-z]")
_SENTENCE = re.compile(
    r"[A-Za-z][,.:;]? [A-Za-z]{2}|[A-Za-z]{2}[,.:;]? [A-Za-z]"
)  # else a name or a number
# With fewer letters a template, such as "{0} of {1}", is found in any sentence: then its values
# must be names, numbers or known texts.
_TELLING = 12
_UNKNOWN = 100  # the cost of a letter of a sentence that stays English


_Found = tuple[str, int] | None


class _Value(str):
    """A translated value; ``{0!s}`` in the Chinese stands for the value as it was: a name."""

    raw: str

    def __str__(self) -> str:
        return self.raw

    def __format__(self, _: str) -> str:
        return self[:]


class Template:
    """A text with holes, and its Chinese: both as in ``str.format``."""

    def __init__(self, english: str, chinese: str) -> None:
        parts = [(text, hole) for text, hole, *_ in Formatter().parse(english)]
        self.chinese = chinese
        self.size = sum(len(text) for text, _ in parts)
        letters = sum(len(_LETTER.findall(text)) for text, _ in parts)
        self.tells = letters >= _TELLING or bool(_LABEL.fullmatch(english))
        # One line, unless the text has several. The first hole takes as little as it can, or as
        # much: a value may hold what stands behind it.
        lines = re.DOTALL if "\n" in english else 0
        self._patterns = [
            re.compile("".join(re.escape(t) + ("" if h is None else hole) for t, h in parts), lines)
            for hole in ("(.*?)", "(.*)")
        ]

    def filled(self, values: Iterable[str], new: Iterable[str]) -> str:
        """Return the Chinese with translated values."""
        both = [_Value(each) for each in new]
        for value, raw in zip(both, values, strict=True):
            value.raw = raw
        return self.chinese.format(*both)

    def values(self, text: str) -> Iterator[tuple[str, ...]]:
        """Yield the values that make the text of this template."""
        found = (pattern.fullmatch(text) for pattern in self._patterns)
        yield from dict.fromkeys(match.groups() for match in found if match)


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
        self._best = lru_cache(8192)(self._find)

    def said(self, text: str) -> str:
        """Return the Chinese of a text; what is not known of it stays."""
        return self._best(text)[0]

    def _find(self, text: str) -> tuple[str, int]:
        """Return the Chinese, and what it costs: the reading that leaves least English wins."""
        core = text.strip()
        if core in self._exact:
            return text.replace(core, self._exact[core], 1), 0
        letters = len(_LETTER.findall(core))
        if not letters:
            return text, 0
        unknown = _UNKNOWN * letters if _SENTENCE.search(core) else _joints(core)
        best = self._filled(core)
        if best is None or best[1]:
            ways = (self._in_columns(core), self._joined(core), best, (core, unknown))
            best = min(filter(None, ways), key=lambda way: way[1])
        return text.replace(core, _APART.sub("", best[0]), 1), best[1]

    def _all(self, parts: Iterable[str]) -> tuple[list[str], int]:
        found = [self._best(part) for part in parts]
        return [new for new, _ in found], sum(cost for _, cost in found)

    def _filled(self, text: str) -> _Found:
        """Fill the template that costs least, and of these the one that says most."""
        words = {"", *_WORD.findall(text)}
        near = (self._template(one) for word in words for one in self._near.get(word, ()))
        best: _Found = None
        for template in sorted(near, key=lambda one: -one.size):
            for values in template.values(text):
                if any("  " in value for value in values):  # columns
                    continue
                new, cost = self._all(values)
                # A value that holds a joint may hold what belongs to another part of the text.
                cost += sum(_joints(value, lists=not template.tells) for value in values)
                if not cost:
                    return template.filled(values, new), 0
                known = cost < _UNKNOWN or template.tells
                if known and (best is None or cost < best[1]):
                    best = template.filled(values, new), cost
        return best

    def _in_columns(self, text: str) -> _Found:
        """Translate a line's columns one by one; each begins where it began, if there is room."""
        if "\n" in text or "  " not in text:
            return None
        *parts, last = _GAP.split(text)
        new, cost = self._all([*parts[::2], last])
        line, place = "", 0
        for cell, gap, shown in zip(parts[::2], parts[1::2], new, strict=False):
            place += columns(cell + gap)
            line = padded(line + shown + "  ", place)
        return (line + new[-1], cost) if new != [*parts[::2], last] else None

    def _joined(self, text: str) -> _Found:
        """Translate what is put together of several texts, part by part."""
        for joint, chinese in _JOINTS.items():
            parts = text.split(joint, 1 if joint == ": " else -1)
            new, cost = self._all(parts) if len(parts) > 1 else (parts, 0)
            if new != parts:
                # What stands before a colon may be a name, which is no Chinese.
                named = joint == ": " and new[0] == parts[0]
                return (joint if named else chinese).join(new), cost
        if found := _BRACKETS.fullmatch(text):
            (head, inside), cost = self._all(found.groups())
            if (head, inside) != found.groups():
                return f"{head}（{inside}）", cost
        return None


def _joints(text: str, *, lists: bool = False) -> int:
    return sum(text.count(joint) for joint in _JOINTS if lists or joint != ", ")


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

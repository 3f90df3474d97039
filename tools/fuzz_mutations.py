# ruff: noqa: E501 - tables of cases
"""Change documents, texts and requests as a careless or hostile sender would."""

from __future__ import annotations

import copy
import datetime
import random
import string
from collections.abc import Callable, Sequence
from typing import Any

NINES = "9" * 5000
ODD_TEXTS = [
    "", " ", "\0", "é", "中文", "😀", "\ud800", "x" * 300, "x" * 70_000, "010", "1e999", "-1", "0x10",
    NINES, "-" + NINES, "1" * 20, "²", "٣", "NaN", "null", "true", "2026-13-45", "../..", "%00", "%ff", "a/b",
    "a=b,c in (d", "!a", "{{.Name}}", "${image}", "rot13", "\r\nX: y", "'", '"', "*", "\x85", "\u2028",
    "{", "[" * 200, "&a", "*a", "9223372036854775808", "1.5", "1h", "99999999h", "10E9Gi", "Gi", "-5m",
]  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**31, 2**63, -(2**63), 10**400, 16**5000, 1e308, float("inf"), float("nan"),
    [], {}, [None], [[]], [{}], {"": None}, {"a": {}}, {"a": [1]}, [1, "a"], datetime.date(2026, 1, 1), b"\xff",
    {1: 2}, {None: 1}, {"$patch": "delete"}, {"$patch": "replace"},
]  # fmt: skip


def deep(levels: int) -> Any:
    """Return a value that is nested that deeply."""
    value: Any = 1
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


class Mutator:
    """Random changes from one seed."""

    def __init__(self, seed: object) -> None:
        self.random = random.Random(repr(seed))

    def one_of(self, choices: Sequence[Any]) -> Any:
        """Return one of some values."""
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        """Return whether something happens that happens in this share of cases."""
        return self.random.random() < share

    def odd(self) -> Any:
        """Return a value that hardly belongs anywhere."""
        kind = self.random.random()
        if kind < 0.45:
            return copy.deepcopy(self.one_of(ODD_VALUES))
        return deep(self.one_of((5, 90, 300))) if kind > 0.97 else self.one_of(ODD_TEXTS)

    def value(self, value: Any, *, most: int = 3) -> Any:
        """Return a copy of a JSON value with one to ``most`` changes."""
        changed = copy.deepcopy(value)
        for _ in range(self.random.randint(1, most)):
            changed = self._changed(changed)
        return changed

    def text(self, text: str) -> str:
        """Return a text with pieces removed, doubled, replaced or put in."""
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randrange(len(text) + 1)
            end = min(len(text), at + self.one_of((0, 0, 1, 3, 20)))
            piece = self.one_of(
                (self.one_of(ODD_TEXTS), self.one_of(string.printable), "", text[at:end] * 2)
            )
            text = text[:at] + piece + text[end:]
        return text

    def _changed(self, root: Any) -> Any:
        """Change the value at a random place, in place where that is possible."""
        path = self.one_of(list(_places(root)))
        if not path:
            return self.odd() if self.chance(0.5) else root
        parent = root
        for step in path[:-1]:
            parent = parent[step]
        self._change_in(parent, path[-1], root)
        return root

    def _change_in(self, parent: Any, key: Any, root: Any) -> None:
        old = parent[key]
        how = self.random.random()
        if how < 0.35:
            parent[key] = self.odd()
        elif how < 0.5:
            del parent[key]
        elif how < 0.6:
            parent[key] = self.one_of(
                (
                    [old],
                    {"a": old},
                    repr(old)[:50] if not isinstance(old, int) else "1",
                    [old, old],
                    {key: old},
                )
            )
        elif how < 0.7 and isinstance(parent, dict):
            parent[self.one_of((*ODD_TEXTS, f"{key}x", str(key).upper()))] = parent.pop(key)
        elif how < 0.85 and isinstance(parent, list):
            parent.insert(
                self.random.randrange(len(parent) + 1),
                copy.deepcopy(self.one_of((old, None, self.odd()))),
            )
        else:
            parent[key] = copy.deepcopy(_at(root, self.one_of(list(_places(root)))))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found, waiting = [], [(value, path)]
    while waiting and len(found) < 2000:
        one, where = waiting.pop()
        found.append(where)
        if isinstance(one, dict):
            waiting += [(child, (*where, key)) for key, child in one.items()]
        elif isinstance(one, list):
            waiting += [(child, (*where, index)) for index, child in enumerate(one)]
    return found


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def smallest(value: Any, fails: Callable[[Any], bool], *, tries: int = 400) -> Any:
    """Return a smaller value that fails too: parts are dropped while it does."""
    again = True
    while again and tries > 0:
        again = False
        for path in sorted(_places(value), key=len):
            if not path or tries <= 0:
                continue
            try:
                smaller = copy.deepcopy(value)
                parent = _at(smaller, path[:-1])
                del parent[path[-1]]
            except (LookupError, TypeError, RecursionError):
                continue
            tries -= 1
            if fails(smaller):
                value, again = smaller, True
                break
    return value

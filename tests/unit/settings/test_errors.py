"""The errors are the tree that is drawn, and what a program and a shell learn from one."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from qwenkit import errors
from qwenkit.errors import InvalidValue, NotReady, QwenkitError, SettingsError, WaitTimeout

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c is not type(None)]
CHILDREN = [c for c in CLASSES if issubclass(c, QwenkitError) and c is not QwenkitError]


def drawn() -> dict[str, str]:
    """Return each class of the module's drawing with the one that it hangs from."""
    parents: dict[str, str] = {}
    last: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( {4}[│├└─ ]*)(\w+) {2,}\S", line)
        if found:
            depth = len(found[1]) // 4
            last[depth] = found[2]
            parents[found[2]] = last.get(depth - 1, "")
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {c.__name__: c.__mro__[1].__name__ for c in CHILDREN} | {"QwenkitError": ""}
    assert drawn() == real


@pytest.mark.parametrize("kind", CHILDREN)
def test_wrong_use_is_two_and_all_else_is_one(kind: type[QwenkitError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, InvalidValue) else 1)
    assert kind.__doc__


def test_an_error_says_what_why_and_what_to_do() -> None:
    error = NotReady("ksvc qwen does not become ready", "boom", "read the log", name="qwen")
    assert str(error).splitlines() == [
        "ksvc qwen does not become ready",
        "  why: boom",
        "  fix: read the log",
    ]
    assert str(WaitTimeout("late")) == "late"
    assert error.to_dict() == {
        "error": "NotReady",
        "what": "ksvc qwen does not become ready",
        "why": "boom",
        "fix": "read the log",
        "name": "qwen",
    }


def test_a_value_is_shown_as_it_would_be_typed() -> None:
    error = SettingsError("delete_weights", "false", "must be a boolean", "no quotes")
    assert "delete_weights: 'false' is not valid" in str(error)
    assert (error.name, error.value, error.rule) == ("delete_weights", "false", error.why)
    told = json.loads(json.dumps(error.to_dict()))
    assert (told["error"], told["value"], told["rule"]) == ("SettingsError", "'false'", error.rule)


def test_a_value_that_json_cannot_hold_is_told_all_the_same() -> None:
    json.dumps(InvalidValue("x", object(), "must be a number").to_dict())

"""The errors match the tree in the docstring; text, JSON and exit code of an error."""

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
    """Return each class of the tree in the docstring with its parent."""
    parents: dict[str, str] = {}
    last: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( {4}[│├└─ ]*)(\w+) {2,}\S", line)
        if found:
            depth = len(found[1]) // 4
            last[depth] = found[2]
            parents[found[2]] = last.get(depth - 1, "")
    return parents


def test_the_docstring_draws_the_tree() -> None:
    real = {c.__name__: c.__mro__[1].__name__ for c in CHILDREN} | {"QwenkitError": ""}
    assert drawn() == real


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_exit_code_of_wrong_use_is_2_and_of_the_rest_1(kind: type[QwenkitError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, InvalidValue) else 1)
    assert kind.__doc__


def test_an_error_is_three_lines_and_its_evidence() -> None:
    facts = {"name": "qwen", "evidence": ["restarted 2 times", "exit 1"]}
    error = NotReady("ksvc qwen does not become ready", "boom", "read the log", **facts)
    assert str(error).splitlines() == [
        "ksvc qwen does not become ready",
        "  why: boom",
        "       restarted 2 times",
        "       exit 1",
        "  fix: read the log",
    ]
    assert str(WaitTimeout("late")) == "late"
    assert error.to_dict() == {
        "error": "NotReady",
        "what": "ksvc qwen does not become ready",
        "why": "boom",
        "fix": "read the log",
        **facts,
    }


def test_a_wrong_value_is_shown_as_a_literal() -> None:
    error = SettingsError("delete_weights", "false", "must be a boolean", "no quotes")
    assert "delete_weights: 'false' is not valid" in str(error)
    assert (error.name, error.value, error.rule) == ("delete_weights", "false", error.why)
    answer = json.loads(json.dumps(error.to_dict()))
    assert (answer["error"], answer["value"], answer["rule"]) == (
        "SettingsError",
        "'false'",
        error.rule,
    )


def test_an_error_about_any_value_is_json() -> None:
    json.dumps(InvalidValue("x", object(), "must be a number").to_dict())

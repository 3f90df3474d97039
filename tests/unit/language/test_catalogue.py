"""The Chinese catalogue: every text that a person sees has an entry, set as Chinese is."""

from __future__ import annotations

import ast
import re
from string import Formatter

import catalogue
import pytest

ENTRIES = catalogue.read()
# Chinese and Latin letters stand apart; a comma after Chinese is a Chinese one.
CROWDED = re.compile(
    r"[\u4e00-\u9fff][A-Za-z0-9{]|[A-Za-z0-9}][\u4e00-\u9fff]|[\u4e00-\u9fff][,;?!]"
)
# A value may be Chinese, and bring its own blank.
GLUED = re.compile(r"(?<=[\u4e00-\u9fff])\{\d\}|\{\d\}(?=[\u4e00-\u9fff])")


def holes(text: str) -> set[str]:
    return {name for _, name, *_ in Formatter().parse(text) if name is not None}


def test_no_text_lacks_its_chinese() -> None:
    missing = {text: place for text, place in catalogue.texts().items() if text not in ENTRIES}
    assert missing == {}, "add lines to qwenkit/language/zh.toml"


def test_it_is_sorted_as_the_tool_does() -> None:
    lines = catalogue.CATALOGUE.read_text("utf-8").splitlines()
    keys = [key for line in lines if line.startswith('"') for key in catalogue.tomllib.loads(line)]
    assert keys == sorted(set(keys)), "run: python tools/catalogue.py --sort"


def test_chinese_fills_only_the_holes_that_are_there() -> None:
    assert {key for key, text in ENTRIES.items() if not holes(text) <= holes(key)} == set()


def test_chinese_is_set_as_chinese_is() -> None:
    found = {
        key: text
        for key, text in ENTRIES.items()
        if CROWDED.search(GLUED.sub("，", text)) or "您" in text
    }
    assert found == {}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('fail(f"the {kind} {name!r} is gone", why)', ["the {0} {1} is gone"]),
        ("x = f'wait{s and f\" for {s:g} s\"} a moment'", ["wait{0} a moment", "for {0} s"]),
        ('def f():\n    """No text of ours."""', []),
        ('said("word")', ["word"]),
        ('re.compile(r"no\\s+space left")', []),
        ('name = "kube-system"', []),
    ],
)
def test_the_texts_of_code_are_found(code: str, expected: list[str]) -> None:
    assert [text for _, text in catalogue.of_code(ast.parse(code), "x.py")] == expected


def test_a_command_s_docstring_is_a_text() -> None:
    code = 'def up(set_: Set = None):\n    """Start it.\n\n    It runs\n    on.\n    """'
    found = [text for _, text in catalogue.of_code(ast.parse(code), "cli/x.py")]
    assert found == ["Start it.", "It runs on."]


def test_the_texts_of_a_table_are_found() -> None:
    table = {
        "signature": [{"kind": "no-gpu", "cause": "{name} has no GPU on {0}", "when": ["x y"]}]
    }
    assert list(catalogue.of_table(table)) == ["{0} has no GPU on {1}"]

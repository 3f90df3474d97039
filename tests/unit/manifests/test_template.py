from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from qwenkit.errors import InvalidValue
from qwenkit.manifests.template import fill, plain, to_yaml

TEMPLATE = """\
# why this object
metadata:
  name: ${name} # the name
  quoted: "${name}"
  long: before ${name} after
items:
- ${name}
- ${count}
"""
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def load(text: str) -> object:
    return YAML(typ="safe").load(text)


@settings(deadline=None)
@given(st.text(), st.integers())
def test_any_text_stays_one_scalar(name: str, count: int) -> None:
    filled = fill(TEMPLATE, {"name": name, "count": count})
    expected = {
        "metadata": {"name": name, "quoted": name, "long": f"before {name} after"},
        "items": [name, count],
    }
    assert load(to_yaml([filled])) == expected
    assert plain(filled) == expected


@settings(deadline=None)
@given(st.text(min_size=1))
def test_documents_cannot_be_split_by_a_value(name: str) -> None:
    filled = fill(TEMPLATE, {"name": name, "count": 1})
    assert len(list(YAML(typ="safe").load_all(to_yaml([filled, filled])))) == 2


@pytest.mark.parametrize(
    "name", ["a\nb: c", "x # y", "---", "true", "1", "~", "${count}", "*a", "&a b", "!!int 1", "''"]
)
def test_text_that_looks_like_yaml(name: str) -> None:
    filled = fill(TEMPLATE, {"name": name, "count": 1})
    assert load(to_yaml([filled]))["items"] == [name, 1]  # type: ignore[index]


@settings(deadline=None)
@given(scalars.filter(lambda value: value is not None))
def test_a_value_keeps_its_type(value: object) -> None:
    filled = fill("key: ${value}", {"value": value})  # type: ignore[dict-item]
    assert filled["key"] == value
    assert type(plain(filled)["key"]) is type(value)


def test_none_removes_the_key() -> None:
    filled = fill('a: "${gone}" # comment\nb: 1\n', {"gone": None})
    assert to_yaml([filled]) == "b: 1\n"


def test_comments_survive() -> None:
    text = to_yaml([fill(TEMPLATE, {"name": "qwen", "count": 1})])
    assert text.startswith("# why this object\n")
    assert "  name: qwen # the name\n" in text


@pytest.mark.parametrize(
    ("values", "name"),
    [({"name": "x"}, "count"), ({"name": "x", "count": 1, "more": 2}, "more")],
)
def test_names_and_values_must_match(values: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        fill(TEMPLATE, values)  # type: ignore[arg-type]
    assert caught.value.name == name

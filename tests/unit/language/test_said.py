"""Which language a person reads, and how a finished text finds its Chinese."""

from __future__ import annotations

import importlib
import pkgutil
import tomllib
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

import qwenkit
from qwenkit.errors import InvalidValue, NotFound
from qwenkit.language import Shown, language, said
from qwenkit.language.catalogue import Catalogue, chinese, entries
from qwenkit.language.width import columns, padded

FILE = ROOT / "qwenkit" / "language" / "zh.toml"
ENTRIES = entries(FILE.read_text("utf-8"))
HOLES = {key: sum(hole is not None for _, hole, *_ in Formatter().parse(key)) for key in ENTRIES}
TEMPLATES = sorted(key for key, holes in HOLES.items() if holes)


@pytest.fixture
def in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_LANG", "zh")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "QWENKIT_LANG": "en"}, "en"),
        ({"QWENKIT_LANG": "zh-CN"}, "zh"),
        ({"JPY_SESSION_NAME": "/course/notebooks/zh/05-autoscaling.ipynb"}, "zh"),
        ({"JPY_SESSION_NAME": "zh/05-autoscaling.ipynb"}, "zh"),
        ({"JPY_SESSION_NAME": "/home/zh/course/notebooks/05-autoscaling.ipynb"}, "en"),
        ({"JPY_SESSION_NAME": "zh/05-autoscaling.ipynb", "QWENKIT_LANG": "en"}, "en"),
    ],
)
def test_the_language_is_chosen_by_the_setting_the_notebook_and_the_locale(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QWENKIT_LANG", "JPY_SESSION_NAME", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language() == expected


def test_a_kernel_beside_a_chinese_notebook_speaks_chinese(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QWENKIT_LANG")
    (tmp_path / "zh").mkdir()
    monkeypatch.chdir(tmp_path / "zh")
    assert language() == "zh"


def test_english_stays_as_it_is() -> None:
    assert said("nothing") == "nothing"


def test_python_reads_the_catalogue_as_toml_does() -> None:
    assert tomllib.loads(FILE.read_text("utf-8")) == ENTRIES


def test_the_values_of_a_template_stand_in_its_chinese() -> None:
    wrong = {}
    for key in TEMPLATES:
        values = [f"«{number}»" for number in range(HOLES[key])]
        found, expected = chinese().said(key.format(*values)), ENTRIES[key].format(*values)
        if found != expected:
            wrong[key] = found
    assert wrong == {}


NAME = st.text("abcdefgh0123456789_-/.%", min_size=1, max_size=20).map("x{}z".format)


@given(st.data())
def test_any_names_and_numbers_in_a_template_stay(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(TEMPLATES))
    values = [data.draw(NAME) for _ in range(HOLES[key])]
    assert chinese().said(key.format(*values)) == ENTRIES[key].format(*values)


SMALL = Catalogue(
    {
        "{0} is not ready": "{0} 未就绪",
        "the pod {0} is not ready": "Pod {0} 未就绪",
        "{0} waits: {1}": "因为{1}，{0} 在等待",
        "the node {0} is full": "节点 {0} 已满",
        "{0} of {1}": "{1} 中的 {0}",
        "failed": "失败",
        "wait": "等待",
        'write {{"a": 1}}': '写 {{"a": 1}}',
        "{0} lacks {1}": "{0!s} 缺少 {1}",
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the pod a is not ready", "Pod a 未就绪"),  # the template that says most
        ("p waits: the node n is full", "因为节点 n 已满，p 在等待"),  # a message in a message
        ("the pod a is not ready\nthe node n is full", "Pod a 未就绪\n节点 n 已满"),
        ("b of the sentence of a server", "b of the sentence of a server"),
        ("p (the node n is full)", "p（节点 n 已满）"),
        ("pod: failed", "pod: 失败"),
        ("failed: p", "失败：p"),
        ("the node n is full; p is not ready", "节点 n 已满；p 未就绪"),
        ("  failed    p    \n  wait", "  失败      p    \n  等待"),
        ("a      failed  wait", "a      失败    等待"),  # columns keep their places
        ("3 of 4", "4 中的 3"),
        ("a message of a server of another", "a message of a server of another"),
        ('write {"a": 1}', '写 {"a": 1}'),
        ("wait lacks wait", "wait 缺少等待"),  # a name stays
        ("杭州西湖", "杭州西湖"),
        ("", ""),
    ],
)
def test_parts_and_messages_in_messages_are_translated(text: str, expected: str) -> None:
    assert SMALL.said(text) == expected


def test_a_chinese_letter_takes_two_columns() -> None:
    assert columns("Pod 未就绪") == 10
    assert padded("节点", 6) == "节点  "


@pytest.mark.usefixtures("in_chinese")
def test_an_error_is_chinese_for_people_and_english_for_programs() -> None:
    error = InvalidValue("max_scale", 0, "at least 1")
    assert str(error) == ("max_scale: 0 无效\n  原因：至少为 1\n  解决办法：请按规则修改 max_scale")
    assert error.what == "max_scale: 0 is not valid"
    assert error.to_dict()["why"] == "at least 1"
    assert "a server's own words" in str(NotFound("nothing", "a server's own words"))


def test_no_dataclass_writes_a_repr_of_its_own_over_what_is_shown() -> None:
    for module in pkgutil.walk_packages(qwenkit.__path__, "qwenkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = Shown.__subclasses__()
    assert len(kinds) > 20
    assert [kind.__name__ for kind in kinds if kind.__repr__ is not Shown.__repr__] == []

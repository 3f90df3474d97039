"""Exercises: texts and graders agree, answers are kept, and verdicts are shown and counted."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import import_module
from importlib.resources import files
from unittest.mock import Mock

import pytest

from qwenkit.errors import InvalidValue
from qwenkit.exercises import checking, learner, progress
from qwenkit.exercises import exercise as engine
from qwenkit.exercises.exercise import chapters, find, of_chapter
from qwenkit.exercises.facts import Facts
from qwenkit.settings import Settings

EVERY = [one for chapter in chapters() for one in of_chapter(chapter).values()]


@pytest.mark.parametrize("chapter", chapters())
def test_the_exercises_of_a_chapter_are_numbered(chapter):
    ids = list(of_chapter(chapter))
    assert ids == [f"{chapter}.{n}" for n in range(1, len(ids) + 1)]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.id)
def test_an_exercise_has_all_its_texts(one):
    assert len(one.hints) == 3
    assert len(one.wrong) >= 5
    texts = [one.title, one.task, *one.hints, one.solution, one.passed, *one.wrong.values()]
    assert all(text.strip() for text in texts)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("chapter", chapters())
def test_each_misunderstanding_is_one_that_a_grader_can_name(chapter):
    """A text that no grader says, or a name without a text, is a mistake."""
    source = inspect.getsource(import_module(f"qwenkit.exercises.chapters.ch{chapter}"))
    source += inspect.getsource(engine)
    strings = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    texts = files("qwenkit.exercises").joinpath("texts", f"{chapter}.toml").read_text("utf-8")
    strings |= {name for one in tomllib.loads(texts).values() for name in one.get("slips", {})}
    named = {name for one in of_chapter(chapter).values() for name in one.wrong}
    assert named <= strings


def test_an_exercise_that_nobody_has_tried_is_not_done_yet():
    checked = checking.check("05.1", Settings())
    assert checked.verdict.kind == "todo"
    assert "not done yet" in str(checked)
    assert find("05.1").task in str(checked)


def test_a_wrong_answer_is_told_its_misunderstanding():
    s = Settings()
    checking.answer("05.1", 3, s)
    checked = checking.check("05.1", s)
    assert checked.verdict.wrong == "no-headroom"
    assert "3 is ceil(5 / 2)" in str(checked)
    html = checked._repr_mimebundle_()["text/html"]
    hints = [html.index(hint.split(":")[0]) for hint in find("05.1").hints]
    assert hints == sorted(hints)
    assert html.count("<details>") == 4


def test_the_dots_are_no_answer():
    s = Settings()
    assert "in place of the dots" in repr(checking.answer("05.1", ..., s))
    assert "05.1" not in learner.Learner(s).answers


def test_a_right_answer_is_noted_once():
    s = Settings(service="noted")
    checking.answer("05.1", 4, s)
    assert checking.check("05.1", s).verdict.kind == "passed"
    first = learner.Learner(s).passed
    assert checking.check("05.1", s).verdict.kind == "passed"
    assert learner.Learner(s).passed == first
    assert progress.progress(s).passed == 1
    assert progress.progress(Settings(service="another")).passed == 0


def test_a_chapter_can_be_forgotten():
    s = Settings(service="forgetful")
    checking.answer("05.1", 4, s)
    checking.check("05.1", s)
    learner.Learner(s).forget("04")
    assert learner.Learner(s).passed
    learner.Learner(s).forget("05")
    assert not learner.Learner(s).passed
    assert not learner.Learner(s).answers


@pytest.mark.parametrize("id_", ["", "05", "05.99", "99.1", "../05", "5.1"])
def test_an_unknown_exercise_is_an_error_that_names_the_known_ones(id_):
    with pytest.raises(InvalidValue, match=r"05\.1"):
        checking.check(id_, Settings())


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_an_answer_must_be_plain(value):
    with pytest.raises(InvalidValue, match="number"):
        checking.answer("05.1", value, Settings())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"here": {"version": 2}}', '{"a": 1}', "\x00"])
def test_a_damaged_record_is_an_error_that_names_the_file(monkeypatch, tmp_path, text):
    path = tmp_path / "progress.json"
    path.write_text(text)
    monkeypatch.setenv("QWENKIT_PROGRESS", str(path))
    with pytest.raises(InvalidValue, match=r"progress\.json"):
        checking.answer("05.1", 4, Settings())
    assert path.read_text() == text


def test_what_is_right_is_passed_where_it_cannot_be_recorded(monkeypatch):
    s = Settings(service="readonly")
    checking.answer("05.1", 4, s)
    monkeypatch.setattr(learner, "write_private", Mock(side_effect=OSError(30, "Read-only")))
    checked = checking.check("05.1", s)
    assert checked.verdict.kind == "passed"
    assert "not recorded: must be writable: Read-only" in str(checked)


def test_what_cannot_be_read_is_unknown_and_the_others_are_judged(monkeypatch):
    monkeypatch.setattr(Facts, "settings", property(lambda self: Settings()))
    found = {one.exercise.id: one for one in checking.check_all([], Settings())}
    assert set(found) == {one.id for one in EVERY}
    assert found["05.1"].verdict.kind in ("todo", "passed", "wrong")
    assert json.dumps([one.to_dict() for one in found.values()])


def test_the_record_survives_a_second_writer():
    first, second = Settings(service="first"), Settings(service="second")
    checking.answer("05.1", 4, first)
    checking.answer("05.1", 3, second)
    assert learner.Learner(first).answers == {"05.1": 4}
    assert learner.Learner(second).answers == {"05.1": 3}


@pytest.mark.parametrize(("given", "kept"), [("4", 4), ("４ ", 4), (4.0, 4), ("3.5", 3.5)])
def test_a_number_may_be_written_as_a_text(given, kept):
    s = Settings(service="written")
    checking.answer("05.1", given, s)
    found = learner.Learner(s).answers["05.1"]
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize("given", ["~4", "nan", "{x} %s <b>", True, [1, [2]], 10**300])
def test_any_plain_answer_can_be_judged_and_shown(monkeypatch, given):
    s = Settings(service="odd")
    checking.answer("05.1", given, s)
    for chosen in ("en", "zh"):
        monkeypatch.setenv("QWENKIT_LANG", chosen)
        checked = checking.check("05.1", s)
        assert checked.verdict.kind == "wrong"
        assert "<b>" not in checked._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize("given", [10**5000, "\udcff"], ids=["huge", "half"])
def test_an_answer_that_no_record_can_hold_is_refused(given):
    with pytest.raises(InvalidValue, match="number"):
        checking.answer("05.1", given, Settings())


def test_nothing_is_no_answer():
    s = Settings(service="nothing")
    assert "in place of the dots" in repr(checking.answer("05.1", None, s))
    assert not learner.Learner(s).answers


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.id)
def test_a_number_too_large_for_arithmetic_is_judged(one):
    with suppress(AssertionError, KeyError):  # it looks at a target, and there is none
        assert one.grade(Facts(answer=10**400)).kind != "passed"


def test_two_processes_that_answer_at_once_lose_nothing(monkeypatch, tmp_path):
    path = tmp_path / "progress.json"
    monkeypatch.setenv("QWENKIT_PROGRESS", str(path))
    code = (
        "import sys; from qwenkit.exercises.learner import Learner\n"
        "for n in range(50): Learner(None).answer(f'{sys.argv[1]}.{n}', n)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("05", "06")]
    assert [one.wait() for one in both] == [0, 0]
    assert len(learner.Learner(None).answers) == 100

"""Exercises: texts and graders agree, answers are kept, and verdicts are shown and counted."""

from __future__ import annotations

import ast
import inspect
import json
from importlib import import_module

import pytest

from qwenkit.errors import InvalidValue
from qwenkit.exercises import checking, learner, numbers, progress
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
    source += inspect.getsource(numbers)
    strings = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
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


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "\x00"])
def test_a_damaged_record_is_an_error_that_names_the_file(monkeypatch, tmp_path, text):
    path = tmp_path / "progress.json"
    path.write_text(text)
    monkeypatch.setenv("QWENKIT_PROGRESS", str(path))
    with pytest.raises(InvalidValue, match=r"progress\.json"):
        checking.answer("05.1", 4, Settings())
    assert path.read_text() == text


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

"""The exercises of chapter 05: right ways, wrong ways and what each is told."""

from __future__ import annotations

import pytest

from qwenkit.exercises.exercise import PASSED, TODO, find
from qwenkit.exercises.facts import Facts


@pytest.mark.parametrize(
    ("id_", "answer", "told"),
    [
        ("05.1", 3, "no-headroom"),
        ("05.1", 2, "rounded-down"),
        ("05.1", 3.57, "not-rounded"),
        ("05.1", 5, "one-each"),
        ("05.1", 10, "multiplied"),
        ("05.1", "four", "no-number"),
        ("05.1", True, "no-number"),
        ("05.1", 1, "other"),
    ],
)
def test_a_wrong_answer_is_told_which_misunderstanding_it_shows(id_, answer, told):
    exercise = find(id_)
    verdict = exercise.grade(Facts(answer=answer))
    assert (verdict.kind, verdict.wrong) == ("wrong", told)
    assert exercise.wrong[told].format(**verdict.values)


@pytest.mark.parametrize(("id_", "answer"), [("05.1", 4), ("05.1", 4.0)])
def test_a_right_answer_passes(id_, answer):
    assert find(id_).grade(Facts(answer=answer)) == PASSED


@pytest.mark.parametrize("id_", ["05.1"])
def test_without_an_answer_it_is_not_done_yet(id_):
    assert find(id_).grade(Facts()) == TODO

"""The figures of a rehearsal, and the learners that follow from a seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.workshop.bill import Bill, BillLine
from qwenkit.workshop.rehearsal.report import Passage, RehearsalReport, jain
from qwenkit.workshop.rehearsal.temper import Temper

CHAPTERS = ("00", "03", "90")
GOOD = RehearsalReport(
    participants=2,
    gpu_slots=1,
    seed=1,
    clock=10,
    seconds=60,
    passages=(
        Passage("p01", "03", 4.0, waited_s=1.0),
        Passage("p02", "03", 8.0, waited_s=5.0),
    ),
    slips={"made": 1, "refused": 1},
    api_per_s=3.25,
    gateway_per_s=0.5,
    gpu_s={"p01": 100.0, "p02": 110.0},
    bill=Bill("ws", (BillLine("p01", "", 101.0, 0.2), BillLine("p02", "", 110.0, 0.3)), 8.0),
)


@pytest.mark.parametrize(
    ("shares", "index"), [([1, 1, 1], 1), ([1, 0, 0, 0], 0.25), ([], 1), ([0, 0], 1), ([3, 1], 0.8)]
)
def test_jains_index(shares: list[float], index: float) -> None:
    assert jain(shares) == pytest.approx(index)


@given(
    st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40),
    st.floats(0.001, 1000),
)
def test_the_index_is_a_share_and_knows_no_unit(shares: list[float], unit: float) -> None:
    assert 1 / len(shares) - 1e-9 <= jain(shares) <= 1 + 1e-9
    assert jain(share * unit for share in shares) == pytest.approx(jain(shares))


def test_a_seed_makes_the_same_learners_and_they_differ() -> None:
    class_ = [Temper.of(7, number, CHAPTERS) for number in range(30)]
    assert class_ == [Temper.of(7, number, CHAPTERS) for number in range(30)]
    assert class_ != [Temper.of(8, number, CHAPTERS) for number in range(30)]
    assert len({one.pace for one in class_}) == 30
    assert {Temper.of(7, number, CHAPTERS).forgets_slot for number in range(200)} == {True, False}
    assert any(one.slips for one in class_)
    assert class_[0].pause_s("03", 10) == pytest.approx(class_[0].pause_s("03", 1) / 10)


def test_a_good_rehearsal() -> None:
    assert GOOD.ok, GOOD.problems
    assert GOOD.chapters() == [
        {
            "chapter": "03",
            "passed": 2,
            "broke": 0,
            "p50, s": 4.0,
            "p95, s": 8.0,
            "GPU wait p50, s": 1.0,
            "GPU wait p95, s": 5.0,
        }
    ]
    assert GOOD.bill_error_percent == pytest.approx(100 / 210)
    assert GOOD.to_dict()["fairness"] == 0.9977


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"passages": (Passage("p02", "03", 1, error="no <GPU>"),)}, "p02 broke in chapter 03"),
        ({"slips": {"made": 3, "refused": 1}}, "2 mistakes were not refused"),
        ({"gpu_s": {"p01": 9.0, "p02": 0.0}}, "shared unfairly: 0.500"),
        (
            {"bill": Bill("ws", (BillLine("p01", "", 220.0, None),), None)},
            "4.8 % off the pods' own",
        ),
        ({"leaks": ("pod x",)}, "left after the workshop: pod x"),
    ],
)
def test_what_makes_it_fail(change: dict[str, object], said: str) -> None:
    report = replace(GOOD, **change)  # type: ignore[arg-type]
    assert not report.ok
    assert any(said in problem for problem in report.problems)
    assert said in str(report)


def test_it_speaks_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENKIT_LANG", "zh")
    assert "演练" in str(GOOD)
    assert "公平" in str(GOOD)

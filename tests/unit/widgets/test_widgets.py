"""The charts say in words what they draw."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from qwenkit.capacity.search.candidates import Candidate, ScalingChoice
from qwenkit.cluster.diagnosis.cold_start import ColdStart, ColdStartStep
from qwenkit.widgets.charts import front_chart
from qwenkit.widgets.cold_start_chart import cold_start_chart
from qwenkit.widgets.svg import Axis, Chart, changes, text_width

SVG = "{http://www.w3.org/2000/svg}"


def words(chart: Chart) -> list[str]:
    root = ElementTree.fromstring(chart.svg())
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label") == repr(chart)
    return [word for text in root.iter(f"{SVG}text") for word in text.itertext()]


@pytest.mark.parametrize(
    ("high", "whole", "ticks"),
    [
        (1, True, [0, 1]),
        (3, True, [0, 1, 2, 3]),
        (6, True, [0, 2, 4, 6]),
        (70, True, [0, 20, 40, 60]),
        (0.9, False, [0, 0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_ticks_are_round(high, whole, ticks):
    assert Axis(0, high, 100, 0).ticks(4, whole=whole) == ticks


def test_a_logarithmic_axis_has_powers_of_ten_and_more_where_they_are_few():
    assert Axis(0.05, 30, 100, 0, log=True).ticks(4) == [0.1, 1, 10]
    assert Axis(0.5, 30, 100, 0, log=True).ticks(4) == [0.5, 1, 2, 5, 10, 20]
    assert Axis(0.1, 10, 100, 0, log=True).at(1) == 50


def test_a_step_line_keeps_its_changes_and_its_end():
    points = [(0, 1), (1, 1), (2, 3), (3, 3), (4, 3)]
    assert list(changes(points)) == [(0, 1), (2, 3), (4, 3)]
    assert list(changes([])) == []
    assert text_width("模型") > text_width("ab")


def test_settings_that_answer_nothing_are_counted_and_not_drawn():
    good, bad = (
        Candidate(
            choice=ScalingChoice(8, 0, 1, 3),
            ttft_p95_s=ttft_p95_s,
            tpot_p95_s=0.02,
            cost_per_hour=26.0,
            failed_share=0.0,
        )
        for ttft_p95_s in (0.5, float("inf"))
    )
    drawn = front_chart([good, bad], good, bad)
    assert repr(drawn) == "1 settings by cost and TTFT p95; 2 that answer no request are not drawn"
    assert drawn.svg().count("<circle") == 1


def test_names_are_text_and_empty_results_are_drawn():
    steps = (ColdStartStep("scheduled", 0.5, 0.5), ColdStartStep("<b>模型</b>", 45.5, 45.0))
    drawn = cold_start_chart(ColdStart("p", steps))
    assert repr(drawn) == "cold start: 45.5 s, longest: <b>模型</b> 45.0 s"
    assert {"<b>模型</b>", "45.0 s · 99 %", "total"} <= set(words(drawn))
    assert "<b>" not in drawn.svg()
    assert repr(cold_start_chart(ColdStart("p", ()))) == "cold start: 0.0 s"
    fast = cold_start_chart(ColdStart("p", steps, clock=10))
    assert {"0.5 s (0.5 s) · 1 %", "45.0 s (450 s) · 99 %"} <= set(words(fast))
    assert "clock × 10" in repr(fast)

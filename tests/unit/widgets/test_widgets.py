"""The what-if panel and the charts, with and without a front end."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from qwenkit.capacity.candidates import Candidate, ScalingChoice
from qwenkit.cluster.diagnosis.cold_start import ColdStart, ColdStartStep
from qwenkit.errors import InvalidValue
from qwenkit.widgets.charts import front_chart
from qwenkit.widgets.cold_start_chart import cold_start_chart
from qwenkit.widgets.svg import Axis, Chart, changes, text_width
from qwenkit.widgets.whatif import WhatIf

WIDGET = "application/vnd.jupyter.widget-view+json"
PREFIX = "autoscaling.knative.dev/"
SVG = "{http://www.w3.org/2000/svg}"


def panel(**more):
    annotations = {PREFIX + "target": "2", PREFIX + "max-scale": "3"}
    return WhatIf(annotations | more, gpu="V100-16")


def test_the_panel_answers_before_it_is_shown():
    made = panel()
    assert made.value.effective_target == 1.4
    assert made.value.peak_replicas == 3
    assert made.value.requests > 0
    assert repr(made).startswith("6 clients, effective target 1.4: at most 3 replicas ready")


def test_the_panel_works_without_ipywidgets(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    made = panel()
    shown = made._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"}
    assert "<svg" in shown["text/html"]
    assert made.controls == {}
    assert made.propose(max_scale=1).peak_replicas == 1


def test_the_panel_shows_the_rulebooks_advice():
    made = panel(**{PREFIX + "metric": "rps"})
    assert {"metric-rps", "hair-trigger-panic"} <= {finding.rule for finding in made.advice}
    html = made._repr_mimebundle_()["text/html"]
    assert "<b>warning</b>: waiting requests do not raise requests per second" in html


def test_the_panel_needs_no_template_library():
    code = (
        "import sys, qwenkit.widgets.whatif, qwenkit.widgets.charts, qwenkit.capacity.recommend\n"
        "heavy = {'jinja2', 'pygments', 'ruamel', 'kubernetes', 'pydantic', 'ipywidgets'}\n"
        "ours = {'qwenkit.manifests', 'qwenkit.weights', 'qwenkit.settings', 'qwenkit.cluster'}\n"
        "print(sorted((heavy | ours) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_proposing_moves_values_picture_and_sliders():
    made = panel()
    assert WIDGET in made._repr_mimebundle_()
    before = made.picture.svg()
    value = made.propose(max_scale=1, target=8)
    assert (value.max_scale, value.target, value.peak_replicas) == (1, 8, 1)
    assert made.picture.svg() != before
    assert (made.controls["max_scale"].value, made.controls["target"].value) == (1, 8)


def test_a_moved_slider_is_answered_below_it():
    made = panel()
    made.controls["clients"].value = 1
    assert made.value.clients == 1
    assert made.value.peak_replicas == 1
    assert "1 client," in made._box._answer.value
    assert "<svg" in made._box._answer.value


def test_sliders_that_contradict_each_other_show_why_and_change_nothing():
    made = panel()
    before = made.value
    made.controls["min_scale"].value = 5
    assert made.value is before
    assert made.controls["min_scale"].value == 0, "the sliders stand where the answer does"
    assert "min-scale=5" in made._box._answer.value
    assert "<svg" in made._box._answer.value
    made.controls["clients"].value = 2
    assert "min-scale" not in made._box._answer.value, "the error goes with the next answer"


@pytest.mark.parametrize(
    ("sliders", "name"),
    [
        ({"min_scale": 5}, "max-scale"),
        ({"target": float("nan")}, "target"),
        ({"target": -1}, "target"),
        ({"window_s": 1}, "window"),
        ({"utilization_percentage": 0}, "utilization"),
        ({"clients": -1}, "clients"),
        ({"clients": 2.5}, "clients"),
        ({"max_scale": float("inf")}, "max_scale"),
        ({"panic": 2}, "slider"),
    ],
)
def test_a_proposal_that_cannot_be_is_refused_by_name(sliders, name):
    made = panel()
    before, drawn = made.value, made.picture
    with pytest.raises(InvalidValue) as refused:
        made.propose(**sliders)
    assert name in refused.value.name
    assert (made.value, made.picture) == (before, drawn)
    assert made.propose(clients=2).min_scale == 0, "the refused value must not linger"


def test_sliders_reach_as_far_as_the_settings_that_they_start_from():
    made = panel(**{PREFIX + "target": "100", PREFIX + "window": "600s"})
    assert made.controls["target"].value == 100
    assert made.controls["window_s"].value == 600
    assert made.value.target == 100


def test_an_error_is_escaped_before_it_is_html():
    made = panel()
    made.propose()
    made._repr_mimebundle_()
    made._moved({"<img src=x onerror=alert(1)>": 1})
    assert "<img" not in made._box._answer.value
    assert "&lt;img" in made._box._answer.value


def words(chart: Chart) -> list[str]:
    root = ElementTree.fromstring(chart.svg())
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label") == repr(chart)
    return [word for text in root.iter(f"{SVG}text") for word in text.itertext()]


def test_the_picture_of_a_run_says_what_its_caption_says():
    made = panel()
    drawn = made.picture
    assert {"in flight", "replicas", "seconds", "desired", "ready"} <= set(words(drawn))
    assert {"0", "1", "2", "3", "6"} <= set(words(drawn))
    assert repr(drawn) == "at most 6 requests in flight, at most 3 replicas ready"
    assert drawn._repr_mimebundle_() == {"text/plain": drawn.text, "text/html": drawn.svg()}


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

"""The what-if panel and the charts, with and without a front end."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest

from qwenkit.capacity.candidates import Candidate, ScalingChoice
from qwenkit.cluster.diagnosis.timeline import ColdStartStep, Timeline
from qwenkit.cluster.scale import Replicas
from qwenkit.errors import InvalidValue
from qwenkit.inference.results import LoadResult, Request
from qwenkit.widgets.charts import cold_start_chart, front_chart, load_chart
from qwenkit.widgets.run_picture import _ticks
from qwenkit.widgets.whatif import WhatIf

VEGA = "application/vnd.vegalite.v5+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
PREFIX = "autoscaling.knative.dev/"


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


def test_the_panel_needs_no_chart_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert "<svg" in panel()._repr_mimebundle_()["text/html"]


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
    assert "1 clients" in made._box._answer.value
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


def test_the_picture_of_a_run_is_svg_with_whole_replicas():
    drawn = panel().picture
    root = ElementTree.fromstring(drawn.svg())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"requests in flight", "replicas", "seconds", "desired", "ready"} <= set(words)
    assert {"0", "1", "2", "3"} <= set(words)
    bundle = drawn._repr_mimebundle_()
    assert bundle == {"text/plain": drawn.text, "image/svg+xml": drawn.svg()}


@pytest.mark.parametrize(
    ("most", "ticks"),
    [(1, [0, 1]), (3, [0, 1, 2, 3]), (6, [0, 2, 4, 6]), (70, [0, 20, 40, 60])],
)
def test_ticks_are_round_and_whole(most, ticks):
    assert list(_ticks(most, 4)) == ticks


def charts():
    steps = (ColdStartStep("scheduled", 0.5, 0.5), ColdStartStep("<b>load</b>", 45.5, 45.0))
    requests = (
        Request(0.0, 1.0, "ok", "", 0.5, 0.9, 8),
        Request(1.0, 2.0, "failed", "http 503", None, 0.0, 0),
    )
    candidate = Candidate(
        choice=ScalingChoice(8, 0, 1, 3),
        ttft_p95_s=0.5,
        tpot_p95_s=0.02,
        latency_p95_s=2.0,
        cost_per_hour=26.0,
        failed_share=0.0,
    )
    return {
        "cold start: 45.5 s, longest: <b>load</b> 45.0 s": cold_start_chart(Timeline("p", steps)),
        "2 requests, at most 1 replicas ready": load_chart(
            LoadResult(1, requests, 2.0, began=0.0),
            [Replicas(1, 0, 1, 0, 0.0), Replicas(1, 1, 0, 0, 2.0)],
        ),
        "2 settings by cost and TTFT p95": front_chart([candidate], candidate, candidate),
        "cold start: 0.0 s": cold_start_chart(Timeline("p", ())),
    }


def test_every_chart_is_text_vega_lite_and_svg():
    for text, chart in charts().items():
        bundle = chart._repr_mimebundle_()
        assert bundle["text/plain"] == repr(chart) == text
        assert bundle[VEGA]["$schema"].endswith("vega-lite/v5.json")
        assert ElementTree.fromstring(bundle["image/svg+xml"]).tag.endswith("svg")
        assert "<b>" not in bundle["image/svg+xml"], "names of steps are text, not markup"

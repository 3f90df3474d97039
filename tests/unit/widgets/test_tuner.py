"""The tuning panel proposes with and without a front end, and applies only when it is asked."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from threading import Thread
from xml.etree import ElementTree

import pytest
from cluster_api import KSVC, OURS, Api, connected, obj

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.autoscaling.live_scaling import LiveScaling
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.cluster.change.proposal import propose_change
from qwenkit.cluster.live_scaling import live_scaling
from qwenkit.errors import Conflict, InvalidValue, NotReady, PreflightError, WaitTimeout
from qwenkit.widgets.tuner import Tuner

WIDGET = "application/vnd.jupyter.widget-view+json"
PREFIX = "autoscaling.knative.dev/"
SVG = "{http://www.w3.org/2000/svg}"
SERVER = VllmServer("V100-16", "Qwen-7B-Chat-Int8")


def scaling(annotations, *, limit=0, config=None, revision="qwen-00001"):
    spec = parse_spec(annotations, container_concurrency=limit, config=config)
    return LiveScaling(revision, annotations, spec, config or {}, "qwen")


def panel(*, limit=0, config=None, trace=None, **more):
    annotations = {PREFIX + "target": "2", PREFIX + "max-scale": "3"} | more
    kept = {name: text for name, text in annotations.items() if text is not None}
    return Tuner(scaling(kept, limit=limit, config=config), server=SERVER, trace=trace)


def test_the_panel_answers_before_it_is_shown():
    made = panel()
    assert made.value.effective_target == 1.4
    assert made.value.peak_replicas == 3
    assert made.value.requests > 0
    assert made.value == made.before, "nothing is proposed yet"
    assert repr(made).startswith("people in a chat, effective target 1.4: at most 3 replicas ready")


def test_the_panel_works_without_ipywidgets(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    made = panel()
    shown = made._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"}
    assert "<svg" in shown["text/html"]
    assert made.controls == {}
    assert made.propose(max_scale=1).peak_replicas == 1


def test_the_panel_needs_no_template_library():
    code = (
        "import sys, qwenkit.widgets.tuner, qwenkit.widgets.charts\n"
        "import qwenkit.capacity.search.recommend\n"
        "heavy = {'jinja2', 'pygments', 'ruamel', 'kubernetes', 'pydantic', 'ipywidgets'}\n"
        "ours = {'qwenkit.manifests', 'qwenkit.weights', 'qwenkit.settings', 'qwenkit.cluster'}\n"
        "print(sorted((heavy | ours) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_cluster_s_own_defaults_and_the_hard_limit_count():
    config = {"container-concurrency-target-percentage": "50", "stable-window": "90s"}
    made = panel(config=config | {"panic-window-percentage": "11"}, limit=1)
    assert made.settings["panic_window_percentage"] == 11
    assert (made.settings["target"], made.settings["window_s"]) == (1, 90)
    assert made.value.effective_target == 0.5
    assert made.propose(container_concurrency=4).effective_target == 1, "the annotation's 2 counts"


def test_an_unset_bound_is_shown_as_unset_and_stays_so():
    made = panel(**{PREFIX + "max-scale": None})
    slider = made.controls["max_scale"]
    assert slider.options[slider.index] == ("unset", 0)
    assert "<td>unset</td><td><b>unset</b></td>" in made._repr_mimebundle_()["text/html"]
    assert "max-scale-unset" in {finding.rule for finding in made.advice}
    made.propose(max_scale=2)
    assert "max-scale-unset" not in {finding.rule for finding in made.advice}


def test_what_is_not_answered_is_a_dash_and_not_zero():
    made = panel(trace="0,8,9000")  # its only answer takes longer than is simulated
    value = made.propose(traffic="your trace")
    assert (value.requests, value.ttft_p95_s, value.tpot_p95_s) == (0, None, None)
    assert "TTFT p95 -" in repr(made)
    html = made._repr_mimebundle_()["text/html"]
    assert re.search(r"TTFT p95</th><td>-</td><td><b>-</b></td>", html)


def test_every_traffic_is_answered_and_a_trace_of_one_s_own_too():
    made = panel(trace="seconds,prompt,output\n3,8,8\n4,8,1\n")
    assert made.propose(traffic="your trace").requests == 2
    answered = {name: made.propose(traffic=name).requests for name in made.choices["traffic"]}
    assert len(answered) == 5
    assert all(answered.values()), answered
    assert "your trace" in answered
    assert "your trace" not in panel().choices["traffic"]


def test_a_change_of_metric_gets_the_rulebooks_advice():
    made = panel()
    made.propose(autoscaler="KPA on rps")
    assert {"metric-rps", "hair-trigger-panic"} <= {finding.rule for finding in made.advice}
    html = made._repr_mimebundle_()["text/html"]
    assert "<b>warning</b>: waiting requests do not raise requests per second" in html


def test_other_autoscalers_are_compared_and_not_applied():
    made = panel()
    for name, target in (("HPA on GPU utilization", 70), ("KEDA on waiting requests", 2)):
        value = made.propose(autoscaler=name)
        assert (value.effective_target, made.before.effective_target) == (target, 1.4)
        assert (value.requests > 0, value.peak_replicas >= 1, made.advice) == (True, True, [])
    made.cluster = object()
    with pytest.raises(PreflightError, match="no annotation gives a Service KEDA"):
        made.apply()


def test_a_faster_clock_is_said_beside_the_figures():
    server = VllmServer("V100-16", "Qwen-7B-Chat-Int8", clock=10)
    made = Tuner(scaling({PREFIX + "target": "2"}), server=server)
    html = made._repr_mimebundle_()["text/html"]
    assert "clock × 10: a stand-in for the GPU" in html
    assert re.search(r"TPOT p95</th><td>about [\d.]+ ms \([\d.]+ to [\d.]+\)</td>", html)
    assert "clock" not in panel()._repr_mimebundle_()["text/html"]


def test_proposing_moves_values_picture_and_sliders():
    made = panel()
    assert WIDGET in made._repr_mimebundle_()
    before = made.picture.svg()
    value = made.propose(max_scale=1, target=8)
    assert (value.settings["max_scale"], value.settings["target"]) == (1, 8)
    assert value.peak_replicas == 1
    assert made.before.peak_replicas == 3, "what serves is still there to compare"
    assert made.picture.svg() != before
    assert (made.controls["max_scale"].value, made.controls["target"].value) == (1, 8)


def test_a_moved_slider_is_answered_beside_it():
    made = panel()
    made.controls["people"].value = 1
    assert made.value.people == 1
    assert made.value.peak_replicas == 1
    assert "<svg" in made._panel._drawn.value


def test_sliders_that_move_at_the_same_time_all_arrive():
    made = panel()
    wanted = {"people": 3, "target": 4, "window_s": 90, "min_scale": 1}
    controls = made.controls
    moves = [
        Thread(target=setattr, args=(controls[name], "value", value))
        for name, value in wanted.items()
    ]
    for move in moves:
        move.start()
    for move in moves:
        move.join()
    assert {name: made.settings[name] for name in wanted} == wanted
    assert {name: controls[name].value for name in wanted} == wanted


def test_sliders_that_contradict_each_other_show_why_and_change_nothing():
    made = panel()
    before = made.value
    made.controls["min_scale"].value = 5
    assert made.value is before
    assert made.controls["min_scale"].value == 0, "the sliders stand where the answer does"
    assert "min-scale=5" in made._panel._answer.value
    assert "<svg" in made._panel._drawn.value
    made.controls["people"].value = 2
    assert "min-scale=5" not in made._panel._answer.value, "the error goes with the next answer"


@pytest.mark.parametrize(
    ("sliders", "name"),
    [
        ({"min_scale": 5}, "max-scale"),
        ({"target": float("nan")}, "target"),
        ({"target": -1}, "target"),
        ({"window_s": 1}, "window"),
        ({"utilization_percentage": 0}, "utilization"),
        ({"people": 0, "traffic": "a burst every 5 minutes"}, "people"),
        ({"people": 2.5}, "people"),
        ({"people": None}, "people"),
        ({"target": "4"}, "target"),
        ({"target": True}, "target"),
        ({"window_s": 10**7}, "window"),
        ({"max_scale": float("inf")}, "max_scale"),
        ({"panic": 2}, "slider"),
        ({"traffic": "none"}, "traffic"),
    ],
)
def test_a_proposal_that_cannot_be_is_refused_by_name(sliders, name):
    made = panel()
    before, drawn = made.value, made.picture
    with pytest.raises(InvalidValue) as refused:
        made.propose(**sliders)
    assert name in refused.value.name
    assert (made.value, made.picture) == (before, drawn)
    assert made.propose(people=2).settings["min_scale"] == 0, "the refused value must not linger"


def test_sliders_reach_as_far_as_the_settings_that_they_start_from():
    made = panel(**{PREFIX + "target": "100", PREFIX + "window": "600s"}, limit=200)
    assert made.controls["target"].value == 100
    assert made.controls["window_s"].value == 600
    assert made.controls["container_concurrency"].value == 200


def test_more_pods_than_gpus_are_simulated_as_pending():
    made = Tuner(scaling({PREFIX + "target": "2"}), server=SERVER, gpus=2)
    for name in made.choices["autoscaler"]:
        assert made.propose(autoscaler=name, min_scale=3).peak_replicas == 2


def test_strings_of_the_cluster_are_escaped():
    evil = "<img src=x onerror=alert(1)>"
    made = Tuner(scaling({PREFIX + "target": "2"}, revision=evil), server=SERVER)
    assert evil not in made._repr_mimebundle_()["text/html"]


def test_the_picture_of_a_run_says_what_its_caption_says():
    drawn = panel().picture
    root = ElementTree.fromstring(drawn.svg())
    words = {word for text in root.iter(f"{SVG}text") for word in text.itertext()}
    assert {"in flight", "replicas", "seconds", "desired", "ready"} <= words
    assert {"0", "1", "2", "3", "6"} <= words
    assert repr(drawn) == "at most 6 requests in flight, at most 3 replicas ready"
    assert drawn._repr_mimebundle_() == {"text/plain": drawn.text, "text/html": drawn.svg()}


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def cluster(api, tmp_path, monkeypatch):
    """Serve a Service with Knative's answer to each change, on a node with two GPUs."""

    def reconciled(service):
        generation = service["metadata"]["generation"]
        name = f"qwen-{generation:05d}"
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        names = {"latestCreatedRevisionName": name, "latestReadyRevisionName": name}
        service["status"] = {"observedGeneration": generation, **names, **ready}
        notes = service["spec"]["template"]["metadata"]["annotations"]
        revision = obj("serving.knative.dev/v1/Revision", name, spec={})
        revision["metadata"]["annotations"] = dict(notes)
        api.add(revision)

    with connected(api, tmp_path, monkeypatch) as cluster:
        api.applied = reconciled
        containers = [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]
        notes = {PREFIX + "target": "2", PREFIX + "maxScale": "3"}
        template = {"metadata": {"annotations": notes}, "spec": {"containers": containers}}
        cluster.apply(obj(KSVC, "qwen", labels=OURS, spec={"template": template}))
        state = {"conditions": [{"type": "Ready", "status": "True"}]}
        api.add(obj("v1/Node", "n", status={**state, "allocatable": {"nvidia.com/gpu": "2"}}))
        yield cluster


def annotations(api):
    return api.get(KSVC, "qwen")["spec"]["template"]["metadata"]["annotations"]


def pressed(tuner, *names):
    """Press buttons one after the other, each when the last one's work is done."""
    for name in names:
        tuner._panel.buttons[name].click()
        deadline = time.monotonic() + 10
        while tuner._panel.buttons["Apply…"].disabled and time.monotonic() < deadline:
            time.sleep(0.01)
    return tuner._panel._said.value


def test_apply_and_undo_are_calls_in_papermill(cluster, api):
    before = dict(annotations(api))
    tuner = Tuner(live_scaling(cluster, "qwen"), server=SERVER, cluster=cluster, timeout_s=5)
    with pytest.raises(PreflightError, match="nothing to apply"):
        tuner.apply()
    with pytest.raises(PreflightError, match="nothing to undo"):
        tuner.undo()
    tuner.propose(target=4, max_scale=2, window_s=90)
    lines = []
    changed = tuner.apply(on_change=lines.append)
    assert changed.new_revision == tuner.running.revision == "qwen-00002"
    expected = {"target": "4", "max-scale": "2", "window": "90s"}
    assert annotations(api) == {PREFIX + name: text for name, text in expected.items()}
    assert lines
    assert tuner.value == tuner.before, "the sliders stand at what serves now"
    assert tuner.undo().new_revision == "qwen-00003"
    assert annotations(api) == before
    assert (tuner.settings["target"], tuner.settings["max_scale"]) == (2, 3)


def test_only_what_was_changed_can_be_undone(cluster, api):
    tuner = Tuner(live_scaling(cluster, "qwen"), server=SERVER, cluster=cluster, timeout_s=5)
    tuner.propose(target=4)
    stale = tuner.proposed()
    propose_change(cluster, "qwen", {"window": "90s"}).apply(timeout_s=5)
    with pytest.raises(Conflict, match="changed since"):
        tuner.apply(stale)
    with pytest.raises(PreflightError, match="nothing to undo"):
        tuner.undo()
    tuner.apply()
    api.applied = lambda _service: None  # the revision that takes it back never becomes ready
    tuner._timeout_s = 0.1
    with pytest.raises(WaitTimeout, match="rolled back"):
        tuner.undo()
    assert annotations(api)[PREFIX + "target"] == "4"
    assert tuner.proposed_undo().diff, "what was rolled back can be tried again"


def inside(box):
    """Return a box and all widgets in it."""
    return [box, *(one for child in getattr(box, "children", ()) for one in inside(child))]


def test_a_panel_without_a_named_cluster_only_proposes():
    made = panel()
    assert made.controls, "the panel is there"
    assert not set(made._panel.buttons.values()) & set(inside(made._panel.box))
    made.propose(target=4)
    with pytest.raises(PreflightError, match="no cluster"):
        made.apply()


def test_the_button_shows_the_change_and_asks_before_anything_is_done(cluster, api):
    tuner = Tuner(live_scaling(cluster, "qwen"), server=SERVER, cluster=cluster, timeout_s=5)
    tuner.controls["target"].value = 4
    shown = pressed(tuner, "Apply…")
    for word in (
        "context sandbox",
        "qwen-00001",
        PREFIX + "target",
        "GPUs: 1 needed",
        "2 of 2 free",
    ):
        assert word in shown
    assert annotations(api)[PREFIX + "target"] == "2"
    tuner.controls["target"].value = 5
    pressed(tuner, "Confirm")
    assert annotations(api)[PREFIX + "target"] == "2", "the question was about other settings"
    assert "qwen-00002 serves" in pressed(tuner, "Apply…", "Confirm")
    assert annotations(api)[PREFIX + "target"] == "5"
    pressed(tuner, "Undo…", "Cancel", "Confirm")
    assert annotations(api)[PREFIX + "target"] == "5"
    assert "qwen-00003 serves" in pressed(tuner, "Undo…", "Confirm")
    assert tuner.controls["target"].value == 2


def test_an_error_stays_in_the_panel_until_the_next_button(cluster, api):
    tuner = Tuner(live_scaling(cluster, "qwen"), server=SERVER, cluster=cluster, timeout_s=5)
    tuner.controls["min_scale"].value = 3
    refused = pressed(tuner, "Apply…")
    assert "GPUs: 3 needed, 2 of 2 free" in refused
    with pytest.raises(NotReady, match="surge does not work now"):
        tuner.apply()
    tuner.controls["people"].value = 2
    assert tuner._panel._said.value == refused
    pressed(tuner, "Confirm")
    assert PREFIX + "min-scale" not in annotations(api)
    assert "nothing to undo" in pressed(tuner, "Undo…")

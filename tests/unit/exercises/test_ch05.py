"""The exercises of chapter 05: right ways, wrong ways and what each is told."""

from __future__ import annotations

import pytest
from given_facts import GivenFacts, told

from qwenkit.cluster.kinds import REVISION
from qwenkit.exercises.exercise import PASSED, TODO, find
from qwenkit.settings import Settings

PREFIX = "autoscaling.knative.dev/"
DOCUMENTED = {"metric": "concurrency", "target": "2", "min-scale": "0", "max-scale": "3"}


def template(changed):
    """Return a template with the documentation's annotations, some of them changed."""
    limit = changed.pop("containerConcurrency", 0)
    annotations = {PREFIX + key: value for key, value in {**DOCUMENTED, **changed}.items()}
    return {"metadata": {"annotations": annotations}, "spec": {"containerConcurrency": limit}}


def revision(number, ready="True", **changed):
    labels = {"serving.knative.dev/service": "qwen"}
    made = template(changed)
    made["metadata"] |= {"name": f"qwen-{number:05}", "labels": labels}
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    return {
        **{"apiVersion": "serving.knative.dev/v1", "kind": "Revision"},
        **{**made, "status": status},
    }


def cluster(changed, *revisions):
    """Return the facts of a Service whose template has these annotations, and its revisions."""
    service = {
        **{"apiVersion": "serving.knative.dev/v1", "kind": "Service"},
        "metadata": {"name": "qwen"},
        "spec": {"template": template(dict(changed))},
    }
    return GivenFacts(Settings(), objects=[service, revision(1), *revisions])


@pytest.mark.parametrize(
    ("id_", "answer", "seen"),
    [
        ("05.1", 3, "no-headroom"),
        ("05.1", 2, "rounded-down"),
        ("05.1", 3.57, "not-rounded"),
        ("05.1", 3.5714, "not-rounded"),
        ("05.1", 5, "one-each"),
        ("05.1", 7, "multiplied"),
        ("05.1", 10, "doubled"),
        ("05.1", "four", "no-number"),
        ("05.1", True, "no-number"),
        ("05.1", 1, "other"),
        ("05.2", 1, "one-is-enough"),
        ("05.2", 3, "not-rounded"),
        ("05.2", 2.8, "effective"),
        ("05.2", 4, "twice-the-target"),
        ("05.2", 1.4, "not-whole"),
        ("05.2", 5, "the-load"),
        ("05.2", [2], "no-number"),
        ("05.1", 4, "passed"),
        ("05.1", 4.0, "passed"),
        ("05.2", 2, "passed"),
        ("05.1", None, "todo"),
        ("05.2", None, "todo"),
    ],
)
def test_an_answer(id_, answer, seen):
    assert told(id_, GivenFacts(answer=answer)) == seen


@pytest.mark.parametrize(
    ("id_", "now", "seen"),
    [
        ("05.3", {"target": "2.5"}, "no-headroom"),
        ("05.3", {"target": "3"}, "no-headroom"),
        ("05.3", {"target": "1"}, "too-low"),
        ("05.3", {"target-utilization-percentage": "100"}, "too-low"),
        ("05.3", {"target": "8"}, "too-high"),
        ("05.3", {"max-scale": "2"}, "capped"),
        ("05.3", {"min-scale": "2"}, "floor"),
        ("05.3", {"containerConcurrency": 3}, "hard-limit"),
        ("05.3", {"metric": "rps", "target": "4"}, "rps"),
        ("05.3", {"target": "4"}, "not-ready"),
        ("05.4", {"target": "1"}, "target"),
        ("05.4", {"min-scale": "3"}, "too-many"),
        ("05.4", {"max-scale": "1"}, "max-scale"),
        ("05.4", {"initial-scale": "2"}, "initial"),
        ("05.4", {"activation-scale": "2"}, "activation"),
        ("05.4", {"scale-to-zero-pod-retention-period": "1h"}, "retention"),
        ("05.4", {"window": "600s"}, "window"),
        ("05.4", {"scale-down-delay": "15m"}, "delay"),
        ("05.4", {"panic-threshold-percentage": "400"}, "other"),
        ("05.4", {"min-scale": "1"}, "not-ready"),
        ("05.3", {}, "todo"),
        ("05.4", {}, "todo"),
    ],
)
def test_a_setting_that_is_applied(id_, now, seen):
    assert told(id_, cluster(now, revision(2, "Unknown", **now))) == seen


@pytest.mark.parametrize(
    ("id_", "tried"),
    [
        ("05.3", {"target": "4"}),
        ("05.3", {"target": "7"}),
        ("05.3", {"target": "3", "target-utilization-percentage": "100"}),
        ("05.4", {"min-scale": "1"}),
        ("05.4", {"minScale": "1", "min-scale": "1"}),
    ],
)
def test_a_right_setting_passes_when_it_was_ready_and_is_changed_back(id_, tried):
    was_ready = revision(2, **tried)
    assert told(id_, cluster(tried, was_ready)) == "not-back"
    assert told(id_, cluster({"target": "9"}, was_ready)) == "not-back"
    assert find(id_).grade(cluster({}, was_ready, revision(3))) == PASSED
    assert find(id_).grade(cluster({}, revision(2, "False", **tried), revision(3))) == TODO


@pytest.mark.parametrize("id_", ["05.3", "05.4"])
def test_without_the_service_nothing_is_done_yet(id_):
    assert find(id_).grade(GivenFacts(Settings())) == TODO


@pytest.mark.parametrize(
    ("id_", "asked"), [("05.3", {"target": "4"}), ("05.4", {"min-scale": "1"})]
)
def test_what_was_so_from_the_beginning_is_nothing_that_was_tried(id_, asked):
    untouched = cluster(asked)
    (first,) = untouched.list(REVISION)
    first["metadata"]["annotations"].update({f"{PREFIX}{key}": asked[key] for key in asked})
    assert find(id_).grade(untouched) == TODO


@pytest.mark.parametrize("id_", ["05.3", "05.4"])
def test_the_first_revision_may_differ_from_the_settings(id_):
    as_deployed = cluster({"window": "10s"})
    (first,) = as_deployed.list(REVISION)
    first["metadata"]["annotations"][f"{PREFIX}window"] = "10s"
    assert find(id_).grade(as_deployed) == TODO

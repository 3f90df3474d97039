"""The exercises of chapter 06: right ways, wrong ways and what each is told."""

from __future__ import annotations

import pytest
from given_facts import GivenFacts, told

from qwenkit.exercises.exercise import PASSED, TODO, find
from qwenkit.settings import Settings

PREFIX = "autoscaling.knative.dev/"


def pod(number, *, ready="True", revision="qwen-00001", scheduled="True"):
    labels = {"serving.knative.dev/service": "qwen", "serving.knative.dev/revision": revision}
    conditions = {"Ready": ready, "PodScheduled": scheduled}
    return {
        **{"apiVersion": "v1", "kind": "Pod"},
        "metadata": {"name": f"{revision}-{number}", "labels": labels},
        "status": {
            "conditions": [
                {
                    "type": name,
                    "status": status,
                    "message": "0/1 nodes: Insufficient nvidia.com/gpu",
                }
                for name, status in conditions.items()
            ]
        },
    }


def cluster(*pods, **changed):
    """Return the facts of a Service with the documentation's annotations, some changed."""
    documented = {"metric": "concurrency", "target": "2", "min-scale": "0", "max-scale": "3"}
    changed = {key.replace("_", "-"): value for key, value in changed.items()}
    annotations = {PREFIX + key: value for key, value in {**documented, **changed}.items()}
    service = {
        **{"apiVersion": "serving.knative.dev/v1", "kind": "Service"},
        "metadata": {"name": "qwen"},
        "spec": {"template": {"metadata": {"annotations": annotations}, "spec": {}}},
    }
    return GivenFacts(Settings(), objects=[service, *pods])


@pytest.mark.parametrize(
    ("id_", "answer", "seen"),
    [
        ("06.1", 4, "not-capped"),
        ("06.1", 3.57, "not-whole"),
        ("06.1", 5, "one-each"),
        ("06.1", 2, "rounded-down"),
        ("06.1", 1, "alone"),
        ("06.1", "all", "no-number"),
        ("06.1", 9, "other"),
        ("06.2", 5, "one-a-second"),
        ("06.2", 4, "one-client"),
        ("06.2", 1.25, "multiplied"),
        ("06.2", 0.05, "inverse"),
        ("06.2", 60, "three-replicas"),
        ("06.2", 25, "other"),
        ("06.2", "fast", "no-number"),
        ("06.1", 3, "passed"),
        ("06.2", 20, "passed"),
        ("06.1", None, "todo"),
        ("06.2", None, "todo"),
    ],
)
def test_an_answer(id_, answer, seen):
    assert told(id_, GivenFacts(answer=answer)) == seen


@pytest.mark.parametrize(
    ("facts", "seen"),
    [
        (cluster(pod(1), pod(2), pod(3)), "too-many"),
        (cluster(pod(1), pod(2), pod(3, ready="False")), "too-many"),
        (cluster(pod(1), pod(2, ready="False")), "starting"),
        (cluster(pod(1), pod(2, ready="False", scheduled="False")), "no-gpu"),
        (cluster(pod(1), pod(2, revision="qwen-00002")), "two-revisions"),
        (cluster(pod(1), pod(2), min_scale="2"), "floor"),
        (cluster(pod(1), pod(2), initial_scale="2"), "floor"),
        (cluster(pod(1), pod(2), max_scale="2"), "capped"),
        (cluster(pod(1), pod(2), target="1"), "target"),
        (cluster(pod(1), pod(2), metric="rps"), "target"),
        (cluster(pod(1), pod(2)), "passed"),
        (cluster(pod(1)), "todo"),
        (cluster(), "todo"),
    ],
)
def test_pods_that_are_there(facts, seen):
    assert told("06.3", facts) == seen


def test_pods_that_end_do_not_count():
    ending = pod(3)
    ending["metadata"]["deletionTimestamp"] = "2026-11-28T05:00:00Z"
    assert find("06.3").grade(cluster(pod(1), pod(2), ending)) == PASSED
    assert find("06.3").grade(cluster(pod(1), ending)) == TODO
    assert find("06.3").grade(GivenFacts(Settings())) == TODO


def test_a_pod_that_no_revision_made_is_another_one():
    alien = pod(2)
    del alien["metadata"]["labels"]["serving.knative.dev/revision"]
    assert told("06.3", cluster(pod(1), alien)) == "two-revisions"

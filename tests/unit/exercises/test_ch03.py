"""Chapter 03: what each wrong answer or state is told, and every right way that passes."""

from __future__ import annotations

import pytest
from given_facts import verdict

OF_SERVICE = {"serving.knative.dev/service": "qwen"}
DEPLOYMENT = "qwen-00001-deployment"
TEAM = {"team": "me"}


def obj(api, kind, name, labels=None, **more):
    labels = (labels or {}) | (OF_SERVICE if kind != "Service" or api == "v1" else {})
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels}, **more}


def service(labels=None, annotations=None, template=None):
    found = obj("serving.knative.dev/v1", "Service", "qwen", labels)
    found["metadata"]["annotations"] = annotations or {}
    return found | {"spec": {"template": {"metadata": template or {}, "spec": {}}}}


def standing(**marked):
    """Return what Knative made of a Service; ``revision=TEAM`` labels one of its kinds."""
    return [
        obj("v1", "Service", "qwen", marked.get("core")),
        obj("serving.knative.dev/v1", "Configuration", "qwen", marked.get("configuration")),
        obj("serving.knative.dev/v1", "Revision", "qwen-00001", marked.get("revision")),
        obj("apps/v1", "Deployment", DEPLOYMENT, marked.get("deployment")),
        obj("v1", "Pod", f"{DEPLOYMENT}-abc-x1", marked.get("pod")),
    ]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "todo"),
        (9728, "passed"),
        (9730.5, "passed"),
        (10_100, "passed"),  # who took 1.5 GiB of activations
        (11_400, "no-share"),
        (13_283, "no-activations"),
        (30_682, "no-weights"),
        (32_297, "no-weights"),
        (608, "blocks"),
        (6144, "one-request"),
        (4.75, "gib"),
        ("9728 tokens", "no-number"),
        (True, "no-number"),
        (1_000_000, "other"),
    ],
)
def test_the_tokens_of_the_kv_cache(answer, told):
    assert verdict("03.1", answer) == told


def test_the_tokens_of_another_card():
    assert verdict("03.1", 9728, gpu="A10") != "passed"
    assert verdict("03.1", 22_100, gpu="A10") == "passed"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "todo"),
        (f"{DEPLOYMENT}-abc-x1", "passed"),
        (f"pod/{DEPLOYMENT}-abc-x1", "passed"),
        ("qwen", "service"),
        ("qwen-00001", "revision"),
        (DEPLOYMENT, "deployment"),
        (f"{DEPLOYMENT}-abc", "replica-set"),
        (f"{DEPLOYMENT}-abc-x0", "gone"),
        ("vllm-container", "other"),
        (1, "other"),
    ],
)
def test_the_pod_that_holds_the_gpu(answer, told):
    assert verdict("03.2", answer, standing()) == told


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        ([], "todo"),
        ([service()], "todo"),
        ([service(TEAM)], "passed"),
        ([service({"team": ""})], "passed"),
        ([service(TEAM), *standing(core=TEAM, configuration=TEAM)], "passed"),
        ([service(template={"labels": TEAM})], "template"),
        ([service(template={"annotations": TEAM})], "template"),
        ([service(TEAM, template={"labels": TEAM})], "template"),
        ([service(annotations=TEAM)], "annotation"),
        ([service(), *standing(core=TEAM)], "service"),
        ([service(), *standing(revision=TEAM)], "revision"),
        ([service(), *standing(deployment=TEAM)], "deployment"),
        ([service(), *standing(pod=TEAM)], "pod"),
    ],
)
def test_a_label_without_a_revision(objects, told):
    assert verdict("03.3", objects=[*standing(), *objects]) == told

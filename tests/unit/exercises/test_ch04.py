"""Chapter 04: what each wrong answer or state is told, and every right way that passes."""

from __future__ import annotations

import pytest
from given_facts import verdict

OF_SERVICE = {"serving.knative.dev/service": "qwen"}
METRICS = """\
vllm:time_to_first_token_seconds_count{{model_name="qwen"}} 2.0
vllm:time_to_first_token_seconds_sum{{model_name="qwen"}} 0.2
vllm:{name}_seconds_count{{model_name="qwen"}} {count}
vllm:{name}_seconds_sum{{model_name="qwen"}} 0.4
"""
OLD, NEW = "time_per_output_token", "inter_token_latency"


def conditions(**status):
    return {"conditions": [{"type": name, "status": value} for name, value in status.items()]}


def service(url="http://qwen.default.example.com", ready="True", **scaling):
    keys = {
        f"autoscaling.knative.dev/{key.replace('_', '-')}": value for key, value in scaling.items()
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "qwen"},
        "spec": {"template": {"metadata": {"annotations": keys}}},
        "status": {"url": url} | conditions(Ready=ready),
    }


def noted(one):
    """Return a Service with an annotation whose key has no prefix."""
    one["spec"]["template"]["metadata"]["annotations"]["note"] = "mine"
    return one


def pod(ready="True", **metadata):
    metadata |= {"name": "qwen-00001-deployment-a-b", "labels": OF_SERVICE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata} | {
        "status": conditions(Ready=ready)
    }


def revision(active):
    metadata = {"name": "qwen-00001", "labels": OF_SERVICE}
    one = {"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": metadata}
    return one | {"status": conditions(Active=active)}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "todo"),
        ("chat.team-a.example.com", "passed"),
        ("Chat.Team-A.example.com ", "passed"),  # hosts have no case
        ("http://chat.team-a.example.com", "url"),
        ("chat.team-a.example.com:80", "url"),
        ("47.1.2.3", "address"),
        ("qwen.default.example.com", "this-service"),
        ("chat.team-a.svc.cluster.local", "inside"),
        ("team-a.chat.example.com", "swapped"),
        ("chat.example.com", "no-namespace"),
        ("chat", "no-namespace"),
        ("chat.default.example.com", "no-namespace"),
        ("chat.team-a", "other-domain"),
        ("chat-team-a.example.com", "other-domain"),
    ],
)
def test_the_host_of_another_service(answer, told):
    assert verdict("04.1", answer, [service()]) == told
    assert verdict("04.1", answer) == told  # not deployed: Knative's own example


def test_the_host_follows_the_domain_of_the_cluster():
    own = [service("http://qwen-default.llm.corp")]
    assert verdict("04.1", "chat-team-a.llm.corp", own) == "passed"
    assert verdict("04.1", "chat.team-a.example.com", own) == "other-domain"
    inside = [service("http://qwen.default.svc.cluster.local")]
    assert verdict("04.1", "chat.team-a.svc.cluster.local", inside) == "passed"


def test_the_namespace_may_be_a_part_of_the_other_name():
    own = [service("http://qwen.chat.example.com")]
    assert verdict("04.1", "chat.team-a.example.com", own, namespace="chat") == "passed"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "todo"),
        (4.08, "passed"),
        (3, "passed"),  # as a client sees it
        (40.8, "gpu-time"),
        (4080, "milliseconds"),
        (20, "first-each"),
        (0.1, "first-only"),
        (0.02, "one-token"),
        ("4 s", "no-number"),
        (6.5, "other"),
        (13, "other"),  # not so near to a TTFT for each token
        (200, "other"),
    ],
)
@pytest.mark.parametrize("name", [OLD, NEW])
def test_the_time_of_a_stream(answer, told, name):
    pages = {"/metrics": METRICS.format(name=name, count=20)}
    assert verdict("04.2", answer, pages=pages, time_scale=10.0) == told


def test_no_time_of_a_stream_before_the_first_one():
    pages = {"/metrics": METRICS.format(name=OLD, count=0)}
    assert verdict("04.2", 4, pages=pages) == "no-stream"


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        ([], "todo"),
        ([service(max_scale="3", min_scale="0"), pod()], "todo"),
        ([service(), pod(ready="False")], "todo"),
        ([noted(service()), pod()], "todo"),
        ([service(max_scale="3", min_scale="0"), revision("False")], "passed"),
        ([service(max_scale="0"), pod()], "max-scale"),
        ([service(min_scale="1"), pod()], "min-scale"),
        ([service(scale_to_zero_pod_retention_period="1h"), pod()], "retention"),
        ([service(), pod(deletionTimestamp="2026-01-02T03:04:05Z")], "ending"),
        ([service(ready="False"), revision("False")], "broken"),
        ([service(), revision("True")], "by-hand"),
    ],
)
def test_scaled_to_zero(objects, told):
    assert verdict("04.3", objects=objects) == told

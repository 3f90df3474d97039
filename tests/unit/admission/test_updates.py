"""What an update may not change, and how Knative shows what it changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from knative_objects import IMAGE, pod_spec, service, words

from qwenkit.admission.review import default, review


def test_users_are_recorded_and_kept() -> None:
    stored = default(service(), user="ann")
    assert stored["metadata"]["annotations"] == {
        "serving.knative.dev/creator": "ann",
        "serving.knative.dev/lastModifier": "ann",
    }
    same = review(stored, old=stored, user="bob")
    assert same["metadata"]["annotations"]["serving.knative.dev/lastModifier"] == "ann"
    changed = copy.deepcopy(stored)
    pod_spec(changed)["timeoutSeconds"] = 60
    annotations = review(changed, old=stored, user="bob")["metadata"]["annotations"]
    assert annotations["serving.knative.dev/lastModifier"] == "bob"
    changed["metadata"]["annotations"]["serving.knative.dev/creator"] = "eve"
    assert words(changed, old=stored).startswith("annotation value is immutable: metadata.annot")


def test_a_named_template_changes_its_name() -> None:
    obj = service()
    obj["spec"]["template"]["metadata"] = {"name": "qwen-one"}
    stored = default(obj)
    pod_spec(obj)["containers"][0]["image"] = "registry.example.com/vllm:2"
    changed = copy.deepcopy(stored)
    pod_spec(changed)["containers"][0]["image"] = "registry.example.com/vllm:2"
    assert words(changed, old=stored) == (
        "Saw the following changes without a name change (-old +new): "
        "spec.template.metadata.name\n"
        "{*v1.RevisionTemplateSpec}.Spec.PodSpec.Containers[0].Image:\n"
        '\t-: "registry.example.com/vllm:1"\n\t+: "registry.example.com/vllm:2"\n'
    )
    changed["spec"]["template"]["metadata"]["name"] = "qwen-two"
    review(changed, old=stored)


def test_a_revision_never_changes() -> None:
    spec = pod_spec(service())
    revision = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {"name": "qwen-00001"},
        "spec": {**spec, "containerConcurrency": 2},
    }
    stored = review(revision)
    changed = copy.deepcopy(stored)
    changed["spec"]["containerConcurrency"] = 1
    assert words(changed, old=stored) == (
        "Immutable fields changed (-old +new): spec\n"
        '*{v1.RevisionSpec}.ContainerConcurrency:\n\t-: "2"\n\t+: "1"\n'
    )


CHANGED: list[tuple[dict[str, Any], str]] = [
    ({"args": ["--a", "--b", "--c"]}, '.Args[?->2]:\n\t+: "--c"\n'),
    ({"args": ["--z", "--a", "--b"]}, '.Args[?->0]:\n\t+: "--z"\n'),
    ({"args": ["--a"]}, '.Args[1->?]:\n\t-: "--b"\n'),
    ({"args": []}, '.Args:\n\t-: "[--a --b]"\n\t+: "[]"\n'),
    (
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]},
        '.Env[?->1]:\n\t+: v1.EnvVar: "{Name:B Value:3 ValueFrom:nil}"\n',
    ),
    (
        {"resources": {"limits": {"cpu": "2", "memory": "2Gi"}}},
        '.Resources.Limits["cpu"]:\n'
        '\t-: resource.Quantity: "{i:{value:1 scale:0} d:{Dec:<nil>} s:1 Format:DecimalSI}"\n'
        '\t+: resource.Quantity: "{i:{value:2 scale:0} d:{Dec:<nil>} s:2 Format:DecimalSI}"\n'
        '@.Resources.Limits["memory"]:\n'
        '\t+: resource.Quantity: "{i:{value:2147483648 scale:0} d:{Dec:<nil>} s:2Gi '
        'Format:BinarySI}"\n',
    ),
    (
        {
            "readinessProbe": {
                "httpGet": {"path": "/x", "port": "http"},
                "periodSeconds": 5,
                "timeoutSeconds": 2,
                "successThreshold": 1,
                "failureThreshold": 3,
            }
        },
        '.ReadinessProbe.ProbeHandler.HTTPGet.Path:\n\t-: "/health"\n\t+: "/x"\n'
        '@.ReadinessProbe.ProbeHandler.HTTPGet.Port.Type:\n\t-: "0"\n\t+: "1"\n'
        '@.ReadinessProbe.ProbeHandler.HTTPGet.Port.IntVal:\n\t-: "8000"\n\t+: "0"\n'
        '@.ReadinessProbe.ProbeHandler.HTTPGet.Port.StrVal:\n\t-: ""\n\t+: "http"\n'
        '@.ReadinessProbe.TimeoutSeconds:\n\t-: "1"\n\t+: "2"\n',
    ),
    (
        {"ports": []},
        '.Ports:\n\t-: "[{Name: HostPort:0 ContainerPort:8000 Protocol:TCP HostIP:}]"\n\t+: "[]"\n',
    ),
]


@pytest.mark.parametrize(("change", "expected"), CHANGED)
def test_changes_of_a_named_template(change: dict[str, Any], expected: str) -> None:
    """VerifyNameChange shows them through kmp.ShortDiff."""
    obj = service(
        {
            "args": ["--a", "--b"],
            "env": [{"name": "A", "value": "1"}],
            "ports": [{"containerPort": 8000}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5},
            "resources": {"limits": {"cpu": "1"}},
        }
    )
    obj["spec"]["template"]["metadata"] = {"name": "qwen-one"}
    stored = default(obj)
    changed = copy.deepcopy(stored)
    pod_spec(changed)["containers"][0].update(change)
    where = "{*v1.RevisionTemplateSpec}.Spec.PodSpec.Containers[0]"
    assert words(changed, old=stored) == (
        "Saw the following changes without a name change (-old +new): "
        f"spec.template.metadata.name\n{where}{expected.replace('@', where)}"
    )


def test_changes_stand_in_the_order_of_go() -> None:
    obj = service()
    obj["spec"]["template"]["metadata"] = {"name": "qwen-one", "labels": {"a": "1"}}
    stored = default(obj)
    changed = copy.deepcopy(stored)
    pod_spec(changed)["timeoutSeconds"] = 60
    pod_spec(changed)["containers"][0]["image"] = "registry.example.com/vllm:2"
    changed["spec"]["template"]["metadata"]["labels"]["b"] = "2"
    assert words(changed, old=stored) == (
        "Saw the following changes without a name change (-old +new): "
        "spec.template.metadata.name\n"
        '{*v1.RevisionTemplateSpec}.ObjectMeta.Labels["b"]:\n\t+: "2"\n'
        "{*v1.RevisionTemplateSpec}.Spec.PodSpec.Containers[0].Image:\n"
        f'\t-: "{IMAGE}"\n\t+: "registry.example.com/vllm:2"\n'
        '*{*v1.RevisionTemplateSpec}.Spec.TimeoutSeconds:\n\t-: "300"\n\t+: "60"\n'
    )

"""A Knative Service for the tests of admission, and the words in which it is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from qwenkit.admission.review import review
from qwenkit.errors import Rejected

VALIDATING = 'admission webhook "validation.webhook.serving.knative.dev" denied the request: '
MUTATING = 'admission webhook "webhook.serving.knative.dev" denied the request: '
GROUP = "autoscaling.knative.dev"
CLAIM = "kubernetes.podspec-persistent-volume-claim"
WRITE = "kubernetes.podspec-persistent-volume-write"
IMAGE = "registry.example.com/vllm:1"


def service(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Make a Service; ``container`` changes its container, the rest its pod."""
    containers = [{"name": "server", "image": IMAGE, **(container or {})}]
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "qwen", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": containers, **copy.deepcopy(spec)}}},
    }


def claiming(*, volume_ro: bool = True, mount_ro: bool = True) -> dict[str, Any]:
    claim = {"claimName": "llm-model", "readOnly": volume_ro}
    obj = service(volumes=[{"name": "m", "persistentVolumeClaim": claim}])
    mount = {"name": "m", "mountPath": "/m", "readOnly": mount_ro}
    pod_spec(obj)["containers"][0]["volumeMounts"] = [mount]
    return obj


def pod_spec(obj: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = obj["spec"]["template"]["spec"]
    return spec


def words(obj: dict[str, Any], **cluster: Any) -> str:
    """Return the refusal of an object, without the webhook's name."""
    with pytest.raises(Rejected) as caught:
        review(obj, **cluster)
    return caught.value.what.removeprefix(VALIDATING).removeprefix("validation failed: ")

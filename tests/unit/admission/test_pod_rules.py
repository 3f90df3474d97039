"""What the API server says of the pod of a revision, in the dry run that Knative makes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from knative_objects import service, words

from qwenkit.admission.config_maps import ALL_FEATURES
from qwenkit.admission.review import review

REQUIRED = "Required value"
RELATIVE, BACK = "must be a relative path", "must not contain '..'"
PORT = "must be between 1 and 65535, inclusive"
PROJECTED, SECCOMP = "projected.sources[0].", "securityContext.seccompProfile."
UNQUALIFIED = "must be a standard resource type or fully qualified"
NOT_OF_CONTAINERS = "must be a standard resource for containers"


def refusals(container: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    """Return what the API server refuses, without the parts that are always the same."""
    said = words(service(container, **spec), features=ALL_FEATURES).removesuffix(": spec.template")
    listed = re.fullmatch(r'.* Pod "dry-run-validation00000" is invalid: (\[.*\]|.*)', said)
    assert listed, said
    text = listed[1][1:-1] if listed[1].startswith("[") else listed[1]
    return [one.replace("spec.containers[0].", "") for one in re.split(r", (?=spec\.)", text)]


def items(path: str) -> list[dict[str, str]]:
    return [{"key": "k", "path": path}]


def projected(**source: Any) -> dict[str, Any]:
    return {"projected": {"sources": [source]}}


VOLUMES: list[tuple[dict[str, Any], str]] = [
    ({"secret": {}}, f"secret.secretName: {REQUIRED}"),
    ({"secret": {"name": "s"}}, f"secret.secretName: {REQUIRED}"),
    ({"configMap": {}}, f"configMap.name: {REQUIRED}"),
    ({"persistentVolumeClaim": {}}, f"persistentVolumeClaim.claimName: {REQUIRED}"),
    (
        {"secret": {"secretName": "s", "items": items("../p")}},
        f'secret.items[0].path: Invalid value: "../p": {BACK}',
    ),
    (
        {"configMap": {"name": "c", "items": items("/p")}},
        f'configMap.items[0].path: Invalid value: "/p": {RELATIVE}',
    ),
    (
        {"configMap": {"name": "c", "items": items("..p")}},
        "configMap.items[0].path: Invalid value: \"..p\": must not start with '..'",
    ),
    (
        {"secret": {"secretName": "s", "defaultMode": 1000}},
        "secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), "
        "both inclusive",
    ),
    (
        projected(serviceAccountToken={"path": "t", "expirationSeconds": 60}),
        f"{PROJECTED}serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a "
        "duration less than 10 minutes",
    ),
    (
        projected(secret={"name": "b", "items": [*items("p"), *items("p")]}),
        'projected: Invalid value: "b": conflicting duplicate paths',
    ),
]


@pytest.mark.parametrize(("source", "wrong"), VOLUMES)
def test_a_volume_that_is_wrong_cannot_be_mounted(source: dict[str, Any], wrong: str) -> None:
    mounts = [{"name": "v", "mountPath": "/v", "readOnly": True}]
    found = refusals({"volumeMounts": mounts}, volumes=[{"name": "v", **source}])
    assert found == [f"spec.volumes[0].{wrong}", 'volumeMounts[0].name: Not found: "v"']


CONTAINERS: list[tuple[dict[str, Any], list[str]]] = [
    *(
        ({probe: {"exec": {}}}, [f"{probe}.exec.command: {REQUIRED}"])
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
    ),
    (
        {"startupProbe": {"tcpSocket": {}}},
        [f"startupProbe.tcpSocket.port: Invalid value: 0: {PORT}"],
    ),
    (
        {"livenessProbe": {"grpc": {"port": 70000}}},
        [f"livenessProbe.grpc.port: Invalid value: 70000: {PORT}"],
    ),
    (
        {"startupProbe": {"httpGet": {"port": 80, "scheme": "ftp"}, "failureThreshold": -1}},
        [
            'startupProbe.httpGet.scheme: Unsupported value: "ftp": supported values: "HTTP", '
            '"HTTPS"',
            "startupProbe.failureThreshold: Invalid value: -1: must be greater than or equal to 0",
        ],
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
        [f"{SECCOMP}localhostProfile: {REQUIRED}: must be set when seccomp type is Localhost"],
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Strict"}}},
        [
            f'{SECCOMP}type: Unsupported value: "Strict": supported values: "Localhost", '
            '"RuntimeDefault", "Unconfined"'
        ],
    ),
    (
        {"securityContext": {"seccompProfile": {}}},
        [f"{SECCOMP}type: {REQUIRED}: type is required when seccompProfile is set"],
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "../p"}}},
        [f'{SECCOMP}localhostProfile: Invalid value: "../p": {BACK}'],
    ),
    (
        {"resources": {"limits": {"gpu": "1"}}},
        [
            f'resources.{side}[gpu]: Invalid value: "gpu": {rule}'
            for side in ("limits", "requests")
            for rule in (UNQUALIFIED, NOT_OF_CONTAINERS)
        ],
    ),
    (
        {"resources": {"requests": {"storage": "1Gi"}}},
        [f'resources.requests[storage]: Invalid value: "storage": {NOT_OF_CONTAINERS}'],
    ),
    (
        {"resources": {"limits": {"hugepages-2Mi": "2Mi"}}},
        ["resources: Forbidden: HugePages require cpu or memory"],
    ),
    (
        {"resources": {"requests": {"nvidia.com/gpu": "1", "aliyun.com/gpu-mem": "1"}}},
        [f"resources.limits: {REQUIRED}: Limit must be set for non overcommitable resources"],
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": ".."}}}]},
        ["env[0].valueFrom.secretKeyRef.key: Invalid value: \"..\": must not be '..'"],
    ),
]


@pytest.mark.parametrize(("container", "wrong"), CONTAINERS)
def test_containers(container: dict[str, Any], wrong: list[str]) -> None:
    assert refusals(container) == wrong


def test_a_liveness_probe_gets_the_port_of_the_server() -> None:
    review(service({"livenessProbe": {"httpGet": {"path": "/health"}}}))


def test_numbers_in_the_metadata_of_an_object() -> None:
    obj = service()
    obj["metadata"]["labels"] = {"release": 1}
    assert words(obj) == (
        'Service in version "v1" cannot be handled as a Service: json: cannot unmarshal number '
        "into Go struct field ObjectMeta.labels of type string"
    )


def test_null_annotations_are_dropped() -> None:
    obj = service()
    obj["spec"]["template"]["metadata"] = {"annotations": {"autoscaling.knative.dev/target": None}}
    assert "annotations" not in review(obj)["spec"]["template"]["metadata"]


def test_the_namespace_of_a_request() -> None:
    obj = service()
    elsewhere = {**obj, "metadata": {**obj["metadata"], "namespace": "other"}}
    said = "the namespace of the provided object does not match the namespace sent on the request"
    assert review(obj, namespace="default")
    assert words(obj, namespace="other") == said
    assert words(obj, old=review(elsewhere)) == said

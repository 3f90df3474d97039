"""Rules that no recording covers; expected words are those of Knative's source."""

from __future__ import annotations

from typing import Any

import pytest
from knative_objects import CLAIM, GROUP, MUTATING, WRITE, claiming, pod_spec, service, words

from qwenkit.admission.review import review
from qwenkit.errors import Rejected

CONTAINER = "spec.template.spec.containers[0]"


def with_container(**fields: Any) -> dict[str, Any]:
    return service(fields)


def annotated(**annotations: str) -> dict[str, Any]:
    obj = service()
    keys = {f"{GROUP}/{name.replace('_', '-')}": text for name, text in annotations.items()}
    obj["spec"]["template"]["metadata"] = {"annotations": keys}
    return obj


DISABLED = (
    "Persistent volume claim support is disabled, but found persistent volume claim llm-model: "
)
WRITABLE = (
    "Persistent volume write support is disabled, but found persistent volume claim llm-model that "
    "is not read-only: "
)
FORBIDDEN = "must not set the field(s): spec.template.spec.volumes[0].persistentVolumeClaim"


@pytest.mark.parametrize(
    ("features", "read_only", "expected"),
    [
        ({}, False, f"{DISABLED}\n{WRITABLE}\n{FORBIDDEN}"),
        ({}, True, f"{DISABLED}\n{FORBIDDEN}"),
        ({CLAIM: "enabled"}, False, WRITABLE),
        ({WRITE: "enabled"}, False, f"{DISABLED}\n{FORBIDDEN}"),
        ({CLAIM: "allowed"}, True, DISABLED),
    ],
)
def test_claim_flags_refuse(features: dict[str, str], read_only: bool, expected: str) -> None:
    obj = claiming(volume_ro=read_only, mount_ro=read_only)
    assert words(obj, features=features) == expected


@pytest.mark.parametrize(
    ("features", "read_only"),
    [({CLAIM: "enabled"}, True), ({CLAIM: "Enabled", WRITE: "Enabled"}, False)],
)
def test_claim_flags_accept(features: dict[str, str], read_only: bool) -> None:
    review(claiming(volume_ro=read_only, mount_ro=read_only), features=features)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            annotated(min_scale="99999999999"),
            "expected 0 <= 99999999999 <= 2147483647: "
            f"spec.template.metadata.annotations.{GROUP}/min-scale",
        ),
        (
            annotated(activation_scale="5", max_scale="3"),
            "max-scale=3 is less than activation-scale=5: "
            f"spec.template.metadata.annotations.{GROUP}/activation-scale",
        ),
        (
            annotated(initial_scale="0"),
            f"invalid value: 0: spec.template.metadata.annotations.{GROUP}/initial-scale=0 "
            "not allowed by cluster",
        ),
        (
            annotated(target_burst_capacity="-2", target="x"),
            f"invalid value: -2: spec.template.metadata.annotations.{GROUP}/target-burst-capacity\n"
            f"invalid value: x: spec.template.metadata.annotations.{GROUP}/target",
        ),
        (
            annotated(target="x", window="x"),
            f"invalid value: x: spec.template.metadata.annotations.{GROUP}/target, "
            f"spec.template.metadata.annotations.{GROUP}/window",
        ),
        (
            with_container(livenessProbe={"httpGet": {"path": "/", "port": "web"}}),
            f"invalid value: web: {CONTAINER}.livenessProbe.httpGet.port\n"
            "Probe port must match container port",
        ),
        (
            with_container(name="queue-proxy"),
            f'"queue-proxy" is a reserved container name: {CONTAINER}.name',
        ),
        (
            with_container(env=[{"value": "x"}]),
            f"missing field(s): {CONTAINER}.env[0].name",
        ),
        (
            with_container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
            f"must not set the field(s): {CONTAINER}.env[0].valueFrom.fieldRef",
        ),
        (
            with_container(envFrom=[{}]),
            "expected exactly one, got neither: "
            f"{CONTAINER}.envFrom.configMapRef, {CONTAINER}.envFrom.secretRef",
        ),
        (
            with_container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
            f"must not set the field(s): {CONTAINER}.securityContext.capabilities.add",
        ),
        (
            with_container(ports=[{"containerPort": 70000, "protocol": "UDP"}]),
            f"expected 0 <= 70000 <= 65535: {CONTAINER}.ports.containerPort\n"
            f"invalid value: UDP: {CONTAINER}.ports.protocol",
        ),
        (
            with_container(terminationMessagePolicy="Never"),
            f"invalid value: Never: {CONTAINER}.terminationMessagePolicy",
        ),
        (
            service(automountServiceAccountToken=True, hostIPC=True),
            "must not set the field(s): spec.template.spec.automountServiceAccountToken, "
            "spec.template.spec.hostIPC",
        ),
        (
            service(initContainers=[{"name": "a", "image": "x/y"}]),
            "must not set the field(s): spec.template.spec.initContainers\n"
            "pod spec support for init-containers is off, but found 1 init containers: ",
        ),
        (
            service(containers=[{"image": "x/y"}, {"image": "x/z"}]),
            "missing field(s): spec.template.spec.containers[*].ports",
        ),
        (
            service(volumes=[{"name": "v", "nfs": {"server": "x"}}]),
            "expected exactly one, got neither: spec.template.spec.volumes[0].configMap, "
            "spec.template.spec.volumes[0].emptyDir, spec.template.spec.volumes[0].projected, "
            "spec.template.spec.volumes[0].secret\n"
            'volume with name "v" not mounted: spec.template.spec.volumes[0].name',
        ),
    ],
)
def test_refusals(obj: dict[str, Any], expected: str) -> None:
    assert words(obj) == expected


def test_a_sidecar_may_not_be_probed() -> None:
    side = {"name": "side", "image": "x/y", "livenessProbe": {"exec": {}, "periodSeconds": 1}}
    main = {"name": "main", "image": "x/y", "ports": [{"containerPort": 8080}]}
    path = "spec.template.spec.containers[1].livenessProbe"
    assert words(service(containers=[main, side])) == (
        f"must not set the field(s): {path}, {path}.periodSeconds"
    )


def test_containers_are_named() -> None:
    main = {"image": "x/y", "ports": [{"containerPort": 8080}]}
    named = review(service(containers=[main, {"image": "x/z"}]))
    containers = pod_spec(named)["containers"]
    assert [each["name"] for each in containers] == ["user-container-0", "user-container-1"]
    assert containers[0]["readinessProbe"] == {"successThreshold": 1, "tcpSocket": {"port": 0}}
    assert "readinessProbe" not in containers[1]
    assert containers[0]["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]


def test_secret_mounts_become_read_only() -> None:
    obj = with_container(volumeMounts=[{"name": "s", "mountPath": "/s"}])
    pod_spec(obj)["volumes"] = [{"name": "s", "secret": {"secretName": "s"}}]
    spec = pod_spec(review(obj))
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"revisionName": "qwen-1", "latestRevision": True}, "may not set revisionName"),
        ({"configurationName": "x"}, "must not set the field(s): spec.traffic[0].configurationN"),
        ({"tag": "A"}, "invalid value: not a DNS 1035 label: [a DNS-1035 label must"),
        ({"url": "http://x"}, "must not set the field(s): spec.traffic[0].url"),
    ],
)
def test_traffic(target: dict[str, Any], expected: str) -> None:
    obj = service()
    obj["spec"]["traffic"] = [{"percent": 100, **target}]
    assert words(obj).startswith(expected)


def test_traffic_tags_differ() -> None:
    obj = service()
    obj["spec"]["traffic"] = [{"percent": 50, "tag": "a"}, {"percent": 50, "tag": "a"}]
    assert words(obj) == 'Multiple definitions for "a": spec.traffic[0].tag, spec.traffic[1].tag'


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("other-1", 'invalid value: "other-1" must have prefix "qwen-": '),
        ("Qwen-1", "invalid value: not a DNS 1035 label: [a DNS-1035 label must consist of"),
    ],
)
def test_template_names(name: str, expected: str) -> None:
    obj = service()
    obj["spec"]["template"]["metadata"] = {"name": name}
    found = words(obj)
    assert found.startswith(expected)
    assert found.endswith("spec.template.metadata.name")


def test_generated_names() -> None:
    obj = service()
    obj["metadata"] = {"generateName": "qwen-"}
    assert "name" not in review(obj)["metadata"]
    obj["metadata"] = {"generateName": "1x-"}
    assert words(obj).startswith("not a DNS 1035 label prefix: [a DNS-1035 label must")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"timeoutSeconds": "300"},
            "cannot unmarshal string into Go struct field "
            "Service.spec.template.spec.timeoutSeconds of type int64",
        ),
        (
            {"timeoutSeconds": 1.5},
            "cannot unmarshal number 1.5 into Go struct field "
            "Service.spec.template.spec.timeoutSeconds of type int64",
        ),
        (
            {"enableServiceLinks": 1},
            "cannot unmarshal number into Go struct field "
            "Service.spec.template.spec.enableServiceLinks of type bool",
        ),
    ],
)
def test_types(change: dict[str, Any], expected: str) -> None:
    prefix = f"{MUTATING}mutation failed: cannot decode incoming new object: json: "
    assert words(service(**change)) == prefix + expected


def test_a_float_that_is_whole_is_an_integer() -> None:
    assert pod_spec(review(service(timeoutSeconds=60.0)))["timeoutSeconds"] == 60


def test_unknown_fields_are_dropped() -> None:
    assert "foo" not in pod_spec(review(service(foo=1)))
    obj = claiming()
    pod_spec(obj)["volumes"][0]["persistentVolumeClaim"]["foo"] = 1
    spec = pod_spec(review(obj, features={CLAIM: "enabled"}))
    assert spec["volumes"][0]["persistentVolumeClaim"] == {
        "claimName": "llm-model",
        "readOnly": True,
    }


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            with_container(env=[{"name": "A"}, {"name": "A"}]),
            f'{CONTAINER}.env[1]: Duplicate value: {{"name":"A"}}',
        ),
        (
            {**service(), "metadata": {"name": "qwen", "labels": {"a": "x y"}}},
            'metadata.labels: Invalid value: "x y": a valid label must be an empty string',
        ),
        ({**service(), "metadata": {}}, "metadata.name: Required value: name or generateName"),
        (
            {**service(), "spec": {}},
            'spec.template.spec.containers: Invalid value: "null": spec.template.spec.containers '
            'in body must be of type array: "null"',
        ),
    ],
)
def test_what_the_api_server_refuses(obj: dict[str, Any], expected: str) -> None:
    with pytest.raises(Rejected) as caught:
        review(obj)
    name = obj["metadata"].get("name", "")
    start = f'Service.serving.knative.dev "{name}" is invalid: {expected}'
    assert caught.value.what.startswith(start)
    assert caught.value.context["status"] == 422


def test_autoscaling_annotations_belong_on_the_template() -> None:
    obj = service()
    obj["metadata"]["annotations"] = {f"{GROUP}/target": "2"}
    assert words(obj) == (
        f'invalid key name "{GROUP}/target": metadata.annotations\nautoscaling annotations must be '
        'put under "spec.template.metadata.annotations" to work'
    )


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            {"requests": {"nvidia.com/gpu": "1"}},
            "spec.containers[0].resources.limits: Required value: Limit must be set for non "
            "overcommitable resources",
        ),
        (
            {"limits": {"gpu": "1"}},
            'spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard '
            "resource type or fully qualified",
        ),
        (
            {"limits": {"memory": "1Gi"}, "requests": {"memory": "2048Mi"}},
            'spec.containers[0].resources.requests: Invalid value: "2Gi": must be less than or '
            "equal to memory limit of 1Gi",
        ),
    ],
)
def test_pods_are_tried_in_a_dry_run_only(resources: dict[str, Any], expected: str) -> None:
    obj = with_container(resources=resources)
    assert expected in words(obj, suffix="abcde")
    review(obj, dry_run=False)


def test_features_open_fields() -> None:
    obj = service(tolerations=[{"operator": "Exists"}], nodeSelector={"a": "b"})
    assert words(obj) == (
        "must not set the field(s): spec.template.spec.nodeSelector, spec.template.spec.tolerations"
    )
    flags = ("kubernetes.podspec-tolerations", "kubernetes.podspec-nodeselector")
    review(obj, features=dict.fromkeys(flags, "enabled"))


def test_cluster_defaults() -> None:
    config = {
        "revision-timeout-seconds": "120",
        "max-revision-timeout-seconds": "1200",
        "revision-cpu-request": "400m",
        "container-concurrency": "7",
    }
    spec = pod_spec(review(service(), defaults=config))
    assert (spec["timeoutSeconds"], spec["containerConcurrency"]) == (120, 7)
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "400m"}}
    longer = pod_spec(review(service(timeoutSeconds=1200), defaults=config))
    assert longer["responseStartTimeoutSeconds"] == 120
    review(annotated(initial_scale="0"), autoscaler={"allow-zero-initial-scale": "true"})


def test_routes_name_their_target() -> None:
    route = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Route",
        "metadata": {"name": "qwen"},
        "spec": {"traffic": [{"percent": 100}]},
    }
    assert words(route).startswith("expected exactly one, got neither: spec.traffic[0].config")
    route["spec"] = {"traffic": [{"percent": 100, "configurationName": "qwen"}]}
    assert review(route)["spec"]["traffic"][0]["latestRevision"] is True

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, obj, status
from good_cluster import (
    FLAG,
    KEYS,
    balanced,
    config,
    cpu_node,
    good_cluster,
    gpu_node,
    kourier,
    report_of,
    verdicts,
)

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gateway import find_gateway, gateway_url
from qwenkit.cluster.preflight.cost import estimate
from qwenkit.cluster.preflight.doctor import examine
from qwenkit.errors import NotFound, NotReady, PreflightError
from qwenkit.settings import Settings

Obj = dict[str, Any]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """A cluster on which the course can run, and keys in the environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return good_cluster()


def test_a_good_cluster_passes_everything(cluster: Cluster) -> None:
    report = report_of()
    assert set(verdicts(report).values()) == {"ok", "not applicable"}, str(report)
    assert report.ok
    report.require()
    assert report.found("kubernetes") == "v1.36.2"
    assert report.found("gpus") == "1 × Tesla-V100-SXM2-16GB, 4 GPUs"
    assert "http://10.1.2.3" in report.found("gateway")
    assert "top-secret" not in str(report) + str(report.to_dict())


@pytest.mark.parametrize(
    ("change", "check", "verdict", "text"),
    [
        (lambda a: a.objects.pop(("v1/Node", "", "gpu-1")), "gpus", "fail", "node pool"),
        (
            lambda a: a.add(gpu_node(**{"aliyun.accelerator/nvidia_name": "NVIDIA-A10"})),
            "gpus",
            "warn",
            "V100-16",
        ),
        (
            lambda a: a.add(gpu_node(**{"ack.aliyun.com/nvidia-driver-version": "470.1"})),
            "driver",
            "warn",
            "525.105.17",
        ),
        (lambda a: a.add(gpu_node(gpus=2)), "scale", "warn", "max_scale=2"),
        (
            lambda a: (a.add(gpu_node(gpus=2)), a.add(cpu_node())),
            "scale",
            "warn",
            "max_scale=2",
        ),
        (lambda a: a.without.add("Service"), "knative", "fail", "Deploy"),
        (
            lambda a: a.add(config("features", **{FLAG: "allowed"})),
            "pvc-flag",
            "fail",
            "kubectl patch configmap config-features",
        ),
        (
            lambda a: a.objects.pop(
                ("storage.k8s.io/v1/CSIDriver", "", "ossplugin.csi.alibabacloud.com")
            ),
            "csi-driver",
            "fail",
            "csi-plugin",
        ),
        (lambda a: a.objects.pop(("v1/Namespace", "", "default")), "namespace", "fail", "create"),
        (
            lambda a: a.add(
                obj(
                    "v1/PersistentVolume",
                    "llm-model",
                    labels=OURS,
                    spec={"claimRef": {"namespace": "alice", "name": "llm-model"}},
                )
            ),
            "names",
            "fail",
            "--set volume=llm-model-default",
        ),
        (
            lambda a: a.add(obj("v1/PersistentVolume", "llm-model", spec={})),
            "names",
            "fail",
            "another service",
        ),
        (
            lambda a: a.objects.pop(("v1/Service", "kourier-system", "kourier")),
            "gateway",
            "fail",
            "port-forward",
        ),
    ],
)
def test_each_missing_prerequisite_is_named_with_its_fix(
    cluster: Cluster, api: Api, change: Any, check: str, verdict: str, text: str
) -> None:
    change(api)
    report = report_of()
    found = next(c for c in report.checks if c.name == check)
    assert found.verdict == verdict
    assert text in found.why + found.fix
    assert report.ok is (verdict != "fail")
    if verdict == "fail":
        with pytest.raises(PreflightError, match=check):
            report.require()


def test_a_check_without_the_right_to_read_is_unknown(cluster: Cluster, api: Api) -> None:
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "nodes is forbidden") if path.endswith("/nodes") else None
    )
    report = report_of()
    gpus = next(c for c in report.checks if c.name == "gpus")
    assert (gpus.verdict, gpus.found) == ("unknown", "")
    assert "nodes is forbidden" in gpus.why
    assert report.ok


def test_without_a_cluster_the_rest_is_still_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise NotFound("bucket models does not exist", "NoSuchBucket", "create it")

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    report = examine(Settings(bucket="models"), bucket_check=missing, secret="s", service={})
    checks = {check.name: check for check in report.checks}
    assert (checks["cluster"].verdict, checks["gpus"].verdict) == ("fail", "unknown")
    assert "OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET" in checks["credentials"].why
    assert (checks["bucket"].verdict, checks["bucket"].fix) == ("fail", "create it")


def test_our_own_objects_are_no_obstacle(cluster: Cluster, api: Api) -> None:
    api.add(obj("v1/PersistentVolume", "llm-model", labels=OURS, spec={}))
    assert report_of().found("names") == "already ours: pv llm-model"
    assert verdicts(report_of(run="other"))["names"] == "fail"


@pytest.mark.parametrize(
    ("service", "url"),
    [
        (kourier(**balanced({"ip": "47.1.2.3"})), "http://47.1.2.3"),
        (kourier(port=34567, **balanced({"ip": "127.0.0.1"})), "http://127.0.0.1:34567"),
        (kourier(**balanced({"hostname": "lb.example.com"})), "http://lb.example.com"),
        (kourier("knative-serving", **balanced({"ip": "47.9.9.9"})), "http://47.9.9.9"),
        (kourier(**balanced({"ip": "2001:db8::1"})), "http://[2001:db8::1]"),
        (kourier(), "http://10.0.0.7:31080"),
    ],
)
def test_the_gateway_is_found_in_the_service(
    cluster: Cluster, api: Api, service: Obj, url: str
) -> None:
    del api.objects["v1/Service", "kourier-system", "kourier"]
    api.add(service)
    assert gateway_url(cluster) == url


def test_the_configured_ingress_class_comes_first(cluster: Cluster, api: Api) -> None:
    istio = kourier("istio-system", **balanced({"ip": "47.4.4.4"}))
    istio["metadata"]["name"] = "istio-ingressgateway"
    api.add(istio)
    assert gateway_url(cluster) == "http://10.1.2.3"
    api.add(config("network", **{"ingress-class": "istio.ingress.networking.knative.dev"}))
    assert gateway_url(cluster) == "http://47.4.4.4"


def test_the_parameter_wins_and_the_host_is_from_the_service(cluster: Cluster, api: Api) -> None:
    service = api.add(obj(KSVC, "qwen", spec={}))
    settings = Settings(gateway="127.0.0.1:8080")
    with pytest.raises(NotReady, match="no URL"):
        find_gateway(cluster, settings)
    service["status"] = {"url": "http://qwen.default.example.com"}
    found = find_gateway(cluster, settings)
    assert (found.url, found.host) == ("http://127.0.0.1:8080", "qwen.default.example.com")


def test_the_estimate_names_an_example_price() -> None:
    cost = estimate(Settings(min_scale=1, max_scale=3, gpu_count=2))
    assert (cost.least, cost.most) == (52, 156)
    assert str(cost) == "2 to 6 V100-16 GPU-hours, 52 to 156 CNY at 26 each, an example price"
    assert estimate(Settings(max_scale=0)).most is None
    assert estimate(Settings(gpu="H20")).least is None


def test_without_wanted_gpus_none_is_needed(cluster: Cluster, api: Api) -> None:
    api.add(gpu_node(gpus=0))
    report = report_of(gpu_count=0)
    assert {verdicts(report)[name] for name in ("gpus", "driver", "scale")} == {"not applicable"}
    assert "no GPU" in report.found("cost")
    assert report.ok


@pytest.mark.parametrize(
    ("version", "auth", "verdict", "text"),
    [
        ("", "key", "ok", "a Secret holds an AccessKey"),
        ("v1.33.1-aliyun", "key", "ok", "--set oss_auth=rrsa"),
        ("", "rrsa", "unknown", "since csi-plugin 1.33.1"),
        ("v1.32.4", "rrsa", "fail", "--set oss_auth=key"),
        ("v1.33.1-aliyun", "rrsa", "ok", "role reader"),
    ],
)
def test_a_role_in_place_of_a_key_needs_a_driver_that_knows_it(
    cluster: Cluster, api: Api, version: str, auth: str, verdict: str, text: str
) -> None:
    if version:
        image = f"registry.cn-hangzhou.aliyuncs.com/acs/csi-plugin:{version}"
        template = {"spec": {"containers": [{"name": "csi", "image": image}]}}
        plugin = obj("apps/v1/DaemonSet", "csi-plugin", namespace="kube-system")
        api.add(plugin | {"spec": {"template": template}})
    found = next(c for c in report_of(oss_auth=auth, rrsa_role="reader").checks if c.name == "rrsa")
    assert found.verdict == verdict
    assert text in found.found + found.why + found.fix


def test_the_driver_of_a_node_is_enough(cluster: Cluster, api: Api) -> None:
    del api.objects["storage.k8s.io/v1/CSIDriver", "", "ossplugin.csi.alibabacloud.com"]
    driver = {"name": "ossplugin.csi.alibabacloud.com", "nodeID": "i-1"}
    api.add(obj("storage.k8s.io/v1/CSINode", "gpu-1", spec={"drivers": None}))
    assert verdicts(report_of())["csi-driver"] == "fail"
    api.add(obj("storage.k8s.io/v1/CSINode", "gpu-2", spec={"drivers": [driver]}))
    assert verdicts(report_of())["csi-driver"] == "ok"


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port of this machine that accepts connections."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def addresses(api: Api, *found: str) -> None:
    node = api.get("Node", "gpu-1")
    assert node is not None
    node["status"]["addresses"] = [{"type": "InternalIP", "address": a} for a in found]


def unbalanced(api: Api, **spec: Any) -> None:
    service = kourier()
    service["spec"] |= spec
    api.add(service)


def test_of_several_nodes_the_one_that_answers_is_used(
    cluster: Cluster, api: Api, port: int
) -> None:
    ports = [{"name": "http2", "port": 80, "nodePort": port}]
    unbalanced(api, ports=ports)
    # Nothing listens on the first address.
    addresses(api, "127.0.0.0", "127.0.0.1")
    assert gateway_url(cluster) == f"http://127.0.0.1:{port}"


def test_the_address_of_the_service_is_used_only_if_it_answers(
    cluster: Cluster, api: Api, port: int
) -> None:
    unbalanced(api, clusterIP="127.0.0.1", ports=[{"name": "http2", "port": port}])
    assert gateway_url(cluster) == f"http://127.0.0.1:{port}"
    unbalanced(api, clusterIP="127.0.0.1", ports=[{"name": "http2", "port": closed_port()}])
    with pytest.raises(NotFound, match="gateway") as caught:
        gateway_url(cluster)
    assert "port-forward" in caught.value.fix
    unbalanced(api, clusterIP="None", ports=[{"name": "http2", "port": port}])
    with pytest.raises(NotFound):
        gateway_url(cluster)


def test_a_key_that_cannot_be_one_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "top\x01secret")
    monkeypatch.setenv("KUBECONFIG", "/absent")
    report = examine(Settings(), bucket_check=lambda: "", secret="s", service={})
    (check,) = [check for check in report.checks if check.name == "credentials"]
    assert (check.verdict, check.found) == ("fail", "OSS_ACCESS_KEY_SECRET")
    assert "U+0001" in check.why
    assert "top" not in str(report)

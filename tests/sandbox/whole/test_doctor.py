"""The doctor before odd clusters: cordoned, unready and sliced nodes, flags, classes, storage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kube_cluster import Cluster, running

from qwenkit.cluster.preflight.check import Check
from qwenkit.cluster.preflight.doctor import examine
from qwenkit.manifests.render import render
from qwenkit.manifests.template import plain
from qwenkit.sandbox.controllers.seed import seed
from qwenkit.sandbox.kube.objects import Object
from qwenkit.settings import Settings

V100, A100 = "Tesla-V100-SXM2-16GB", "NVIDIA-A100-SXM4-40GB"
PRODUCT = "nvidia.com/gpu.product"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kube")) as cluster:
        cluster.on_loop(lambda s: seed(s, node_name="n1", gpu="V100-16", gpus=2, gateway_port=1))
        yield cluster


@pytest.fixture(autouse=True)
def kubeconfig(world: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(world.kubeconfig))


@pytest.fixture
def add(world: Cluster) -> Iterator[Any]:
    """Add objects to the cluster for one test."""
    made: list[tuple[str, str, str]] = []

    def one(kind: str, name: str, namespace: str = "", **body: Any) -> None:
        metadata = {"name": name, "labels": body.pop("labels", {})}
        metadata |= {"namespace": namespace} if namespace else {}
        metadata |= {"annotations": body.pop("annotations", {})}
        made.append((kind, namespace, name))

        def create(store: Any) -> None:
            store.create(kind, {"metadata": metadata, **body})
            if "status" in body:
                store.update_status(kind, {**store.get(kind, namespace, name), **body})

        world.on_loop(create)

    yield one
    for place in reversed(made):
        world.on_loop(lambda store, at=place: store.delete(*at))


@pytest.fixture
def configured(world: Cluster) -> Iterator[Any]:
    """Change a ConfigMap of Knative for one test."""
    before: list[Object] = []

    def one(name: str, **data: str) -> None:
        def change(store: Any) -> None:
            found = store.get("ConfigMap", "knative-serving", f"config-{name}")
            before.append(found)
            store.update("ConfigMap", {**found, "data": {**found.get("data", {}), **data}})

        world.on_loop(change)

    yield one
    for old in before:
        old["metadata"].pop("resourceVersion")
        world.on_loop(lambda store, old=old: store.update("ConfigMap", old))


def node(add: Any, name: str, gpus: dict[str, str], ready: str = "True", **more: Any) -> None:
    amounts = {"cpu": "32", "memory": "128Gi", "pods": "110", **gpus}
    condition = {"type": "Ready", "status": ready}
    status = {"allocatable": amounts, "capacity": amounts, "conditions": [condition]}
    add("Node", name, labels=more.pop("labels", {}), spec=more, status=status)


def judged(spec: Any = None, **settings: Any) -> dict[str, Check]:
    """Return the checks by name; ``spec`` is added to the pod of the Service."""
    values = {"context": "sandbox", "bucket": "b1b", "oss_endpoint": "oss.example.com"} | settings
    chosen = Settings(**values)
    service = plain(render(chosen)[-1])
    service["spec"]["template"]["spec"] |= spec or {}
    found = examine(chosen, bucket_check=lambda: "", secret="s", service=service)
    return {check.name: check for check in found.checks}


def test_cordoned_and_unready_nodes_and_held_gpus_are_not_free(add: Any) -> None:
    node(add, "n2", {"nvidia.com/gpu": "8"}, labels={PRODUCT: V100}, unschedulable=True)
    node(add, "n3", {"nvidia.com/gpu": "8"}, ready="Unknown", labels={PRODUCT: V100})
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    add("Pod", "other", "default", spec={"nodeName": "n1", "containers": [container]})
    found = judged(max_scale=2)
    assert found["gpus"].found == (
        f"1 × {V100}, 2 GPUs, 1 free; not counted: n2 (cordoned), n3 (not ready)"
    )
    assert (found["gpus"].verdict, found["scale"].verdict) == ("ok", "warn")
    assert found["scale"].fix.endswith("--set max_scale=1")
    assert judged(max_scale=3)["scale"].why.endswith("the cluster has 2")


def test_another_gpu_is_named_with_the_setting_for_it(add: Any) -> None:
    only = {"spec": {"nodeSelector": {"pool": "new"}}}
    node(add, "n2", {"nvidia.com/gpu": "3"}, labels={PRODUCT: "NVIDIA-A10", "pool": "new"})
    assert "--set gpu=A10 (22 GiB, bfloat16" in judged(**only)["gpus"].fix
    assert judged(gpu="A10", **only)["gpus"].verdict == "ok"
    mixed = judged()["gpus"]
    assert (mixed.verdict, mixed.fix) == (
        "warn",
        f"--set node_selector=aliyun.accelerator/nvidia_name={V100}",
    )
    assert "not in node_selector" in judged({"nodeSelector": {"pool": "old"}})["gpus"].why


def test_slices_and_shared_gpus_are_counted_by_their_resource(add: Any) -> None:
    labels = {PRODUCT: A100, "pool": "mig"}
    amounts = {"nvidia.com/mig-3g.20gb": "2", "aliyun.com/gpu-mem": "80", "nvidia.com/gpu": "0"}
    node(add, "n2", amounts, labels=labels)
    selected = {"nodeSelector": {"pool": "mig"}}
    chosen = {"spec": selected, "gpu_resource": "nvidia.com/mig-3g.20gb", "max_scale": 2}
    found = judged(gpu="A100-40", **chosen)
    assert (found["gpus"].verdict, found["scale"].verdict) == ("ok", "ok")
    shared = judged(selected, gpu="A100-40", gpu_resource="aliyun.com/gpu-mem", max_scale=2)
    assert shared["gpus"].found == f"1 × {A100}, 80 GiB"
    assert shared["scale"].found == "max_scale 2, 39 GiB per replica, 80 GiB available"
    missing = judged(gpu_resource="nvidia.com/gpu.shared")["gpus"]
    assert missing.verdict == "fail"
    assert "nvidia.com/mig-3g.20gb" in missing.fix


def test_foreign_labels_and_taints(add: Any) -> None:
    labels = {PRODUCT: "AcmeGPU-9", "pool": "acme"}
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    node(add, "n2", {"nvidia.com/gpu": "3"}, labels=labels, taints=[taint])
    only = {"nodeSelector": {"pool": "acme"}}
    closed = judged(only)["gpus"]
    assert (closed.verdict, "taint gpu is not in tolerations" in closed.why) == ("fail", True)
    open_ = only | {"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}
    assert "gpu_bandwidth_gb_s" in judged(open_)["gpus"].fix
    own = {"gpu_memory_gib": 40, "gpu_bandwidth_gb_s": 900, "gpu_tflops": 99, "gpu_capability": 8}
    assert judged(open_, gpu="acme", **own)["gpus"].verdict == "ok"


def test_flags_that_the_pod_needs_come_with_their_command(configured: Any) -> None:
    assert judged()["feature-flags"].verdict == "not applicable"
    refused = judged({"nodeSelector": {"a": "b"}, "runtimeClassName": "nvidia"})
    assert refused["feature-flags"].verdict == "fail"
    for flag in ("nodeselector", "runtimeclassname"):
        assert f'"kubernetes.podspec-{flag}":"enabled"' in refused["feature-flags"].fix
    configured("features", **{"kubernetes.podspec-nodeselector": "allowed"})
    assert judged({"nodeSelector": {"a": "b"}})["feature-flags"].verdict == "ok"
    configured("features", **{"kubernetes.podspec-persistent-volume-claim": "allowed"})
    assert judged()["pvc-flag"].verdict == "fail"


def test_timeout_and_gateway_that_do_not_fit_the_cluster(configured: Any) -> None:
    configured("defaults", **{"max-revision-timeout-seconds": "300"})
    configured("network", **{"ingress-class": "istio.ingress.networking.knative.dev"})
    found = judged()
    assert (found["timeout"].verdict, found["timeout"].fix) == (
        "fail",
        "--set request_timeout_s=300",
    )
    assert "kourier.ingress.networking.knative.dev" in found["gateway"].fix
    assert judged(gateway="http://127.0.0.1:8080")["gateway"].verdict == "ok"
    configured("defaults", **{"max-revision-timeout-seconds": "soon"})
    assert judged()["timeout"].verdict == "unknown"


def test_what_a_pod_refers_to_must_exist(add: Any) -> None:
    names = {"image_pull_secret": "pull", "api_key_secret": "key", "runtime_class": "gvisor"}
    missing, place = judged(**names), ("image-pull-secret", "api-key-secret", "runtime-class")
    assert {missing[name].verdict for name in place} == {"fail"}
    assert "docker-registry pull" in missing["image-pull-secret"].fix
    add("Secret", "pull", "default")
    add("Secret", "key", "default")
    add("RuntimeClass", "gvisor", handler="runsc")
    assert {judged(**names)[name].verdict for name in place} == {"ok"}


def test_a_claim_needs_a_class_and_no_bucket(world: Cluster) -> None:
    found = judged(storage="pvc", bucket="", gpu_count=0)
    unused = ("bucket", "credentials", "csi-driver", "gpus", "driver", "scale", "rrsa")
    assert {found[name].verdict for name in unused} == {"not applicable"}
    assert (found["storage-class"].found, found["transfer-image"].verdict) == ("standard", "fail")
    ready = judged(storage="pvc", transfer_image="localhost/qwenkit:1")
    assert ready["transfer-image"].verdict == "ok"
    other = judged(storage="pvc", storage_class="fast")["storage-class"]
    assert (other.verdict, other.fix) == ("fail", "--set storage_class=standard")
    assert judged(storage="nas")["csi-driver"].found == "nasplugin.csi.alibabacloud.com"
    bare = {"gpu": "V100-16", "gpus": 2, "gateway_port": 1}
    world.on_loop(lambda s: seed(s, node_name="n1", oss_driver=False, **bare))
    world.on_loop(lambda s: s.delete("StorageClass", None, "standard"))
    found = judged(storage="pvc")
    assert "no default class" in found["storage-class"].why
    assert judged()["csi-driver"].verdict == judged(storage="nas")["csi-driver"].verdict == "fail"
    world.on_loop(lambda s: seed(s, node_name="n1", **bare))


def test_settings_that_contradict_each_other_are_said_before_a_deployment() -> None:
    found = judged(model_source="modelscope:Qwen/Qwen3-8B", quantization="gptq")["settings"]
    assert (found.verdict, "quantization" in found.fix) == ("fail", True)


def test_requests_must_fit_on_a_node() -> None:
    assert judged()["fit"].verdict == "ok"
    some = judged(cpu_request="40", cpu_limit="48")["fit"]
    assert (some.verdict, some.fix.partition(",")[0]) == ("warn", "--set max_scale=2")
    none = judged(memory_request="500Gi", memory_limit="500Gi")["fit"]
    assert (none.verdict, "n1 has cpu 96 and 393216Mi free" in none.why) == ("fail", True)

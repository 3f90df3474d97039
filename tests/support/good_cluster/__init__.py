"""A cluster on which doctor finds nothing to say, and what doctor says of one."""

from __future__ import annotations

from typing import Any

from cluster_api import Api, obj

from qwenkit.cluster.preflight.check import Check
from qwenkit.cluster.preflight.doctor import PreflightReport, examine
from qwenkit.manifests.render import render
from qwenkit.settings import Settings

Obj = dict[str, Any]
FLAG = "kubernetes.podspec-persistent-volume-claim"
KEYS = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "top-secret"}


def gpu_node(name: str = "gpu-1", gpus: int = 4, **labels: str) -> Obj:
    marks = {
        "aliyun.accelerator/nvidia_name": "Tesla-V100-SXM2-16GB",
        "ack.aliyun.com/nvidia-driver-version": "525.105.17",
    }
    addresses = [{"type": "InternalIP", "address": "10.0.0.7"}]
    return obj(
        "v1/Node",
        name,
        labels=marks | labels,
        status={
            "allocatable": {"nvidia.com/gpu": str(gpus)},
            "addresses": addresses,
            "images": [{"names": [f"{Settings().image.partition(':')[0]}@sha256:0123"]}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    )


def cpu_node() -> Obj:
    ready = [{"type": "Ready", "status": "True"}]
    status = {"allocatable": {"cpu": "64", "memory": "256Gi"}, "conditions": ready}
    return obj("v1/Node", "cpu-1", status=status)


def kourier(namespace: str = "kourier-system", port: int = 80, **status_: Any) -> Obj:
    ports = [
        {"name": "https", "port": 443, "nodePort": 31443},
        {"name": "http2", "port": port, "nodePort": 31080},
    ]
    return obj("v1/Service", "kourier", namespace=namespace, spec={"ports": ports}, status=status_)


def balanced(*ingress: Obj) -> Obj:
    return {"loadBalancer": {"ingress": list(ingress)}}


def config(name: str, **data: str) -> Obj:
    return obj("v1/ConfigMap", f"config-{name}", namespace="knative-serving", data=data)


def good_cluster() -> Api:
    """A cluster on which the course can run."""
    api = Api()
    controller = obj(
        "apps/v1/Deployment",
        "controller",
        namespace="knative-serving",
        labels={"app.kubernetes.io/version": "1.19.0"},
        status={"readyReplicas": 1},
    )
    for one in (
        gpu_node(),
        obj("v1/Namespace", "default"),
        obj("storage.k8s.io/v1/CSIDriver", "ossplugin.csi.alibabacloud.com"),
        config("features", **{FLAG: "enabled"}),
        config("network", **{"ingress.class": "kourier.ingress.networking.knative.dev"}),
        controller,
        kourier(**balanced({"ip": "10.1.2.3"})),
    ):
        api.add(one)
    return api


def report_of(**settings: Any) -> PreflightReport:
    chosen = Settings(**{"bucket": "models", "oss_endpoint": "oss.example.com"} | settings)
    return examine(
        chosen,
        bucket_check=lambda: "models, 3 objects",
        secret="s",
        service=render(chosen)[-1],
    )


def verdicts(report: PreflightReport) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def check_of(name: str, **settings: Any) -> Check:
    return next(check for check in report_of(**settings).checks if check.name == name)

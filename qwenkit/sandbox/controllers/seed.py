"""What is in the cluster before anybody comes: a GPU node, Knative with Kourier, the OSS driver."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping

from qwenkit.capacity.gpu import find_gpu
from qwenkit.sandbox.controllers.workloads.deployment import BUILT_IN
from qwenkit.sandbox.kube.objects import Object, timestamp, utc_now
from qwenkit.sandbox.kube.store import ObjectStore

KUBELET_VERSION = "v1.36.2"
DRIVER = "ossplugin.csi.alibabacloud.com"
QUEUE_IMAGE = "docker.io/lab/queue:1"
_NVIDIA_DRIVER = "525.105.17"
_NAMESPACES = ("default", "kube-system", "kube-public", "knative-serving", "kourier-system")
_SERVING = ("activator", "autoscaler", "controller", "net-kourier-controller", "webhook")
_GATEWAY = "3scale-kourier-gateway"
KNATIVE_VERSION = "main-202608"  # what the controllers follow: see the recordings of tests/data


# How a node's label shows each GPU of ``qwenkit.capacity.gpu``.
_GPU_NAMES: Mapping[str, str] = {
    "V100-16": "Tesla-V100-SXM2-16GB",
    "V100-32": "Tesla-V100-SXM2-32GB",
    "A10": "NVIDIA-A10",
    "T4": "Tesla-T4",
}


def seed(
    store: ObjectStore,
    *,
    node_name: str,
    gpu: str,
    gpus: int,
    gateway_port: int,
    cpu: str = "96",
    memory: str = "384Gi",
) -> None:
    """Create the objects that are missing; what is there already stays as it is.

    Args:
        store: the empty or reloaded cluster.
        node_name: the one node.
        gpu: its GPU model, a name of ``qwenkit.capacity.gpu``.
        gpus: how many it has.
        gateway_port: where the sandbox's gateway listens.
        cpu: what the node offers.
        memory: what the node offers.

    Raises:
        InvalidValue: the GPU model is not known.
    """
    for name in _NAMESPACES:
        _add(store, "Namespace", "", name, {})
    for kind, namespace, name, body in [*_configuration(), *_storage()]:
        _add(store, kind, namespace, name, body)
    _add_node(store, node_name, gpu, gpus, {"cpu": cpu, "memory": memory})
    for name in _SERVING:
        _add_deployment(store, "knative-serving", name)
    _add_deployment(store, "kourier-system", _GATEWAY)
    _add_activator(store)
    _add_gateway(store, gateway_port)


def _add(store: ObjectStore, kind: str, namespace: str, name: str, body: Object) -> None:
    if store.find(kind, namespace, name) is None:
        metadata = {**body.get("metadata", {}), "name": name}
        if namespace:
            metadata["namespace"] = namespace
        store.create(kind, {**body, "metadata": metadata})
        if "status" in body:
            created = store.get(kind, namespace, name)
            store.update_status(kind, {**created, "status": body["status"]})


def _configuration() -> list[tuple[str, str, str, Object]]:
    enabled = {
        "kubernetes.podspec-persistent-volume-claim": "enabled",
        "kubernetes.podspec-persistent-volume-write": "enabled",
    }
    data: Mapping[str, Mapping[str, str]] = {
        "config-autoscaler": {},
        "config-defaults": {},
        "config-deployment": {"queue-sidecar-image": QUEUE_IMAGE},
        "config-domain": {"example.com": ""},
        "config-features": enabled,
        "config-gc": {},
        "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
    }
    return [
        ("ConfigMap", "knative-serving", name, {"data": dict(values)})
        for name, values in data.items()
    ]


def _storage() -> list[tuple[str, str, str, Object]]:
    spec = {"attachRequired": False, "podInfoOnMount": True}
    return [("CSIDriver", "", DRIVER, {"spec": spec})]


def _add_node(
    store: ObjectStore, name: str, gpu: str, gpus: int, offers: Mapping[str, str]
) -> None:
    amounts = {**offers, "ephemeral-storage": "100Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    status = _node_status(name, amounts)
    labels = _node_labels(name, gpu, gpus)
    _add(store, "Node", "", name, {"metadata": {"labels": labels}, "spec": {}, "status": status})


def _node_labels(name: str, gpu: str, gpus: int) -> dict[str, str]:
    model = find_gpu(gpu)
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "ack.aliyun.com/nvidia-driver-version": _NVIDIA_DRIVER,
        "aliyun.accelerator/nvidia_name": _GPU_NAMES.get(model.name, model.name),
        "aliyun.accelerator/nvidia_count": str(gpus),
        "aliyun.accelerator/nvidia_mem": f"{int(model.usable_gib * 1024)}MiB",
    }


def _node_status(name: str, amounts: Mapping[str, str]) -> Object:
    info = {
        "machineID": uuid.uuid4().hex,
        "systemUUID": str(uuid.uuid4()),
        "bootID": str(uuid.uuid4()),
        "kernelVersion": platform.release(),
        "osImage": "qwenkit sandbox",
        "containerRuntimeVersion": "containerd://2.1.4",
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",  # a field that kubelets no longer fill
        "operatingSystem": "linux",
        "architecture": "amd64",
    }
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": _node_conditions(),
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": name},
        ],
        "nodeInfo": info,
    }


def _node_conditions() -> list[Object]:
    told = (
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "has sufficient memory available",
        ),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "is posting ready status"),
    )
    now = timestamp(utc_now())
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": f"kubelet {message}",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, status, reason, message in told
    ]


def _add_deployment(store: ObjectStore, namespace: str, name: str) -> None:
    """Add a component that the sandbox itself stands for: available, and without pods."""
    labels, now = {"app": name}, timestamp(utc_now())
    container = {"name": name, "image": f"sandbox/{name}"}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    available = {
        "type": "Available",
        "status": "True",
        "reason": "MinimumReplicasAvailable",
        "message": "Deployment has minimum availability.",
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }
    counts = dict.fromkeys(
        ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas"),
        1,
    )
    status = {**counts, "conditions": [available]}
    version = {"app.kubernetes.io/version": KNATIVE_VERSION}
    metadata = {"labels": {**labels, **version, BUILT_IN: "true"}}
    _add(
        store, "Deployment", namespace, name, {"metadata": metadata, "spec": spec, "status": status}
    )


def _add_activator(store: ObjectStore) -> None:
    ports = [{"name": "http", "port": 8012, "protocol": "TCP"}]
    subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": ports}]
    _add(store, "Endpoints", "knative-serving", "activator-service", {"subsets": subsets})


def _add_gateway(store: ObjectStore, port: int) -> None:
    ports = [{"name": "http2", "port": port, "targetPort": 8080, "protocol": "TCP"}]
    balancer = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
    body = {"spec": {"type": "LoadBalancer", "ports": ports}, "status": balancer}
    _add(store, "Service", "kourier-system", "kourier", body)
    found = store.get("Service", "kourier-system", "kourier")
    found["spec"]["ports"] = ports
    store.update("Service", found)

"""What is in a new cluster? A GPU node, Knative with Kourier, the OSS driver."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping

from qwenkit.admission.config_maps import PVC_FLAG, PVC_WRITE_FLAG
from qwenkit.capacity.calibration.cards import gpu_named
from qwenkit.sandbox.controllers.knative.autoscaler_metrics import PORT as AUTOSCALER_PORT
from qwenkit.sandbox.controllers.knative.queue_proxy import HTTP_PORT
from qwenkit.sandbox.controllers.loop import KNATIVE_NAMESPACE
from qwenkit.sandbox.controllers.names import KOURIER
from qwenkit.sandbox.controllers.workloads.deployment import BUILT_IN
from qwenkit.sandbox.controllers.workloads.volume_provisioning import IS_DEFAULT, LOCAL_PATH
from qwenkit.sandbox.kube.objects import Object, timestamp, utc_now
from qwenkit.sandbox.kube.storage.store import ObjectStore

KUBELET_VERSION = "v1.36.2"
OSS_DRIVER = "ossplugin.csi.alibabacloud.com"
NAS_DRIVER = "nasplugin.csi.alibabacloud.com"
GPU_RESOURCE = "nvidia.com/gpu"
QUEUE_IMAGE = "docker.io/lab/queue:1"
_NVIDIA_DRIVER = "525.105.17"
_KOURIER_NAMESPACE = "kourier-system"
_NAMESPACES = ("default", "kube-system", "kube-public", KNATIVE_NAMESPACE, _KOURIER_NAMESPACE)
_SERVING = ("activator", "autoscaler", "controller", "net-kourier-controller", "webhook")
_GATEWAY = "3scale-kourier-gateway"
KNATIVE_VERSION = "main-202608"  # the recorded one, which the controllers follow
_CONFIGURATION: Mapping[str, Mapping[str, str]] = {
    "config-autoscaler": {},
    "config-defaults": {},
    "config-deployment": {"queue-sidecar-image": QUEUE_IMAGE},
    "config-domain": {"example.com": ""},
    "config-features": {
        PVC_FLAG: "enabled",
        PVC_WRITE_FLAG: "enabled",
    },
    "config-gc": {},
    "config-observability": {"metrics-protocol": "prometheus"},
    "config-network": {"ingress-class": KOURIER},
}


def seed(
    store: ObjectStore,
    *,
    node_name: str,
    gpu: str,
    gpus: int,
    gateway_port: int,
    oss_driver: bool = True,
) -> None:
    """Create the missing objects; those that exist already stay as they are.

    Of an earlier sandbox, other nodes go, and so does a driver that this one has not.

    Args:
        store: the empty or reloaded cluster.
        node_name: the name of the only node; ``node_name(gpus)`` makes one.
        gpu: its GPU model, a name of ``qwenkit.capacity.gpu``, or a measured card.
        gpus: how many GPUs it has; without one it is a node of kind.
        gateway_port: where the sandbox's gateway listens.
        oss_driver: whether the node can mount a bucket.

    Raises:
        InvalidValue: the GPU model is not known.
    """
    for name in _NAMESPACES:
        _add(store, "Namespace", "", name, {})
    for name, values in _CONFIGURATION.items():
        _add(store, "ConfigMap", KNATIVE_NAMESPACE, name, {"data": dict(values)})
    for node in store.list("Node"):
        if node["metadata"]["name"] != node_name:
            store.delete("Node", None, node["metadata"]["name"])
    _add_node(store, node_name, gpu, gpus)
    _add_driver(store, node_name, installed=oss_driver)
    _add_class(store)
    for name in _SERVING:
        _add_deployment(store, KNATIVE_NAMESPACE, name)
    _add_deployment(store, _KOURIER_NAMESPACE, _GATEWAY)
    _add_activator(store)
    port = {"name": "http-metrics", "port": AUTOSCALER_PORT, "protocol": "TCP"}
    _add(store, "Service", KNATIVE_NAMESPACE, "autoscaler", {"spec": {"ports": [port]}})
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


def node_name(gpus: int) -> str:
    """Return the name of the only node."""
    return "gpu-node-1" if gpus else "kind-control-plane"


def _add_class(store: ObjectStore) -> None:
    """Add the default class of kind: a folder of the node, made when a pod needs it."""
    body = {
        "metadata": {"annotations": {IS_DEFAULT: "true"}},
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    _add(store, "StorageClass", "", "standard", body)


def _add_driver(store: ObjectStore, node: str, *, installed: bool) -> None:
    """Register ACK's drivers on the node, or take them away where an earlier sandbox had them."""
    names = (OSS_DRIVER, NAS_DRIVER) if installed else ()
    drivers = [{"name": name, "nodeID": node, "topologyKeys": None} for name in names]
    found = store.find("CSINode", None, node)
    if found is not None and bool(found["spec"].get("drivers")) != installed:
        store.delete("CSINode", None, node)
    for name in (OSS_DRIVER, NAS_DRIVER):
        if installed:
            spec = {"attachRequired": False, "podInfoOnMount": True}
            _add(store, "CSIDriver", "", name, {"spec": spec})
        elif store.find("CSIDriver", None, name):
            store.delete("CSIDriver", None, name)
    _add(store, "CSINode", "", node, {"spec": {"drivers": drivers}})


def _add_node(store: ObjectStore, name: str, gpu: str, gpus: int) -> None:
    sizes = ("96", "384Gi") if gpus else ("4", "8Gi")
    amounts = dict(zip(("cpu", "memory"), sizes, strict=True))
    amounts |= {"ephemeral-storage": "100Gi", "pods": "110"}
    amounts |= {GPU_RESOURCE: str(gpus)} if gpus else {}
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        **(_gpu_labels(gpu, gpus) if gpus else {"node-role.kubernetes.io/control-plane": ""}),
    }
    status = _node_status(name, amounts)
    _add(store, "Node", "", name, {"metadata": {"labels": labels}, "spec": {}, "status": status})


def _gpu_labels(gpu: str, gpus: int) -> dict[str, str]:
    model = gpu_named(gpu)
    return {
        "ack.aliyun.com/nvidia-driver-version": _NVIDIA_DRIVER,
        "aliyun.accelerator/nvidia_name": model.label,
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
    conditions = (
        ("MemoryPressure", "False", "HasSufficientMemory", "has sufficient memory available"),
        ("DiskPressure", "False", "HasNoDiskPressure", "has no disk pressure"),
        ("PIDPressure", "False", "HasSufficientPID", "has sufficient PID available"),
        ("Ready", "True", "Ready", "is posting ready status"),
    )
    now = timestamp(utc_now())
    return [
        {
            "type": kind,
            "status": status,
            "reason": f"Kubelet{reason}",
            "message": f"kubelet {message}",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, status, reason, message in conditions
    ]


def _add_deployment(store: ObjectStore, namespace: str, name: str) -> None:
    """Add a component that is part of the sandbox's own process: available, without pods."""
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
    fields = (
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
    )
    status = {**dict.fromkeys(fields, 1), "conditions": [available]}
    version = {"app.kubernetes.io/version": KNATIVE_VERSION}
    metadata = {"labels": {**labels, **version, BUILT_IN: "true"}}
    body = {"metadata": metadata, "spec": spec, "status": status}
    _add(store, "Deployment", namespace, name, body)


def _add_activator(store: ObjectStore) -> None:
    ports = [{"name": "http", "port": HTTP_PORT, "protocol": "TCP"}]
    subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": ports}]
    _add(store, "Endpoints", KNATIVE_NAMESPACE, "activator-service", {"subsets": subsets})


def _add_gateway(store: ObjectStore, port: int) -> None:
    ports = [{"name": "http2", "port": port, "targetPort": 8080, "protocol": "TCP"}]
    balancer = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
    body = {"spec": {"type": "LoadBalancer", "ports": ports}, "status": balancer}
    _add(store, "Service", _KOURIER_NAMESPACE, "kourier", body)
    found = store.get("Service", _KOURIER_NAMESPACE, "kourier")
    found["spec"]["ports"] = ports
    store.update("Service", found)

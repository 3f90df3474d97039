"""The preflight's checks of a cluster; each may raise, ``doctor`` turns that into a verdict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from qwenkit.cluster import gateway
from qwenkit.cluster.api_errors import fix_for
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    CSI_DRIVER,
    CSI_NODE,
    DEPLOYMENT,
    KNATIVE_NAMESPACE,
    KSVC,
    NAMESPACE,
    NODE,
    PV,
    PVC,
    SECRET,
    Kind,
    Obj,
    labels_of,
    name_of,
)
from qwenkit.cluster.ownership import is_ours, owner
from qwenkit.cluster.pods import gpus_of
from qwenkit.cluster.preflight.verdicts import Check, fail, ok, warn
from qwenkit.settings import Settings

CheckFunction = Callable[[Cluster, Settings, str | None], Iterable[Check]]

OLDEST = (1, 22)
DRIVER_LABEL = "ack.aliyun.com/nvidia-driver-version"
ADVISED_DRIVER = "525.105.17"
OSS_DRIVER = "ossplugin.csi.alibabacloud.com"
_MODEL_LABELS = ("aliyun.accelerator/nvidia_name", "nvidia.com/gpu.product")
_CLAIM_FLAG = "kubernetes.podspec-persistent-volume-claim"


def _version(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    del settings, secret
    answer = cluster.version()
    # Managed clusters write "28+" for the minor version.
    found = tuple(int(re.sub(r"\D", "", str(answer.get(k))) or 0) for k in ("major", "minor"))
    text = str(answer.get("gitVersion"))
    oldest = ".".join(map(str, OLDEST))
    if found < OLDEST:
        yield fail("kubernetes", text, f"older than {oldest}", f"upgrade the cluster to {oldest}")
    else:
        yield ok("kubernetes", text)


def _gpus(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    del secret
    if settings.gpu_count == 0:
        yield ok("gpus", "none wanted: gpu_count is 0")
        return
    nodes = [node for node in cluster.list(NODE) if gpus_of(node)]
    have = sum(map(gpus_of, nodes))
    if not nodes:
        yield fail(
            "gpus",
            "none",
            "no node can hand out nvidia.com/gpu",
            f"add a node pool with {settings.gpu} GPUs; the device plugin must run on it",
        )
        return
    models = Counter(model_of(node) for node in nodes)
    found = ", ".join(f"{count} × {model or 'unlabelled'}" for model, count in models.items())
    yield _model(f"{found}, {have} GPUs", models, settings)
    yield _driver(nodes)
    yield _capacity(have, settings)


def _model(found: str, models: Iterable[str], settings: Settings) -> Check:
    family = settings.gpu.split("-")[0].lower()
    known = [model for model in models if model]
    if known and not any(family in model.lower() for model in known):
        return warn(
            "gpus",
            found,
            f"the parameters are for {settings.gpu}",
            "set gpu, dtype and image for the GPU that is there",
        )
    return ok("gpus", found)


def _driver(nodes: list[Obj]) -> Check:
    versions = sorted({labels_of(node).get(DRIVER_LABEL, "") for node in nodes})
    found = ", ".join(version or "no label" for version in versions)
    if versions == [ADVISED_DRIVER]:
        return ok("driver", found)
    return warn(
        "driver",
        found,
        f"{ADVISED_DRIVER} is advised",
        f"label the node pool {DRIVER_LABEL}:{ADVISED_DRIVER}; only new nodes get it",
    )


def _capacity(have: int, settings: Settings) -> Check:
    name, found = "scale", f"max_scale {settings.max_scale}, {settings.gpu_count} GPU a replica"
    if settings.max_scale == 0:
        return warn(name, found, "no limit: a burst takes every GPU", "set max_scale")
    need = settings.max_scale * settings.gpu_count
    if need > have:
        return warn(
            name,
            found,
            f"{need} GPUs at full scale, the cluster has {have}",
            f"--set max_scale={max(have // settings.gpu_count, 1)}, or add nodes",
        )
    return ok(name, f"{found}, {have} GPUs there")


def model_of(node: Obj) -> str:
    """Return the GPU model that a node's labels name, empty if none does."""
    labels = labels_of(node)
    return next((labels[key] for key in _MODEL_LABELS if labels.get(key)), "")


def _knative(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    del settings, secret
    if not cluster.serves(KSVC):
        yield fail(
            "knative",
            "not installed",
            f"the cluster does not serve {KSVC.api_version}",
            "ACK: console, Applications > Knative > Deploy; else kubectl apply its releases",
        )
        return
    controller = cluster.find(DEPLOYMENT, "controller", namespace=KNATIVE_NAMESPACE)
    if controller is None:
        # ACK runs a managed Knative's control plane out of sight.
        yield ok("knative", f"serves {KSVC.api_version}; its controller is not visible here")
        return
    version = labels_of(controller).get("app.kubernetes.io/version", "version not labelled")
    if int(controller.get("status", {}).get("readyReplicas") or 0) < 1:
        yield fail(
            "knative",
            version,
            "its controller has no ready pod",
            f"kubectl get pods -n {KNATIVE_NAMESPACE}",
        )
    else:
        yield ok("knative", version)


def _gateway(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    del secret
    yield ok(
        "gateway",
        f"{gateway.ingress_class(cluster) or 'class unknown'}, "
        f"{gateway.address(cluster, settings)}",
    )


def _csi(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    del settings, secret
    if cluster.find(CSI_DRIVER, OSS_DRIVER) is None and not _on_a_node(cluster):
        yield fail(
            "csi-driver",
            "not installed",
            f"there is no CSIDriver {OSS_DRIVER} and no node has it: no pod mounts the bucket",
            "ACK: console, Operations > Add-ons > csi-plugin and csi-provisioner",
        )
    else:
        yield ok("csi-driver", OSS_DRIVER)


def _on_a_node(cluster: Cluster) -> bool:
    """Tell whether a node has the driver: its CSIDriver object is optional."""
    nodes = cluster.list(CSI_NODE) if cluster.serves(CSI_NODE) else []
    drivers = [driver for node in nodes for driver in node["spec"].get("drivers") or []]
    return any(driver.get("name") == OSS_DRIVER for driver in drivers)


def _flags(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    del settings, secret
    config = cluster.get(CONFIG_MAP, "config-features", namespace=KNATIVE_NAMESPACE)
    value = str((config.get("data") or {}).get(_CLAIM_FLAG, "disabled"))
    # The course mounts read-only, so the -write flag is not needed.
    if value.lower() in ("enabled", "allowed"):
        yield ok("pvc-flag", f"{_CLAIM_FLAG}: {value}")
    else:
        yield fail(
            "pvc-flag",
            f"{_CLAIM_FLAG}: {value}",
            "the webhook refuses a Service that mounts a PVC",
            fix_for("Persistent volume claim support is disabled"),
        )


def _namespace(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    del secret
    found = cluster.find(NAMESPACE, settings.namespace)
    if found is None:
        yield fail(
            "namespace",
            settings.namespace,
            "it does not exist",
            f"kubectl create namespace {settings.namespace}",
        )
    else:
        yield ok("namespace", settings.namespace)


def _names(cluster: Cluster, settings: Settings, secret: str | None) -> Iterable[Check]:
    wanted: list[tuple[Kind, str]] = [
        (KSVC, settings.service),
        (PVC, settings.volume),
        (PV, settings.volume),
        *([(SECRET, secret)] if secret else []),
    ]
    present = [
        (kind, obj)
        for kind, name in wanted
        if (obj := cluster.find(kind, name, namespace=settings.namespace))
    ]
    foreign = [(k, o) for k, o in present if not is_ours(o, run=settings.run)]
    if foreign:
        _, obj = foreign[0]
        yield fail(
            "names",
            ", ".join(f"{k} {name_of(o)}" for k, o in foreign),
            f"taken, and not by run {settings.run!r}: {owner(obj)}",
            "choose another service, volume or namespace",
        )
    elif present:
        yield ok("names", "ours already: " + ", ".join(f"{k} {name_of(o)}" for k, o in present))
    else:
        yield ok("names", "free")


CHECKS: tuple[tuple[str, CheckFunction], ...] = (
    ("kubernetes", _version),
    ("gpus", _gpus),
    ("knative", _knative),
    ("gateway", _gateway),
    ("csi-driver", _csi),
    ("pvc-flag", _flags),
    ("namespace", _namespace),
    ("names", _names),
)

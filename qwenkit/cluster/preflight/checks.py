"""The checks of a cluster before a deployment; each returns verdicts or raises."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from qwenkit.admission.config_maps import PVC_FLAG
from qwenkit.cluster import gateway
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
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
    Obj,
    labels_of,
)
from qwenkit.cluster.ownership import another_volume, foreign_claim, is_ours, owner
from qwenkit.cluster.pods import gpus_of
from qwenkit.cluster.pvc_flags import enable_command, is_enabled
from qwenkit.settings import Settings

_OLDEST = (1, 22)
_DRIVER_LABEL = "ack.aliyun.com/nvidia-driver-version"
_ADVISED_DRIVER = "525.105.17"
_OSS_DRIVER = "ossplugin.csi.alibabacloud.com"
_MODEL_LABELS = ("aliyun.accelerator/nvidia_name", "nvidia.com/gpu.product")


@dataclass(frozen=True)
class Check:
    """A prerequisite: what was found, the verdict, and unless it is ``ok``, why and the fix."""

    name: str
    found: str
    verdict: Literal["ok", "warn", "fail", "unknown"]
    why: str = ""
    fix: str = ""

    def lines(self) -> list[str]:
        """Return the check as text."""
        notes = [("why", self.why), ("fix", self.fix)]
        shown = [f"         {label}: {text}" for label, text in notes if text]
        return [f"{self.verdict:<8} {self.name}: {self.found}".rstrip(": "), *shown]


def ok(name: str, found: str) -> Check:
    """Return a prerequisite that is met."""
    return Check(name, found, "ok")


def warn(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite with a problem that does not stop the course."""
    return Check(name, found, "warn", why, fix)


def fail(name: str, found: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite that is missing, which stops the course."""
    return Check(name, found, "fail", why, fix)


def unknown(name: str, why: str, fix: str = "") -> Check:
    """Return a prerequisite that could not be checked."""
    return Check(name, "", "unknown", why, fix)


@dataclass(frozen=True)
class ClusterChecks:
    """What is checked: a cluster, for these settings and this Secret."""

    cluster: Cluster
    settings: Settings
    secret: str

    def _kubernetes(self) -> list[Check]:
        answer = self.cluster.version()
        # Managed clusters write "28+" for the minor version.
        found = tuple(int(re.sub(r"\D", "", str(answer.get(k))) or 0) for k in ("major", "minor"))
        version, oldest = str(answer.get("gitVersion")), ".".join(map(str, _OLDEST))
        if found >= _OLDEST:
            return [ok("kubernetes", version)]
        why, fix = f"older than {oldest}", f"upgrade the cluster to {oldest}"
        return [fail("kubernetes", version, why, fix)]

    def _gpus(self) -> list[Check]:
        if self.settings.gpu_count == 0:
            return [ok("gpus", "none needed: gpu_count is 0")]
        nodes = [node for node in self.cluster.list(NODE) if gpus_of(node)]
        if not nodes:
            why = "no node can allocate nvidia.com/gpu"
            fix = f"add a node pool with {self.settings.gpu} GPUs; the device plugin must run on it"
            return [fail("gpus", "none", why, fix)]
        available = sum(map(gpus_of, nodes))
        return [
            _gpu_model(nodes, available, self.settings),
            _driver(nodes),
            _scale(available, self.settings),
        ]

    def _knative(self) -> list[Check]:
        if not self.cluster.serves(KSVC):
            why = f"the cluster does not serve {KSVC.api_version}"
            fix = "ACK: console, Applications > Knative > Deploy; else kubectl apply its releases"
            return [fail("knative", "not installed", why, fix)]
        controller = self.cluster.find(DEPLOYMENT, "controller", namespace=KNATIVE_NAMESPACE)
        if controller is None:
            # ACK hides the control plane of a managed Knative.
            found = f"serves {KSVC.api_version}; its controller is not visible here"
            return [ok("knative", found)]
        version = labels_of(controller).get("app.kubernetes.io/version", "version not labelled")
        if int(controller.get("status", {}).get("readyReplicas") or 0) > 0:
            return [ok("knative", version)]
        fix = f"kubectl get pods -n {KNATIVE_NAMESPACE}"
        return [fail("knative", version, "its controller has no ready pod", fix)]

    def _gateway(self) -> list[Check]:
        ingress = gateway.ingress_class(self.cluster) or "class unknown"
        url = gateway.gateway_url(self.cluster, self.settings.gateway)
        return [ok("gateway", f"{ingress}, {url}")]

    def _csi_driver(self) -> list[Check]:
        if self.cluster.find(CSI_DRIVER, _OSS_DRIVER) or self._node_has_driver():
            return [ok("csi-driver", _OSS_DRIVER)]
        why = f"there is no CSIDriver {_OSS_DRIVER} and no node has it: no pod can mount the bucket"
        fix = "ACK: console, Operations > Add-ons > csi-plugin and csi-provisioner"
        return [fail("csi-driver", "not installed", why, fix)]

    def _node_has_driver(self) -> bool:
        """Return whether a node has the driver: its CSIDriver object is optional."""
        nodes = self.cluster.list(CSI_NODE)
        drivers = [driver for node in nodes for driver in node["spec"].get("drivers") or []]
        return any(driver.get("name") == _OSS_DRIVER for driver in drivers)

    def _pvc_flag(self) -> list[Check]:
        # The course mounts read-only, so the -write flag is not needed.
        features = self.cluster.knative_config("features")
        found = f"{PVC_FLAG}: {features.get(PVC_FLAG, 'disabled')}"
        if is_enabled(features):
            return [ok("pvc-flag", found)]
        why = "the webhook refuses a Service that mounts a PVC"
        return [fail("pvc-flag", found, why, enable_command())]

    def _namespace(self) -> list[Check]:
        name = self.cluster.namespace
        if self.cluster.find(NAMESPACE, name):
            return [ok("namespace", name)]
        return [fail("namespace", name, "it does not exist", f"kubectl create namespace {name}")]

    def _names(self) -> list[Check]:
        volume = self.settings.volume
        wanted = [(KSVC, self.settings.service), (PVC, volume), (PV, volume), (SECRET, self.secret)]
        found = {f"{kind} {name}": self.cluster.find(kind, name) for kind, name in wanted}
        present = {name: obj for name, obj in found.items() if obj}
        run, here = self.cluster.run, self.cluster.namespace
        if claim := foreign_claim(present.get(f"{PV} {volume}", {}), here):
            why = f"taken: it belongs to the claim {claim}"
            return [fail("names", f"{PV} {volume}", why, another_volume(volume, here))]
        foreign = {name: obj for name, obj in present.items() if not is_ours(obj, run=run)}
        if foreign:
            why = f"taken, and not by run {run!r}: {owner(next(iter(foreign.values())))}"
            fix = "choose another service, volume or namespace"
            return [fail("names", ", ".join(foreign), why, fix)]
        return [ok("names", f"already ours: {', '.join(present)}" if present else "free")]


CHECKS: Mapping[str, Callable[[ClusterChecks], list[Check]]] = {
    "kubernetes": ClusterChecks._kubernetes,
    "gpus": ClusterChecks._gpus,
    "knative": ClusterChecks._knative,
    "gateway": ClusterChecks._gateway,
    "csi-driver": ClusterChecks._csi_driver,
    "pvc-flag": ClusterChecks._pvc_flag,
    "namespace": ClusterChecks._namespace,
    "names": ClusterChecks._names,
}


def _gpu_model(nodes: Iterable[Obj], available: int, settings: Settings) -> Check:
    models = Counter(_model_of(node) for node in nodes)
    counts = ", ".join(f"{count} × {model or 'unlabelled'}" for model, count in models.items())
    found = f"{counts}, {available} GPUs"
    family = settings.gpu.split("-")[0].lower()
    known = [model for model in models if model]
    if known and not any(family in model.lower() for model in known):
        why = f"the parameters are for {settings.gpu}"
        return warn("gpus", found, why, "set gpu, dtype and image for the GPU of the nodes")
    return ok("gpus", found)


def _model_of(node: Obj) -> str:
    """Return the GPU model that a node's labels name, empty if none does."""
    labels = labels_of(node)
    return next((labels[key] for key in _MODEL_LABELS if labels.get(key)), "")


def _driver(nodes: Iterable[Obj]) -> Check:
    versions = sorted({labels_of(node).get(_DRIVER_LABEL, "") for node in nodes})
    found = ", ".join(version or "no label" for version in versions)
    if versions == [_ADVISED_DRIVER]:
        return ok("driver", found)
    fix = f"label the node pool {_DRIVER_LABEL}:{_ADVISED_DRIVER}; only new nodes get it"
    return warn("driver", found, f"{_ADVISED_DRIVER} is advised", fix)


def _scale(available: int, settings: Settings) -> Check:
    found = f"max_scale {settings.max_scale}, {settings.gpu_count} GPU per replica"
    if settings.max_scale == 0:
        return warn("scale", found, "no limit: a burst takes every GPU", "set max_scale")
    need = settings.max_scale * settings.gpu_count
    if need <= available:
        return ok("scale", f"{found}, {available} GPUs available")
    why = f"{need} GPUs at full scale, the cluster has {available}"
    fix = f"--set max_scale={max(available // settings.gpu_count, 1)}, or add nodes"
    return warn("scale", found, why, fix)

"""The checks of a cluster before a deployment; each returns verdicts or raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qwenkit.cluster import gateway
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    DEPLOYMENT,
    KNATIVE_NAMESPACE,
    KSVC,
    NAMESPACE,
    NODE,
    POD,
    PV,
    PVC,
    SECRET,
    SERVICE_LABEL,
    Obj,
    labels_of,
)
from qwenkit.cluster.ownership import another_volume, foreign_claim, is_ours, owner
from qwenkit.cluster.preflight import needs
from qwenkit.cluster.preflight.check import Check, fail, ok, warn
from qwenkit.cluster.preflight.node_checks import fit_check, gpu_checks, on_ack
from qwenkit.cluster.preflight.rooms import Rooms
from qwenkit.errors import Forbidden
from qwenkit.settings import Settings

_OLDEST = (1, 22)


@dataclass(frozen=True)
class ClusterChecks:
    """What is checked: a cluster, for these settings, this Secret and the Service to deploy."""

    cluster: Cluster
    settings: Settings
    secret: str
    service: Mapping[str, Any]

    def _kubernetes(self) -> list[Check]:
        answer = self.cluster.version()
        # Managed clusters write "28+" for the minor version.
        found = tuple(int(re.sub(r"\D", "", str(answer.get(k))) or 0) for k in ("major", "minor"))
        version, oldest = str(answer.get("gitVersion")), ".".join(map(str, _OLDEST))
        if found >= _OLDEST:
            return [ok("kubernetes", version)]
        why, fix = f"older than {oldest}", f"upgrade the cluster to {oldest}"
        return [fail("kubernetes", version, why, fix)]

    @cached_property
    def spec(self) -> Obj:
        """The pod's part of the Service."""
        return dict(self.service["spec"]["template"]["spec"])

    @cached_property
    def rooms(self) -> Rooms:
        """The nodes, and the pods of others on them."""
        nodes = tuple(self.cluster.list(NODE))
        try:
            pods = self.cluster.list(POD, everywhere=True)
            own = self.cluster.list(POD, labels={SERVICE_LABEL: self.settings.service})
        except Forbidden:
            return Rooms(nodes, self.spec, ())
        uids = {pod["metadata"]["uid"] for pod in own}
        return Rooms(nodes, self.spec, tuple(p for p in pods if p["metadata"]["uid"] not in uids))

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
        configured = gateway.ingress_class(self.cluster)
        url, family = gateway.address(self.cluster, self.settings.gateway)
        found = f"{configured or 'class unknown'}, {url}"
        if not family or family == configured.partition(".")[0]:
            return [ok("gateway", found)]
        why = f"the address is {family}'s, which does not serve this ingress class"
        patch = f'{{"data":{{"ingress-class":"{family}.ingress.networking.knative.dev"}}}}'
        fix = f"kubectl patch configmap config-network -n {KNATIVE_NAMESPACE} --type merge -p "
        return [warn("gateway", found, why, f"{fix}'{patch}', or --set gateway=URL")]

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
    "gpus": lambda at: gpu_checks(at.rooms, at.settings),
    "fit": lambda at: [fit_check(at.rooms, at.settings)],
    "knative": ClusterChecks._knative,
    "gateway": ClusterChecks._gateway,
    "timeout": lambda at: [needs.timeout(at.cluster, at.settings)],
    "csi-driver": lambda at: needs.storage(at.cluster, at.settings),
    "rrsa": lambda at: [needs.rrsa(at.cluster, at.settings, ack=on_ack(at.rooms))],
    "pvc-flag": lambda at: needs.features(at.cluster, at.spec),
    "namespace": ClusterChecks._namespace,
    "names": ClusterChecks._names,
    "referred": lambda at: needs.referred(at.cluster, at.settings),
}

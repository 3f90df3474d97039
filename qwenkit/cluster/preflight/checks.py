"""The checks of a cluster before a deployment; each returns verdicts or raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qwenkit.admission.feature_flags import patch_command
from qwenkit.cluster import gateway
from qwenkit.cluster.api_errors import may_not_look
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
    Kind,
    Obj,
    labels_of,
)
from qwenkit.cluster.ownership import (
    ADMIN_MAKES,
    another_volume,
    foreign_claim,
    is_admins,
    is_ours,
    owner,
)
from qwenkit.cluster.preflight import needs, reaching
from qwenkit.cluster.preflight.check import Check, fail, ok, warn
from qwenkit.cluster.preflight.node_checks import gpu_checks, on_ack, room_checks
from qwenkit.cluster.preflight.rights import STEPS, rights_checks
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
        except Forbidden as error:
            return Rooms(nodes, self.spec, (), may_not_look(error))
        return Rooms(nodes, self.spec, tuple(pod for pod in pods if not self._is_own(pod)))

    def _is_own(self, pod: Obj) -> bool:
        here = pod["metadata"].get("namespace") == self.cluster.namespace
        return here and labels_of(pod).get(SERVICE_LABEL) == self.settings.service

    @property
    def _wanted(self) -> dict[Kind, str]:
        volume = self.settings.volume
        return {KSVC: self.settings.service, PVC: volume, PV: volume, SECRET: self.secret}

    @cached_property
    def named(self) -> dict[Kind, Obj | Forbidden | None]:
        """What has the names of the settings: an object, nothing, or why this role may not look."""
        found: dict[Kind, Obj | Forbidden | None] = {}
        for kind, name in self._wanted.items():
            try:
                found[kind] = self.cluster.find(kind, name)
            except Forbidden as error:
                found[kind] = error
        return found

    @cached_property
    def address(self) -> tuple[str, str]:
        """The gateway's base URL, and whose it is."""
        return gateway.address(self.cluster, self.settings.gateway)

    @property
    def bound(self) -> bool:
        """Whether the claim is bound, so that its PV is there, whoever may look at it."""
        claim = self.named[PVC]
        return isinstance(claim, dict) and (claim.get("status") or {}).get("phase") == "Bound"

    def _rights(self) -> list[Check]:
        claim, volume = self.named[PVC], self.named[PV]
        theirs = isinstance(claim, dict) and is_admins(claim, self.cluster.namespace)
        # One that may be there, but not be seen, is looked at by its claim.
        static = self.settings.storage in ("oss", "nas")
        missing = volume is None and not self.bound and static
        return rights_checks(self.cluster, self.settings, claim=not theirs, volume=missing)

    def _knative(self) -> list[Check]:
        if not self.cluster.serves(KSVC):
            why = f"the cluster does not serve {KSVC.api_version}"
            fix = "ACK: console, Applications > Knative > Deploy; else kubectl apply its releases"
            return [fail("knative", "not installed", why, fix)]
        try:
            controller = self.cluster.find(DEPLOYMENT, "controller", namespace=KNATIVE_NAMESPACE)
        except Forbidden:
            controller = None
        if controller is None:
            # ACK hides the control plane of a managed Knative, and a role may not look at it.
            found = f"serves {KSVC.api_version}; its controller is not visible here"
            return [ok("knative", found)]
        version = labels_of(controller).get("app.kubernetes.io/version", "version not labelled")
        if int(controller.get("status", {}).get("readyReplicas") or 0) > 0:
            return [ok("knative", version)]
        fix = f"kubectl get pods -n {KNATIVE_NAMESPACE}"
        return [fail("knative", version, "its controller has no ready pod", fix)]

    def _gateway(self) -> list[Check]:
        configured = gateway.ingress_class(self.cluster)
        url, family = self.address
        found = f"{configured or 'class unknown: may not look'}, {url}"
        if not family or family == configured.partition(".")[0]:
            return [ok("gateway", found)]
        why = f"the address is {family}'s, which does not serve this ingress class"
        theirs = {"ingress-class": f"{family}.ingress.networking.knative.dev"}
        fix = f"{patch_command('network', theirs)}, or --set gateway=URL"
        return [warn("gateway", found, why, fix)]

    def _namespace(self) -> list[Check]:
        name = self.cluster.namespace
        inside = [found for kind, found in self.named.items() if kind != PV]
        if any(isinstance(found, dict) for found in inside) or self.cluster.find(NAMESPACE, name):
            return [ok("namespace", name)]
        return [fail("namespace", name, "it does not exist", f"kubectl create namespace {name}")]

    def _names(self) -> list[Check]:
        run, here, volume = self.cluster.run, self.cluster.namespace, self.settings.volume
        present = {k: found for k, found in self.named.items() if isinstance(found, dict)}
        if claim := foreign_claim(present.get(PV, {}), here):
            why = f"taken: it belongs to the claim {claim}"
            return [fail("names", f"{PV} {volume}", why, another_volume(volume, here))]
        admins = [k for k in present if k in (PV, PVC) and is_admins(present[k], here)]
        mine = [k for k in present if is_ours(present[k], run=run)]
        foreign = [k for k in present if k not in (*admins, *mine)]
        if foreign:
            why = f"taken, and not by run {run!r}: {owner(present[foreign[0]])}"
            fix = "choose another service, volume or namespace"
            return [fail("names", self._list(foreign), why, fix)]
        unseen = {k: found for k, found in self.named.items() if isinstance(found, Forbidden)}
        if self.bound and PV in unseen:
            del unseen[PV]
            admins.append(PV)
        whose = {"already ours": mine, "an administrator's": admins}
        parts = [f"{text}: {self._list(found)}" for text, found in whose.items() if found]
        if not unseen:
            return [ok("names", "; ".join(parts) or "free")]
        why = may_not_look(*unseen.values())
        fix = f"if the PV is not there, {ADMIN_MAKES}" if PV in unseen else ""
        return [Check("names", "; ".join(parts), "unknown", why, fix)]

    def _list(self, found: Iterable[Kind]) -> str:
        return ", ".join(f"{kind} {self._wanted[kind]}" for kind in found)

    def _image(self) -> list[Check]:
        nodes: tuple[Obj, ...] = ()
        hidden = ""
        try:
            nodes = self.rooms.nodes
        except Forbidden as error:
            hidden = may_not_look(error)
        return [reaching.image(self.cluster, self.settings, nodes, hidden)]


def _referred(setting: str) -> Callable[[ClusterChecks], list[Check]]:
    return lambda at: [needs.referred(setting, at.cluster, at.settings)]


# The names of the verdicts, and what returns them, in this order.
CHECKS: Sequence[tuple[tuple[str, ...], Callable[[ClusterChecks], list[Check]]]] = (
    (("kubernetes",), ClusterChecks._kubernetes),
    (("clock",), lambda at: [reaching.clock(at.cluster, at.settings)]),
    (tuple(f"rights-{step}" for step in STEPS), ClusterChecks._rights),
    (("gpus", "driver", "scale"), lambda at: gpu_checks(at.rooms, at.settings)),
    (("fit", "rollout"), lambda at: room_checks(at.rooms, at.settings)),
    (("knative",), ClusterChecks._knative),
    (("gateway",), ClusterChecks._gateway),
    (("redirect",), lambda at: [reaching.redirect(at.cluster, at.settings, at.address[0])]),
    (("exposure",), lambda at: [reaching.exposure(at.settings, at.address[0])]),
    (("timeout",), lambda at: [needs.timeout(at.cluster, at.settings)]),
    (("csi-driver",), lambda at: [needs.driver(at.cluster, at.settings)]),
    (("storage-class",), lambda at: [needs.storage_class(at.cluster, at.settings)]),
    (("transfer-image",), lambda at: [needs.transfer_image(at.settings)]),
    (("rrsa",), lambda at: [needs.rrsa(at.cluster, at.settings, ack=on_ack(at.rooms))]),
    (("pvc-flag", "feature-flags"), lambda at: needs.features(at.cluster, at.spec)),
    (("namespace",), ClusterChecks._namespace),
    (("names",), ClusterChecks._names),
    *(((name.replace("_", "-"),), _referred(name)) for name in needs.REFERRED),
    (("image",), ClusterChecks._image),
)

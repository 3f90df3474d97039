"""Apply the course's objects in order and wait until the Service answers for what was applied."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from qwenkit.cluster import gateway
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes import unbound_claim
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.kinds import KSVC, PV, PVC, SECRET, Obj, kind_of, name_of
from qwenkit.cluster.rollout import wait_ready
from qwenkit.cluster.wait import OnChange, Waited, wait
from qwenkit.errors import InvalidValue, NotReady
from qwenkit.settings import Settings

# What a later object names must be there first; other kinds go before the Service.
_ORDER = {SECRET: 0, PV: 1, PVC: 2, KSVC: 9}


@dataclass(frozen=True)
class Deployed:
    """A Service that is ready. ``gateway`` is a base URL; send ``Host: <host>`` there."""

    service: str
    namespace: str
    revision: str
    url: str
    host: str
    gateway: str
    ready_seconds: float


@dataclass(frozen=True)
class Applied:
    """An object as the server keeps it now; ``generation`` counts changes of its spec."""

    kind: str
    name: str
    generation: int

    @classmethod
    def of(cls, obj: Obj) -> Self:
        """Read it off the server's answer."""
        return cls(kind_of(obj).kind, name_of(obj), int(obj["metadata"].get("generation") or 0))


def deploy(
    cluster: Cluster,
    docs: Iterable[Mapping[str, Any]],
    settings: Settings,
    *,
    on_change: OnChange | None = None,
) -> Deployed:
    """Dry-run every document on the server, apply all, wait for the PVC and the Service.

    Running it again changes nothing that is already so.

    Args:
        cluster: where.
        docs: Secret, PV, PVC and Service, in any order.
        settings: the names and deadlines.
        on_change: called at each transition while waiting.

    Raises:
        Rejected: a webhook or the validation refuses a document; nothing was changed.
        Conflict: a name is taken by something that is not ours; nothing was changed.
        NotFound: the gateway's address is not known; nothing was changed.
        NotReady: it will not become ready; why and fix say what is wrong.
        WaitTimeout: it did not become ready in time; likewise.
    """
    start = time.monotonic()
    ordered = _in_order(docs)
    if not any(kind_of(doc) == KSVC and name_of(doc) == settings.service for doc in ordered):
        names = [name_of(doc) for doc in ordered]
        raise InvalidValue("docs", names, f"must hold the Knative Service {settings.service}")
    entrance = gateway.address(cluster, settings)
    for doc in ordered:
        cluster.apply(doc, dry_run=True)
    applied = apply_all(cluster, [doc for doc in ordered if kind_of(doc) != KSVC])
    if any(one.kind == PVC.kind for one in applied):
        wait_bound(cluster, settings, on_change=on_change)
    services = apply_all(cluster, [doc for doc in ordered if kind_of(doc) == KSVC])
    generation = services[-1].generation
    service = wait_ready(cluster, settings, generation=generation, on_change=on_change).value
    return Deployed(
        service=settings.service,
        namespace=settings.namespace,
        revision=str(service["status"]["latestReadyRevisionName"]),
        url=str(service["status"]["url"]),
        host=gateway.host(cluster, settings),
        gateway=entrance,
        ready_seconds=round(time.monotonic() - start, 3),
    )


def apply_all(cluster: Cluster, docs: Iterable[Mapping[str, Any]]) -> tuple[Applied, ...]:
    """Apply documents in the order in which they need each other.

    Raises:
        Rejected: a webhook or the validation refuses one.
        Conflict: a name is taken by something that is not ours.
    """
    return tuple(Applied.of(cluster.apply(doc)) for doc in _in_order(docs))


def _in_order(docs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(docs, key=lambda doc: _ORDER.get(kind_of(doc), 5))


def wait_bound(
    cluster: Cluster, settings: Settings, *, on_change: OnChange | None = None
) -> Waited[Obj]:
    """Wait until the PVC of the weights is Bound; returns it.

    Raises:
        NotReady: it never will be, such as with a PV that was released.
        WaitTimeout: it is not bound in time.
    """
    name = settings.volume

    def failed(claim: Obj) -> NotReady | None:
        volume = str(claim["spec"].get("volumeName") or "")
        held = cluster.find(PV, volume) if volume else None
        found = unbound_claim(claim, Snapshot(volumes=(held,) if held else ()))
        return found.error(f"pvc {name} does not bind") if found.permanent else None

    return wait(
        lambda: cluster.get(PVC, name, namespace=settings.namespace),
        what=f"pvc {name} Bound",
        ready=lambda claim: _phase(claim) == "Bound",
        describe=lambda claim: f"pvc {name}: {_phase(claim)}",
        failed=failed,
        timeout_s=settings.timeout_s,
        every_s=0.5,
        on_change=on_change,
        fix=lambda _claim: ("", f"kubectl describe pvc {name}"),
    )


def _phase(claim: Obj) -> str:
    return str(claim.get("status", {}).get("phase") or "Pending")

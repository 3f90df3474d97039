"""Apply the course's objects in order and wait until the Service is ready with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from qwenkit.cluster.api.retries import within
from qwenkit.cluster.change.modes import require_mode
from qwenkit.cluster.change.proposal import ProposedChange, propose_change
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes.volumes import unbound_claim
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.gateway import gateway_url, service_host
from qwenkit.cluster.kinds import (
    KSVC,
    POD,
    PV,
    PVC,
    SECRET,
    SERVICE_LABEL,
    STORAGE_CLASS,
    Obj,
    is_true,
    kind_of,
    latest_ready,
    name_of,
)
from qwenkit.cluster.ownership import ADMIN_MAKES
from qwenkit.cluster.preflight.admins import others_of
from qwenkit.cluster.rollout import wait_ready
from qwenkit.cluster.wait import OnChange, Transition, Waited, wait
from qwenkit.errors import Forbidden, InvalidValue, QwenkitError
from qwenkit.settings import Settings

# Returns how many times faster than the modelled GPU the nodes run: it may ask the server.
Clock = Callable[[], float]
# An object follows those that it refers to; other kinds come before the Service.
_ADMIN_S = 60.0  # a PV that is there binds at once, or at the controller's next look
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
    """An object as the server stores it; ``generation`` counts changes of its spec."""

    kind: str
    name: str
    generation: int

    @classmethod
    def of(cls, obj: Obj) -> Self:
        """Read the server's answer."""
        return cls(kind_of(obj).kind, name_of(obj), int(obj["metadata"].get("generation") or 0))


def deploy(
    cluster: Cluster,
    settings: Settings,
    docs: Iterable[Mapping[str, Any]],
    *,
    mode: str | None = None,
    clock: Clock = lambda: 1.0,
    on_change: OnChange | None = None,
) -> Deployed:
    """Dry-run every document on the server, apply all, wait for the PVC and the Service.

    ``docs`` are Secret, PV, PVC and Service, in any order; ``settings`` give the Service's name,
    the gateway and the deadlines. Running it again changes nothing. Where the template of a
    Service that serves differs, it is changed as ``propose`` says, in ``mode``.

    Raises:
        InvalidValue: the Service is not among the documents.
        Rejected: a webhook or the validation refuses a document; nothing was changed.
        Conflict: a name is taken by an object that is not ours; nothing was changed.
        NotFound: the gateway's address is not known; nothing was changed.
        NotReady: the mode does not work, nothing was changed; or it will not become ready.
        WaitTimeout: it did not become ready in time; why and fix name the cause.
    """
    start = time.monotonic()
    name, ordered = settings.service, _in_order(docs)
    _require_service(ordered, name)
    require_mode(mode)
    with within(settings.timeout_s):
        gateway = gateway_url(cluster, settings.gateway)
        others = others_of(cluster, ordered)
        proposed = _proposed(cluster, settings, ordered[-1], clock)
        change = proposed if proposed and proposed.diff else None
        if change is not None:
            _say(on_change, change.brief(mode))  # raises if the mode does not work
        bound_s = min(settings.timeout_s, _ADMIN_S) if PV in others else settings.timeout_s
        for doc in ordered[:-1] if change else ordered:
            if (kind := kind_of(doc)) not in others:
                applied = Applied.of(cluster.apply(doc))
            else:
                _say(on_change, f"{kind} {name_of(doc)}: an administrator's")
            if kind == PVC:
                wait_bound(cluster, name_of(doc), timeout_s=bound_s, on_change=on_change)
    limit_s = settings.seconds("ready")
    if change is not None:
        done = change.apply(mode, timeout_s=limit_s, on_change=on_change)
        _say(on_change, done, done.seconds)
        service = cluster.get(KSVC, name)
    else:
        made = applied.generation
        ready = wait_ready(cluster, name, generation=made, timeout_s=limit_s, on_change=on_change)
        service = ready.value
    return Deployed(
        service=name,
        namespace=cluster.namespace,
        revision=latest_ready(service),
        url=str(service["status"]["url"]),
        host=service_host(service),
        gateway=gateway,
        ready_seconds=round(time.monotonic() - start, 3),
    )


def propose(
    cluster: Cluster,
    settings: Settings,
    docs: Iterable[Mapping[str, Any]],
    *,
    clock: Clock = lambda: 1.0,
) -> ProposedChange | None:
    """Return what ``deploy`` would change of a Service that serves; None if nothing serves.

    Raises:
        Rejected, Conflict: as ``deploy``.
    """
    ordered = _in_order(docs)
    _require_service(ordered, settings.service)
    others_of(cluster, ordered)
    return _proposed(cluster, settings, ordered[-1], clock)


def _proposed(
    cluster: Cluster, settings: Settings, doc: Mapping[str, Any], clock: Clock
) -> ProposedChange | None:
    found = cluster.find(KSVC, settings.service)
    if found is None or not latest_ready(found):
        return None
    pods = cluster.list(POD, labels={SERVICE_LABEL: settings.service})
    faster = clock() if any(is_true(pod, "Ready") for pod in pods) else 1.0
    try:
        start_s = settings.cold_start.seconds.value / faster
    except InvalidValue:  # the model or the GPU is not known
        start_s = None
    return propose_change(
        cluster, settings.service, document=doc, clock=faster, cold_start_s=start_s
    )


def _say(on_change: OnChange | None, line: object, at_s: float = 0.0) -> None:
    if on_change is not None:
        on_change(Transition(at_s, str(line)))


def _require_service(ordered: Iterable[Mapping[str, Any]], name: str) -> None:
    names = [f"{kind_of(doc)} {name_of(doc)}" for doc in ordered]
    if names[-1:] != [f"{KSVC} {name}"]:
        raise InvalidValue("docs", names, f"must hold the Knative Service {name}")


def apply_all(cluster: Cluster, docs: Iterable[Mapping[str, Any]]) -> tuple[Applied, ...]:
    """Apply documents, each after those that it refers to.

    A volume or claim that is an administrator's is left as it is, and not in the answer.

    Raises:
        Rejected: a webhook or the validation refuses one.
        Conflict: a name is taken by an object that is not ours.
    """
    ordered = _in_order(docs)
    others = others_of(cluster, ordered)
    mine = [doc for doc in ordered if kind_of(doc) not in others]
    return tuple(Applied.of(cluster.apply(doc)) for doc in mine)


def _in_order(docs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(docs, key=lambda doc: _ORDER.get(kind_of(doc), 5))


def wait_bound(
    cluster: Cluster, name: str, *, timeout_s: float, on_change: OnChange | None = None
) -> Waited[Obj]:
    """Wait until a PVC is Bound, or until it waits for its first pod alone; return it.

    Raises:
        NotReady: it never will be, as with a released PV.
        WaitTimeout: it is not bound in time.

    >>> from qwenkit import Cluster, Settings, wait_bound
    >>> s = Settings()
    >>> wait_bound(Cluster.connect(s), s.volume, timeout_s=10).value["status"]["phase"]
    'Bound'
    """

    def cause(claim: Obj) -> Explanation:
        pv = str(claim["spec"].get("volumeName") or "")
        try:
            found = cluster.find(PV, pv) if pv else None
        except Forbidden as error:
            why = f"the PVC {name} is {_phase(claim)}, and this role may not look at its PV {pv}"
            fix = f"{ADMIN_MAKES}; a PV that was released must be made anew"
            return Explanation("pvc-unbound", why, (error.why,), fix, permanent=False)
        return unbound_claim(claim, Snapshot(name, (found,) if found else ()))

    def failed(claim: Obj) -> QwenkitError | None:
        found = cause(claim)
        return found.error(f"pvc {name} does not bind") if found.permanent else None

    return wait(
        lambda: cluster.get(PVC, name),
        what=f"pvc {name} Bound",
        ready=lambda claim: _phase(claim) == "Bound" or _waits_for_pod(cluster, claim),
        describe=lambda claim: f"pvc {name}: {_phase(claim)}",
        failed=failed,
        late=cause,
        timeout_s=timeout_s,
        every_s=0.5,
        on_change=on_change,
    )


def _waits_for_pod(cluster: Cluster, claim: Obj) -> bool:
    """Return whether the claim's class makes the volume once a pod is there."""
    name = claim["spec"].get("storageClassName")
    if not name or claim["spec"].get("volumeName"):
        return False
    try:
        found = cluster.find(STORAGE_CLASS, name)
    except Forbidden:
        return False
    return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def _phase(claim: Obj) -> str:
    return str(claim.get("status", {}).get("phase") or "Pending")

"""What runs now, where, since when, and what it costs: one look at the Service and its pods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from qwenkit.cluster import gateway
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.snapshot import read_or
from qwenkit.cluster.kinds import (
    KSVC,
    NODE,
    POD,
    PVC,
    REVISION,
    SERVICE_LABEL,
    Obj,
    condition,
    labels_of,
    moment,
    name_of,
)
from qwenkit.cluster.pods import gpu_label, gpus_wanted
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.cluster.preflight.free_gpus import node_of
from qwenkit.cluster.watching import sample_cluster
from qwenkit.errors import QwenkitError
from qwenkit.settings import RUN_LABEL, Settings


@dataclass(frozen=True)
class LiveRevision:
    """A revision that has pods or traffic; ``percent`` of the requests go to it."""

    name: str
    percent: int
    desired: int
    ready: int
    starting: int
    ending: int
    age_s: float | None


@dataclass(frozen=True)
class GpusHeld:
    """The GPUs that the pods hold, those that end included; ``model`` is what the nodes say.

    ``cost_per_hour`` is at an example price, None where none is known.
    """

    count: int
    model: str
    nodes: tuple[str, ...]
    cost_per_hour: float | None
    currency: str = "CNY"
    is_example: bool = True


@dataclass(frozen=True, repr=False)
class Status:
    """A Service now; ``running`` is whether there is one. Ages are in seconds.

    ``weights`` is what the bucket holds, or words; ``others`` are objects of other runs under the
    same names.
    """

    running: bool
    context: str
    namespace: str
    service: str
    run: str
    ready: bool
    reason: str
    age_s: float | None
    state_s: float | None
    url: str
    gateway: str
    storage: str
    weights: object
    revisions: tuple[LiveRevision, ...] = ()
    gpus: GpusHeld | None = None
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [("service", self._service()), *(("revision", _line(r)) for r in self.revisions)]
        if self.gpus is not None:
            rows += [("gpus", _held(self.gpus)), ("cost", _cost(self.gpus))]
        rows += [("url", self.url), ("gateway", self.gateway), ("weights", str(self.weights))]
        rows.append(("others", "; ".join(self.others)))
        return "\n".join(f"{name:<9} {text}" for name, text in rows if text)

    __repr__ = __str__

    def _service(self) -> str:
        where = f"{self.namespace}/{self.service} on {self.context}"
        if not self.running:
            return f"nothing runs: there is no {where}"
        state = f"Ready for {_age(self.state_s)}" if self.ready else f"not Ready: {self.reason}"
        return f"{where}: {state}; made {_age(self.age_s)} ago by run {self.run!r}"


def status(
    cluster: Cluster,
    settings: Settings,
    *,
    weights: Callable[[], object],
    others: Sequence[object],
) -> Status:
    """Return what runs; ``weights`` returns what the bucket holds, or raises why it cannot.

    Raises:
        NotFound: Knative Serving is not installed.
    """
    service = cluster.find(KSVC, settings.service)
    ready = condition(service or {}, "Ready")
    works = ready.get("status") == "True"
    found: dict[str, Any] = {}
    if service is not None:
        address = (service.get("status") or {}).get("url") or ""
        found = {
            "url": address,
            "gateway": address and read_or("", _gateway, cluster, settings),
            "revisions": _revisions(cluster, service),
            "gpus": _gpus(cluster, settings),
        }
    return Status(
        running=service is not None,
        context=settings.context,
        namespace=settings.namespace,
        service=settings.service,
        run=labels_of(service or {}).get(RUN_LABEL, ""),
        ready=works,
        reason="" if works else str(ready.get("message") or ready.get("reason") or "not known yet"),
        age_s=_since((service or {}).get("metadata", {}).get("creationTimestamp")),
        state_s=_since(ready.get("lastTransitionTime")),
        storage=settings.storage,
        weights=_weights(cluster, settings, weights),
        others=tuple(map(str, others)),
        **{"url": "", "gateway": ""} | found,
    )


def _gateway(cluster: Cluster, settings: Settings) -> str:
    return gateway.gateway_url(cluster, settings.gateway)


def _revisions(cluster: Cluster, service: Obj) -> tuple[LiveRevision, ...]:
    traffic = (service.get("status") or {}).get("traffic") or []
    percents = {str(one.get("revisionName")): int(one.get("percent") or 0) for one in traffic}
    counted = sample_cluster(cluster, name_of(service)).revisions
    live = []
    for name in sorted({*counted, *(name for name, share in percents.items() if share)}):
        one = counted.get(name)
        numbers = (one.desired, one.ready, one.starting, one.ending) if one else (0, 0, 0, 0)
        if any(numbers) or percents.get(name):
            made = (cluster.find(REVISION, name) or {}).get("metadata", {})
            age_s = _since(made.get("creationTimestamp"))
            live.append(LiveRevision(name, percents.get(name, 0), *numbers, age_s))
    return tuple(live)


def _gpus(cluster: Cluster, settings: Settings) -> GpusHeld:
    pods = [p for p in cluster.list(POD, labels={SERVICE_LABEL: settings.service}) if node_of(p)]
    held = {node_of(pod) for pod in pods if gpus_wanted(pod["spec"], settings.gpu_resource)}
    nodes = read_or([], cluster.list, NODE) if held else []
    models = sorted({gpu_label(node) for node in nodes if name_of(node) in held} - {""})
    count, price = (
        sum(gpus_wanted(pod["spec"], settings.gpu_resource) for pod in pods),
        example_price(settings.gpu),
    )
    cost = None if price is None else round(count * price, 2)
    return GpusHeld(count, ", ".join(models) or settings.gpu, tuple(sorted(held)), cost)


def _weights(cluster: Cluster, settings: Settings, describe: Callable[[], object]) -> object:
    try:
        if settings.storage == "oss":
            return describe()
        claim = cluster.find(PVC, settings.volume)
        size = ((claim or {}).get("status", {}).get("capacity") or {}).get("storage", "")
        state = f"{claim.get('status', {}).get('phase')}, {size}" if claim else "there is none"
        return f"{settings.storage}: claim {settings.volume}: {state}".rstrip(", ")
    except QwenkitError as error:
        return f"not known: {error.what}: {error.why}"


def _line(one: LiveRevision) -> str:
    counts = f"{one.ready} ready, {one.starting} starting, {one.ending} ending"
    return f"{one.name}: {counts}; {one.percent} % of requests; {_age(one.age_s)} old"


def _held(gpus: GpusHeld) -> str:
    where = f" on {', '.join(gpus.nodes)}" if gpus.nodes else ""
    return f"{gpus.count} × {gpus.model}{where}" if gpus.count else "none held"


def _cost(gpus: GpusHeld) -> str:
    if gpus.cost_per_hour is None:
        return f"no example price is known for {gpus.model}" if gpus.count else ""
    return f"{gpus.cost_per_hour:g} {gpus.currency} an hour now, at an example price"


def _since(text: str | None) -> float | None:
    """Return the seconds since a time of the cluster."""
    if not text:
        return None
    return round(max((datetime.now(UTC) - moment(text)).total_seconds(), 0.0), 1)


def _age(seconds: float | None) -> str:
    """Return a duration as kubectl shows ages."""
    if seconds is None:
        return "?"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

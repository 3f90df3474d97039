"""What runs now, where, since when, and what it costs: one look at the Service and its pods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
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
from qwenkit.cluster.watching import Replicas, sample_cluster
from qwenkit.errors import QwenkitError
from qwenkit.settings import RUN_LABEL, Settings

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


class Status:
    """What runs; ``running`` is whether a Service is there, ``to_dict`` has all that is known."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.running, self._facts = bool(facts["running"]), facts

    def to_dict(self) -> dict[str, Any]:
        """Return names and values; ages are in seconds, the cost is at an example price."""
        return self._facts

    def __str__(self) -> str:
        facts, rows = self._facts, [("weights", str(self._facts["weights"]))]
        where = f"{facts['namespace']}/{facts['service']} on {facts['context']}"
        if not self.running:
            rows.insert(0, ("service", f"nothing runs: there is no {where}"))
        else:
            state = f"not Ready: {facts['reason']}"
            if facts["ready"]:
                state = f"Ready for {_age(facts['ready_s'])}"
            made = f"made {_age(facts['age_s'])} ago by run {facts['run']!r}"
            rows = [
                ("service", f"{where}: {state}; {made}"),
                *(("revision", _revision_line(one)) for one in facts["revisions"]),
                ("gpus", _gpus_line(facts["gpus"])),
                ("url", facts["url"]),
                ("gateway", facts["gateway"]),
                *rows,
            ]
        rows.append(("others", "; ".join(facts["others"])))
        return "\n".join(f"{name:<9} {text}" for name, text in rows if text)


def status(
    cluster: Cluster, settings: Settings, *, weights: Callable[[], object], others: Sequence[object]
) -> Status:
    """Return what runs; ``weights`` returns what the bucket holds, or raises why it cannot.

    ``others`` are objects of other runs with the same names.

    Raises:
        NotFound: Knative Serving is not installed.
    """
    service = cluster.find(KSVC, settings.service)
    facts = {name: getattr(settings, name) for name in ("context", "namespace", "service")}
    facts |= {"running": service is not None, "storage": settings.storage}
    if service is not None:
        ready, url = condition(service, "Ready"), (service.get("status") or {}).get("url") or ""
        facts |= {
            "run": labels_of(service).get(RUN_LABEL, ""),
            "ready": ready.get("status") == "True",
            "reason": ready.get("message") or ready.get("reason") or "",
            "ready_s": _since(ready.get("lastTransitionTime")),
            "age_s": _since(service["metadata"].get("creationTimestamp")),
            "url": url,
            "gateway": url and read_or("", gateway.gateway_url, cluster, settings.gateway),
            "revisions": _revisions(cluster, service),
            "gpus": _gpus(cluster, settings),
        }
    facts["weights"] = _weights(cluster, settings, weights)
    return Status(facts | {"others": [str(one) for one in others]})


def _revisions(cluster: Cluster, service: Obj) -> list[dict[str, Any]]:
    """Return the revisions that have pods or get requests."""
    traffic = (service.get("status") or {}).get("traffic") or []
    percents = {str(one.get("revisionName")): int(one.get("percent") or 0) for one in traffic}
    counted = sample_cluster(cluster, name_of(service)).revisions
    found = []
    for name in sorted({*counted, *percents}):
        replicas, percent = counted.get(name, Replicas()), percents.get(name, 0)
        if percent or replicas != Replicas():
            made = (cluster.find(REVISION, name) or {}).get("metadata", {}).get("creationTimestamp")
            one = {"name": name, "percent": percent, "age_s": _since(made)}
            found.append(one | asdict(replicas))
    return found


def _gpus(cluster: Cluster, settings: Settings) -> dict[str, Any]:
    """Return the GPUs that the pods hold, those that end included, and their cost an hour."""
    pods = cluster.list(POD, labels={SERVICE_LABEL: settings.service})
    held = {name_of(pod): gpus_wanted(pod["spec"], settings.gpu_resource) for pod in pods}
    places = {node_of(pod) for pod in pods if held[name_of(pod)]} - {""}
    nodes = [node for node in read_or([], cluster.list, NODE) if name_of(node) in places]
    models = sorted({gpu_label(node) for node in nodes} - {""})
    count = sum(held[name_of(pod)] for pod in pods if node_of(pod))
    price = example_price(settings)
    return {
        "count": count,
        "model": ", ".join(models) or settings.gpu,
        "nodes": sorted(places),
        "cost_per_hour": None if price is None else round(count * price, 2),
        "currency": "CNY",
        "is_example": True,
    }


def _weights(cluster: Cluster, settings: Settings, look: Callable[[], object]) -> object:
    try:
        if settings.storage == "oss":
            return look()
        status = (cluster.find(PVC, settings.volume) or {"status": {"phase": "absent"}})["status"]
        size = (status.get("capacity") or {}).get("storage", "")
        return f"{settings.storage}: claim {settings.volume}: {status.get('phase')} {size}".strip()
    except QwenkitError as error:
        return f"not known: {error.what}: {error.why}"


def _revision_line(one: dict[str, Any]) -> str:
    counts = ", ".join(f"{one[state]} {state}" for state in ("ready", "starting", "ending"))
    return f"{one['name']}: {counts}; {one['percent']} % of requests; {_age(one['age_s'])} old"


def _gpus_line(gpus: dict[str, Any]) -> str:
    if not gpus["count"]:
        return "none held"
    cost = gpus["cost_per_hour"]
    price = "no example price known" if cost is None else f"{cost:g} CNY an hour, an example price"
    return f"{gpus['count']} × {gpus['model']} on {', '.join(gpus['nodes'])}: {price}"


def _since(text: str | None) -> float | None:
    """Return the seconds since a time of the cluster."""
    return round(max((datetime.now(UTC) - moment(text)).total_seconds(), 0.0), 1) if text else None


def _age(seconds: float | None) -> str:
    """Return a duration as kubectl shows ages."""
    if seconds is None:
        return "?"
    unit, size = next(((u, s) for u, s in _UNITS if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:.0f} {unit}"

"""What runs now, where, since when, and what it costs: one look at the Service and its pods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from qwenkit.capacity.gpu import gpu_of_label
from qwenkit.cluster import gateway, kinds
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.reading import read_or
from qwenkit.cluster.kinds import KSVC, Obj
from qwenkit.cluster.pods import gpu_label, gpus_wanted
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.cluster.watching import ClusterSample, Replicas, sample_cluster
from qwenkit.errors import QwenkitError
from qwenkit.settings import RUN_LABEL, Settings

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


class Status:
    """What runs; ``running`` is whether a Service is there, ``to_dict`` has all that is known."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.running, self._facts = bool(facts["running"]), facts

    def to_dict(self) -> dict[str, Any]:
        """Return names and values; ages are in seconds, the cost is at an example price."""
        return self._facts

    def __str__(self) -> str:
        f = self._facts
        where = f"{f['namespace']}/{f['service']} on {f['context']}"
        rows = [("service", f"nothing runs: there is no {where}")]
        if self.running:
            state = f"Ready for {_age(f['ready_s'])}" if f["ready"] else f"not Ready: {f['reason']}"
            made = f"made {_age(f['age_s'])} ago by run {f['run']!r}"
            rows = [("service", f"{where}: {state}; {made}")]
            rows += [("revision", _revision_line(one)) for one in f["revisions"]]
            rows += [("gpus", _gpus_line(f["gpus"])), ("url", f["url"]), ("gateway", f["gateway"])]
        rows += [("weights", str(f["weights"])), ("others", "; ".join(f["others"]))]
        return "\n".join(f"{name:<9} {text}" for name, text in rows if text)


def status(
    cluster: Cluster, settings: Settings, *, weights: Callable[[], object], others: Sequence[object]
) -> Status:
    """Return what runs; ``weights`` returns what is stored, or raises why it cannot.

    ``others`` are objects of other runs with the same names.

    Raises:
        NotFound: Knative Serving is not installed.
    """
    service = cluster.find(KSVC, settings.service)
    facts = {name: getattr(settings, name) for name in ("context", "namespace", "service")}
    facts |= {"running": service is not None, "storage": settings.storage}
    if service is not None:
        facts |= _facts(cluster, settings, service)
    try:
        facts["weights"] = weights()
    except QwenkitError as error:
        facts["weights"] = f"not known: {error.what}: {error.why}"
    return Status(facts | {"others": [str(one) for one in others]})


def _facts(cluster: Cluster, settings: Settings, service: Obj) -> dict[str, Any]:
    sample, now = sample_cluster(cluster, settings.service), service.get("status") or {}
    ready, url = kinds.condition(service, "Ready"), str(now.get("url") or "")
    return {
        "run": kinds.labels_of(service).get(RUN_LABEL, ""),
        "ready": ready.get("status") == "True",
        "reason": ready.get("message") or ready.get("reason") or "it starts",
        "ready_s": _since(ready.get("lastTransitionTime")),
        "age_s": _since(service["metadata"].get("creationTimestamp")),
        "url": url,
        "gateway": url and read_or("", gateway.gateway_url, cluster, settings.gateway),
        "revisions": _revisions(cluster, sample, now.get("traffic") or []),
        "gpus": _gpus(
            cluster, settings, sample, gpus_wanted(kinds.pod_spec(service), settings.gpu_resource)
        ),
    }


def _revisions(cluster: Cluster, sample: ClusterSample, traffic: list[Obj]) -> list[dict[str, Any]]:
    """Return the revisions that have pods or get requests."""
    percents = {str(one.get("revisionName")): int(one.get("percent") or 0) for one in traffic}
    found = []
    for name in sorted({*sample.revisions, *percents}):
        replicas, percent = sample.revisions.get(name, Replicas()), percents.get(name, 0)
        if percent or replicas != Replicas():
            made = (cluster.find(kinds.REVISION, name) or {"metadata": {}})["metadata"]
            age_s = _since(made.get("creationTimestamp"))
            found.append({"name": name, "percent": percent, "age_s": age_s, **asdict(replicas)})
    return found


def _gpus(
    cluster: Cluster, settings: Settings, sample: ClusterSample, per_pod: int
) -> dict[str, Any]:
    """Return the GPUs that the pods hold, those that end included, and their cost an hour."""
    places = {pod.node for pod in sample.pods if per_pod} - {""}
    nodes = read_or([], cluster.list, kinds.NODE) if places else []
    models = {gpu_label(node) for node in nodes if kinds.name_of(node) in places} - {""}
    card = gpu_of_label(", ".join(models))  # what runs is paid for, not the setting
    price = card.example_price_cny if card else example_price(settings)
    count = per_pod * sample.placed(serving=False)
    return {
        "count": count,
        "model": ", ".join(sorted(models)) or settings.gpu_name,
        "nodes": sorted(places),
        "cost_per_hour": None if price is None else round(count * price, 2),
        "currency": "CNY",
        "is_example": True,
    }


def _revision_line(one: dict[str, Any]) -> str:
    counts = ", ".join(f"{one[state]} {state}" for state in ("ready", "starting", "ending"))
    return f"{one['name']}: {counts}; {one['percent']} % of requests; {_age(one['age_s'])} old"


def _gpus_line(gpus: dict[str, Any]) -> str:
    cost, where = gpus["cost_per_hour"], f"{gpus['model']} on {', '.join(gpus['nodes'])}"
    price = "no example price known" if cost is None else f"{cost:g} CNY an hour, an example price"
    return f"{gpus['count']} × {where}: {price}" if gpus["count"] else "none held"


def _since(text: str | None) -> float | None:
    """Return the seconds since a time of the cluster."""
    return round((datetime.now(UTC) - kinds.moment(text)).total_seconds(), 1) if text else None


def _age(seconds: float | None) -> str:
    """Return a duration as kubectl shows ages."""
    unit, size = next((each for each in _UNITS if (seconds or 0) >= 2 * each[1]), _UNITS[-1])
    return "?" if seconds is None else f"{seconds / size:.0f} {unit}"

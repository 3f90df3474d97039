"""Which Endpoints does a Service with a selector get? The addresses of its pods."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.loop import Controller
from qwenkit.sandbox.controllers.object_fields import Key, deleting, key_of, labels_of
from qwenkit.sandbox.controllers.workloads.pods import is_active, is_ready_pod
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.storage.history import WatchEvent


class EndpointsController(Controller):
    """Reconciles the Endpoints of Services that select pods."""

    name = "endpoints"
    kind = "Service"
    watches = frozenset({"Service", "Pod", "Endpoints"})

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """A pod concerns every Service that selects it; Endpoints have their Service's name."""
        if change.kind != "Pod":
            return [key_of(change.object)]
        namespace = change.object["metadata"]["namespace"]
        labels = labels_of(change.object).items()
        services = self.store.list("Service", namespace)
        return [key_of(s) for s in services if _selector(s) and _selector(s).items() <= labels]

    def reconcile(self, namespace: str, name: str) -> None:
        """Write the addresses, or remove those of a Service that is gone."""
        service = self.store.find("Service", namespace, name)
        found = self.store.find("Endpoints", namespace, name)
        if service is None or deleting(service):
            if found is not None and not found["metadata"].get("ownerReferences"):
                self.store.delete("Endpoints", namespace, name)
            return
        selector = _selector(service)
        if not selector:
            return
        labels = labels_of(service)
        subsets = _subsets(service, self.store.list("Pod", namespace, selector))
        if found is None:
            metadata = {"name": name, "namespace": namespace, "labels": labels}
            self.store.create("Endpoints", {"metadata": metadata, "subsets": subsets})
        else:
            found["metadata"]["labels"] = labels
            self.store.update("Endpoints", {**found, "subsets": subsets})


def ready_addresses(endpoints: Object | None) -> int:
    """Count the addresses that are ready."""
    subsets = (endpoints or {}).get("subsets", [])
    return sum(len(subset.get("addresses", [])) for subset in subsets)


def _selector(service: Object) -> dict[str, str]:
    selector: dict[str, str] = at(service, "spec", "selector") or {}
    return selector


def _subsets(service: Object, pods: list[Object]) -> list[Object]:
    pods = [pod for pod in pods if is_active(pod) and at(pod, "status", "podIP")]
    if not pods:
        return []
    ready = [_address(pod) for pod in pods if is_ready_pod(pod)]
    waiting = [_address(pod) for pod in pods if not is_ready_pod(pod)]
    ports = [
        {"name": port.get("name"), "port": port.get("targetPort"), "protocol": port["protocol"]}
        for port in service["spec"].get("ports", [])
    ]
    addresses = {"addresses": ready, "notReadyAddresses": waiting}
    return [{**{key: value for key, value in addresses.items() if value}, "ports": ports}]


def _address(pod: Object) -> Object:
    metadata = pod["metadata"]
    reference = {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {
        "ip": pod["status"]["podIP"],
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {"kind": "Pod", **reference},
    }

"""ServerlessService → the public and the private Service of a revision and their endpoints."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.knative.conditions import FALSE, TRUE, Conditions, ConditionSet
from qwenkit.sandbox.controllers.knative.reconciler import ReconcileError, Shaped
from qwenkit.sandbox.controllers.loop import Key, owned_by, owner_reference
from qwenkit.sandbox.controllers.workloads.endpoints import ready_addresses
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object

POPULATED, ACTIVATORS = "EndpointsPopulated", "ActivatorEndpointsPopulated"
SKS_LABEL = "networking.internal.knative.dev/serverlessservice"
_TYPE_LABEL = "networking.internal.knative.dev/serviceType"
_NOT_READY = "K8s Service is not ready"


class ServerlessServiceController(Shaped):
    """Reconciles ServerlessServices."""

    name = "serverless-service"
    kind = "ServerlessService"
    component = "serverlessservice-controller"
    watches = frozenset({"ServerlessService", "Service", "Endpoints"})
    rules = ConditionSet((POPULATED,))

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Services and endpoints say by a label whose they are."""
        if change.kind == self.kind:
            return super().keys(change)
        metadata = change.object["metadata"]
        name = metadata.get("labels", {}).get(SKS_LABEL)
        return [(metadata["namespace"], name)] if name else []

    def shape(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Keep both Services and point the public one at the activator or at the pods."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        private = f"{name}-private"
        self._service(obj, conditions, private, "Private", self._selector(obj))
        status["privateServiceName"] = private
        self._service(obj, conditions, name, "Public", None)
        status["serviceName"] = name
        pods = self.store.find("Endpoints", namespace, private)
        activator = self.store.find("Endpoints", "knative-serving", "activator-service")
        backed = ready_addresses(pods) > 0
        proxied = obj["spec"]["mode"] == "Proxy" or not backed
        self._endpoints(obj, activator if proxied else pods)
        if backed:
            conditions.mark_true(POPULATED)
        else:
            conditions.mark_unknown(POPULATED, "NoHealthyBackends", _NOT_READY)
        conditions.mark_info(
            ACTIVATORS,
            TRUE if proxied else FALSE,
            ACTIVATORS,
            "Revision is backed by Activator",
        )

    def _selector(self, obj: Object) -> dict[str, str]:
        reference, namespace = obj["spec"]["objectRef"], obj["metadata"]["namespace"]
        target = self.store.find(reference["kind"], namespace, reference["name"])
        if target is None:
            raise ReconcileError(
                f"error retrieving deployment selector spec: {reference['name']} not found"
            )
        selector: dict[str, str] = target["spec"]["selector"]["matchLabels"]
        return selector

    def _service(
        self,
        obj: Object,
        conditions: Conditions,
        name: str,
        role: str,
        selector: dict[str, str] | None,
    ) -> None:
        wanted = {"metadata": _metadata(obj, name, role), "spec": {"ports": _ports(obj, role)}}
        if selector:
            wanted["spec"]["selector"] = selector
        found = self.store.find("Service", obj["metadata"]["namespace"], name)
        if found is None:
            self.store.create("Service", wanted)
        elif not owned_by(found, obj):
            conditions.mark_false(
                POPULATED, "NotOwned", f"Resource {name} of type Service is not owned by SKS"
            )
            raise ReconcileError(f"SKS: {obj['metadata']['name']} does not own Service: {name}")
        else:
            self.store.update("Service", {**found, "spec": found["spec"] | wanted["spec"]})

    def _endpoints(self, obj: Object, source: Object | None) -> None:
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        subsets = [
            {**subset, "ports": [port for port in subset["ports"] if _serves(port)]}
            for subset in (source or {}).get("subsets", [])
        ]
        found = self.store.find("Endpoints", namespace, name)
        if found is None:
            wanted = {"metadata": _metadata(obj, name, "Public"), "subsets": subsets}
            self.store.create("Endpoints", wanted)
        else:
            self.store.update("Endpoints", {**found, "subsets": subsets})


def _metadata(obj: Object, name: str, role: str) -> Object:
    metadata = obj["metadata"]
    own = {SKS_LABEL: metadata["name"], _TYPE_LABEL: role}
    return {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": {**metadata.get("labels", {}), **own},
        "annotations": metadata.get("annotations", {}),
        "ownerReferences": [owner_reference(obj)],
    }


def _ports(obj: Object, role: str) -> list[Object]:
    h2c = obj["spec"]["protocolType"] == "h2c"
    serving: Object = {
        "name": "http2" if h2c else "http",
        "port": 80,
        "targetPort": 8013 if h2c else 8012,
        "protocol": "TCP",
    }
    if h2c:
        serving["appProtocol"] = "kubernetes.io/h2c"
    https = {"name": "https", "port": 443, "targetPort": 8112, "protocol": "TCP"}
    if role == "Public":
        return [{**serving, "port": 81} if h2c else serving, https]
    istio = {**serving, "name": f"{serving['name']}-istio", "port": serving["targetPort"]}
    istio.pop("appProtocol", None)
    metrics = [
        {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
        for name, port in (("http-autometric", 9090), ("http-usermetric", 9091))
    ]
    return [serving, https, *metrics, istio]


def _serves(port: Object) -> bool:
    return port.get("port") in (8012, 8013, 8112)

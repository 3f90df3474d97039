"""Where do a revision's requests go: to its pods or to the activator? Its Services say so."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.conditions import Conditions
from qwenkit.sandbox.controllers.knative.queue_proxy import (
    HTTP2_PORT,
    HTTP_PORT,
    HTTPS_PORT,
    METRICS_PORTS,
)
from qwenkit.sandbox.controllers.knative.reconciler import KnativeReconciler, ReconcileError
from qwenkit.sandbox.controllers.loop import KNATIVE_NAMESPACE
from qwenkit.sandbox.controllers.names import SERVERLESS_SERVICE, SERVICE_TYPE
from qwenkit.sandbox.controllers.object_fields import (
    Key,
    annotations_of,
    child_metadata,
    key_of,
    labels_of,
)
from qwenkit.sandbox.controllers.workloads.endpoints import ready_addresses
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.history import WatchEvent

POPULATED, ACTIVATORS = "EndpointsPopulated", "ActivatorEndpointsPopulated"
_PORTS = (HTTP_PORT, HTTP2_PORT, HTTPS_PORT)


class ServerlessServiceController(KnativeReconciler):
    """Reconciles ServerlessServices."""

    name = "serverless-service"
    kind = "ServerlessService"
    component = "serverlessservice-controller"
    watches = frozenset({"ServerlessService", "Service", "Endpoints"})
    dependents = (POPULATED,)

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Services and endpoints name their ServerlessService in a label."""
        if change.kind == self.kind:
            return super().keys(change)
        name = labels_of(change.object).get(SERVERLESS_SERVICE)
        return [(change.object["metadata"]["namespace"], name)] if name else []

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Keep both Services and point the public one at the activator or at the pods."""
        namespace, name = key_of(obj)
        private = f"{name}-private"
        self._service(obj, conditions, private, "Private", self._selector(obj))
        status["privateServiceName"] = private
        self._service(obj, conditions, name, "Public", None)
        status["serviceName"] = name
        pods = self.store.find("Endpoints", namespace, private)
        activator = self.store.find("Endpoints", KNATIVE_NAMESPACE, "activator-service")
        backed = ready_addresses(pods) > 0
        proxied = obj["spec"]["mode"] == "Proxy" or not backed
        self._endpoints(obj, activator if proxied else pods)
        if backed:
            conditions.mark_true(POPULATED)
        else:
            conditions.mark_unknown(POPULATED, "NoHealthyBackends", "K8s Service is not ready")
        mark = conditions.mark_true if proxied else conditions.mark_false
        mark(ACTIVATORS, ACTIVATORS, "Revision is backed by Activator")

    def _selector(self, obj: Object) -> dict[str, str]:
        reference, namespace = obj["spec"]["objectRef"], obj["metadata"]["namespace"]
        target = self.store.find(reference["kind"], namespace, reference["name"])
        if target is None:
            error = f"error retrieving deployment selector spec: {reference['name']} not found"
            raise ReconcileError(error)
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
            return
        message = f"Resource {name} of type Service is not owned by SKS"
        error = f"SKS: {obj['metadata']['name']} does not own Service: {name}"
        self.check_owner(obj, found, conditions, POPULATED, message=message, error=error)
        self.store.update("Service", {**found, "spec": found["spec"] | wanted["spec"]})

    def _endpoints(self, obj: Object, source: Object | None) -> None:
        namespace, name = key_of(obj)
        subsets = [
            {**subset, "ports": [port for port in subset["ports"] if port.get("port") in _PORTS]}
            for subset in (source or {}).get("subsets", [])
        ]
        found = self.store.find("Endpoints", namespace, name)
        if found is None:
            wanted = {"metadata": _metadata(obj, name, "Public"), "subsets": subsets}
            self.store.create("Endpoints", wanted)
        else:
            self.store.update("Endpoints", {**found, "subsets": subsets})


def _metadata(obj: Object, name: str, role: str) -> Object:
    own = {SERVERLESS_SERVICE: obj["metadata"]["name"], SERVICE_TYPE: role}
    return child_metadata(obj, name, labels_of(obj) | own, annotations_of(obj))


def _ports(obj: Object, role: str) -> list[Object]:
    h2c = obj["spec"]["protocolType"] == "h2c"
    serving: Object = {
        "name": "http2" if h2c else "http",
        "port": 80,
        "targetPort": HTTP2_PORT if h2c else HTTP_PORT,
        "protocol": "TCP",
    }
    if h2c:
        serving["appProtocol"] = "kubernetes.io/h2c"
    https = {"name": "https", "port": 443, "targetPort": HTTPS_PORT, "protocol": "TCP"}
    if role == "Public":
        return [{**serving, "port": 81} if h2c else serving, https]
    istio = {**serving, "name": f"{serving['name']}-istio", "port": serving["targetPort"]}
    istio.pop("appProtocol", None)
    metrics = [
        {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
        for name, port in METRICS_PORTS.items()
    ]
    return [serving, https, *metrics, istio]

"""When is an Ingress ready? When the gateway is programmed, as Kourier does after a moment."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.conditions import TRUE, Conditions
from qwenkit.sandbox.controllers.knative.reconciler import KnativeReconciler
from qwenkit.sandbox.controllers.names import INGRESS_CLASS
from qwenkit.sandbox.controllers.object_fields import Key, annotations_of, key_of
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.history import WatchEvent

NETWORK, BALANCER = "NetworkConfigured", "LoadBalancerReady"
_GATEWAY = "{}.kourier-system.svc.cluster.local"


class IngressController(KnativeReconciler):
    """Reconciles Ingresses of Kourier's class."""

    name = "ingress"
    kind = "Ingress"
    component = "ingress-controller"
    finalizer = "ingresses.networking.internal.knative.dev"
    watches = frozenset({"Ingress"})
    dependents = (NETWORK, BALANCER)

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return the key of an Ingress of Kourier's class; others have other controllers."""
        ours = annotations_of(change.object).get(INGRESS_CLASS, "").startswith("kourier.")
        return [key_of(change.object)] if ours else []

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Mark a new generation as waiting, and ready once the gateway has it."""
        key, generation = key_of(obj), obj["metadata"]["generation"]
        conditions.mark_true(NETWORK)
        served = status.get("observedGeneration") == generation
        if served and conditions.status(BALANCER) == TRUE:
            conditions.mark_true(BALANCER)
            return
        if not self.waited(key, generation, self.context.delays.program_gateway):
            message = "Waiting for load balancer to be ready"
            conditions.mark_unknown(BALANCER, "Uninitialized", message)
            return
        status["publicLoadBalancer"] = _balancer("kourier")
        status["privateLoadBalancer"] = _balancer("kourier-internal")
        conditions.mark_true(BALANCER)


def _balancer(service: str) -> Object:
    return {"ingress": [{"domainInternal": _GATEWAY.format(service)}]}

"""Ingress → the gateway: programmed after a moment, then probed and ready (Kourier's part)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from qwenkit.sandbox.controllers.knative.conditions import TRUE, Conditions, ConditionSet
from qwenkit.sandbox.controllers.knative.reconciler import Shaped
from qwenkit.sandbox.controllers.loop import Key, World, key_of
from qwenkit.sandbox.controllers.routing.route_objects import INGRESS_CLASS
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object

NETWORK, BALANCER = "NetworkConfigured", "LoadBalancerReady"
_GATEWAY = "{}.kourier-system.svc.cluster.local"


class IngressController(Shaped):
    """Reconciles Ingresses of Kourier's class."""

    name = "ingress"
    kind = "Ingress"
    component = "ingress-controller"
    finalizer = "ingresses.networking.internal.knative.dev"
    watches = frozenset({"Ingress"})
    rules = ConditionSet((NETWORK, BALANCER))

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._probing: dict[Key, tuple[int, float]] = {}

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Other classes are other controllers' business."""
        annotations = change.object["metadata"].get("annotations", {})
        ours = annotations.get(INGRESS_CLASS, "").startswith("kourier.")
        return [key_of(change.object)] if ours else []

    def forget(self, key: Key) -> None:
        """Stop probing an ingress that is gone."""
        self._probing.pop(key, None)

    def shape(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Mark a new generation as waiting, and ready once the gateway has it."""
        key, generation = key_of(obj), obj["metadata"]["generation"]
        conditions.mark_true(NETWORK)
        served = status.get("observedGeneration") == generation
        if served and conditions.status(BALANCER) == TRUE:
            conditions.mark_true(BALANCER)
            return
        now = asyncio.get_running_loop().time()
        probed, due = self._probing.get(key, (0, 0.0))
        if probed != generation:
            due = now + self.world.delays.program_gateway
            self._probing[key] = (generation, due)
        if now < due:
            conditions.mark_unknown(
                BALANCER, "Uninitialized", "Waiting for load balancer to be ready"
            )
            self.later(key, due - now)
            return
        status["publicLoadBalancer"] = _balancer("kourier")
        status["privateLoadBalancer"] = _balancer("kourier-internal")
        conditions.mark_true(BALANCER)


def _balancer(service: str) -> Object:
    return {"ingress": [{"domainInternal": _GATEWAY.format(service)}]}

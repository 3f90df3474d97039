"""Route → Ingress and placeholder Services, and the traffic that is really assigned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.sandbox.controllers.knative import names
from qwenkit.sandbox.controllers.knative.conditions import (
    FALSE,
    READY,
    TRUE,
    Conditions,
    ConditionSet,
)
from qwenkit.sandbox.controllers.knative.configuration import is_ready
from qwenkit.sandbox.controllers.knative.reconciler import ReconcileError, Shaped
from qwenkit.sandbox.controllers.loop import Key, World, key_of, owned_by
from qwenkit.sandbox.controllers.routing import rollout
from qwenkit.sandbox.controllers.routing.domains import Domains
from qwenkit.sandbox.controllers.routing.labeler import routes_concerned, sync_routing
from qwenkit.sandbox.controllers.routing.rollout import Rollout
from qwenkit.sandbox.controllers.routing.route_objects import (
    ROLLOUT,
    balancer_name,
    ingress_for,
    placeholder_for,
    traffic_status,
)
from qwenkit.sandbox.controllers.routing.traffic_plan import Plan, plan
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object, at, condition

ASSIGNED, CERTIFICATE, INGRESS = "AllTrafficAssigned", "CertificateProvisioned", "IngressReady"
_CONFIGS = ("config-domain", "config-network")
_ROLLING = ("RolloutInProgress", "A gradual rollout of the latest revision(s) is in progress.")
_NOT_CONFIGURED = ("IngressNotConfigured", "Ingress has not yet been reconciled.")


class RouteController(Shaped):
    """Reconciles Routes."""

    name = "route"
    kind = "Route"
    component = "route-controller"
    finalizer = "routes.serving.knative.dev"
    watches = frozenset({"Route", "Configuration", "Revision", "Ingress", "Service", "ConfigMap"})
    rules = ConditionSet((ASSIGNED, INGRESS, CERTIFICATE))

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._leaves_at: dict[Key, float] = {}

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Configurations and Revisions concern every route that points at them."""
        if change.kind in ("Configuration", "Revision"):
            return routes_concerned(self.store, change.object)
        if change.kind == "ConfigMap":
            ours = change.object["metadata"]["name"] in _CONFIGS
            return [key_of(route) for route in self.store.list(self.kind)] if ours else []
        return super().keys(change)

    def shape(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Resolve the traffic; once it is complete, program it."""
        if obj["metadata"]["generation"] != status.get("observedGeneration"):
            conditions.mark_unknown(INGRESS, *_NOT_CONFIGURED)
        made, domains = plan(self.store, obj), Domains(self.world.config, obj, self.store)
        status["url"] = f"http://{domains.public('')}"
        if made.obstacle:
            mark = conditions.mark_false if made.obstacle.failed else conditions.mark_unknown
            mark(ASSIGNED, made.obstacle.reason, made.obstacle.message)
            return
        status["traffic"] = traffic_status(made, domains)
        conditions.mark_true(ASSIGNED)
        status["address"] = {"url": f"http://{domains.local('')}"}
        self._placeholders(obj, made, domains, conditions)
        conditions.mark_true(CERTIFICATE, "TLSNotEnabled", "external-domain-tls is not enabled")
        found = self.store.find("Ingress", *key_of(obj))
        going = self._rollout(obj, made, domains, found, conditions)
        ingress = self._ingress(obj, ingress_for(obj, made, going, domains), found)
        _reflect_ingress(ingress, conditions, moving=not going.done)
        if balancer := balancer_name(ingress):
            self._point_at(obj, made, domains, balancer)
        if not going.done:
            conditions.mark_unknown(INGRESS, *_ROLLING)
            status["traffic"] = traffic_status(made, domains, going)

    def finalize(self, obj: Object) -> bool:
        """Take the route's marks off revisions; that takes the real one a moment."""
        key, now = key_of(obj), asyncio.get_running_loop().time()
        due = self._leaves_at.setdefault(key, now + self.world.delays.finalize_route)
        if now < due:
            self.later(key, due - now)
            return False
        sync_routing(self.store, obj, gone=True)
        return True

    def forget(self, key: Key) -> None:
        """Drop the moment at which a deleted route leaves."""
        self._leaves_at.pop(key, None)

    def _placeholders(
        self, obj: Object, made: Plan, domains: Domains, conditions: Conditions
    ) -> None:
        namespace, route = key_of(obj)
        wanted = [placeholder_for(obj, tag, domains) for tag in sorted(made.by_tag)]
        for service in wanted:
            name = service["metadata"]["name"]
            found = self.store.find("Service", namespace, name)
            if found is None:
                self.store.create("Service", service)
                self.recorder.normal(obj, "Created", f'Created placeholder service "{name}"')
            elif not owned_by(found, obj):
                message = f'There is an existing placeholder Service "{name}" that we do not own.'
                conditions.mark_false(INGRESS, "NotOwned", message)
                raise ReconcileError(f'route: "{route}" does not own Service: "{name}"')
        kept = {service["metadata"]["name"] for service in wanted}
        for service in self.store.list("Service", namespace, {names.ROUTE: route}):
            name = service["metadata"]["name"]
            if name not in kept and owned_by(service, obj):
                self.store.delete("Service", namespace, name)

    def _rollout(
        self,
        obj: Object,
        made: Plan,
        domains: Domains,
        ingress: Object | None,
        conditions: Conditions,
    ) -> Rollout:
        """Return how far the traffic has moved to the latest revision, and plan the next step."""
        wanted, duration_s = rollout.goal(made), _duration_s(obj, domains)
        if ingress is None or duration_s <= 0:
            return wanted
        now = self.world.clock.unix_ns()
        before = rollout.load(ingress["metadata"].get("annotations", {}).get(ROLLOUT, ""))
        if before and is_ready(ingress) and conditions.status(INGRESS) != TRUE:
            before = rollout.observe_ready(before, now, duration_s)
        going = rollout.advance(wanted, before, now)
        if due := going.due():
            self.after(key_of(obj), (due - now) / 1e9)
        return going

    def _ingress(self, obj: Object, wanted: Object, found: Object | None) -> Object:
        if found is None:
            created = self.store.create("Ingress", wanted)
            self.recorder.normal(obj, "Created", f'Created Ingress "{created["metadata"]["name"]}"')
            return created
        for field in ("labels", "annotations"):
            found["metadata"][field] = wanted["metadata"][field]
        return self.store.update("Ingress", {**found, "spec": wanted["spec"]})

    def _point_at(self, obj: Object, made: Plan, domains: Domains, balancer: str) -> None:
        for tag in made.by_tag:
            wanted = placeholder_for(obj, tag, domains)
            found = self.store.find("Service", *key_of(wanted))
            if found is not None:
                for field in ("labels", "annotations"):
                    present = found["metadata"].get(field, {})
                    found["metadata"][field] = present | wanted["metadata"][field]
                found["spec"]["externalName"] = balancer
                self.store.update("Service", found)


def _duration_s(route: Object, domains: Domains) -> int:
    """Return the seconds that a rollout takes, as the route says or else the cluster."""
    annotations = route["metadata"].get("annotations", {})
    given = next((annotations[key] for key in names.ROLLOUT_DURATION if key in annotations), "")
    seconds = int(parse_duration_s(given)) if given else 0
    return seconds or int(domains.network.get("rollout-duration", "0"))


def _reflect_ingress(ingress: Object, conditions: Conditions, *, moving: bool) -> None:
    ready = condition(ingress, READY)
    observed = at(ingress, "status", "observedGeneration")
    if observed != ingress["metadata"]["generation"] or not ready:
        conditions.mark_unknown(INGRESS, *_NOT_CONFIGURED)
    elif moving:
        return
    elif ready["status"] == TRUE:
        conditions.mark_true(INGRESS)
    else:
        mark = conditions.mark_false if ready["status"] == FALSE else conditions.mark_unknown
        mark(INGRESS, ready.get("reason", ""), ready.get("message", ""))

"""Which Ingress and Services does a Route get, and what traffic does its status report?"""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import READY, TRUE, Conditions
from qwenkit.sandbox.controllers.knative.configuration import is_ready
from qwenkit.sandbox.controllers.knative.reconciler import KnativeReconciler
from qwenkit.sandbox.controllers.object_fields import Key, annotations_of, key_of, owned_by
from qwenkit.sandbox.controllers.routing import rollout
from qwenkit.sandbox.controllers.routing.domains import Domains
from qwenkit.sandbox.controllers.routing.labeler import routes_concerned, sync_routing
from qwenkit.sandbox.controllers.routing.rollout import Rollout
from qwenkit.sandbox.controllers.routing.route_objects import (
    balancer_name,
    ingress_for,
    placeholder_for,
    traffic_status,
)
from qwenkit.sandbox.controllers.routing.traffic_plan import TrafficPlan, plan_traffic
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.kube.storage.history import WatchEvent

ASSIGNED, CERTIFICATE, INGRESS = "AllTrafficAssigned", "CertificateProvisioned", "IngressReady"
_MANY, _LATE = 3, 4  # as recorded
_ROLLING = ("RolloutInProgress", "A gradual rollout of the latest revision(s) is in progress.")
_NOT_CONFIGURED = ("IngressNotConfigured", "Ingress has not yet been reconciled.")


class RouteController(KnativeReconciler):
    """Reconciles Routes."""

    name = "route"
    kind = "Route"
    component = "route-controller"
    finalizer = "routes.serving.knative.dev"
    watches = frozenset({"Route", "Configuration", "Revision", "Ingress", "Service", "ConfigMap"})
    configs = frozenset({"config-domain", "config-network"})
    dependents = (ASSIGNED, INGRESS, CERTIFICATE)

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Configurations concern every route that points at them, Revisions those they serve.

        So a Service says that its traffic is still to move, before it does.
        """
        if change.kind == "Configuration":
            return routes_concerned(self.store, change.object)
        if change.kind == "Revision":
            return [
                key
                for key in routes_concerned(self.store, change.object)
                if self._serves(key, change.object)
            ]
        return super().keys(change)

    def _serves(self, route: Key, revision: Object) -> bool:
        found = self.store.find("Route", *route) or {}
        targets = [*(at(found, "status", "traffic") or []), *(at(found, "spec", "traffic") or [])]
        name = revision["metadata"]["name"]
        return any(target.get("revisionName") == name for target in targets)

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Resolve the traffic; when it is complete, program it."""
        if obj["metadata"]["generation"] != status.get("observedGeneration"):
            conditions.mark_unknown(INGRESS, *_NOT_CONFIGURED)
        made = plan_traffic(self.store, obj)
        domains = Domains(self.context.config, obj, self.store)
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
        wanted = ingress_for(obj, made, going, domains)
        if found is None:
            ingress = self.create_child(obj, "Ingress", wanted)
        else:
            ingress = self.update_child("Ingress", found, wanted)
        _reflect_ingress(ingress, conditions, moving=not going.done)
        if balancer := balancer_name(ingress):
            self._point_at(obj, made, domains, balancer)
        if not going.done:
            conditions.mark_unknown(INGRESS, *_ROLLING)
            status["traffic"] = traffic_status(made, domains, going)

    def finalize_kind(self, obj: Object) -> bool:
        """Remove the route from its revisions, as late as the real controller does.

        It fails and tries again while revisions go under it: with many of them until all are gone.
        """
        key, uid = key_of(obj), obj["metadata"]["uid"]
        revisions = self.store.list("Revision", key[0])
        ours = sum(key in routes_concerned(self.store, revision) for revision in revisions)
        late = _LATE if ours >= _MANY else 1
        if not self.waited(key, uid, late * self.context.delays.finalize_route):
            return False
        sync_routing(self.store, obj, gone=True)
        return True

    def _placeholders(
        self, obj: Object, made: TrafficPlan, domains: Domains, conditions: Conditions
    ) -> None:
        namespace, route = key_of(obj)
        wanted = [placeholder_for(obj, tag, domains) for tag in sorted(made.by_tag)]
        for service in wanted:
            name = service["metadata"]["name"]
            found = self.store.find("Service", namespace, name)
            if found is None:
                self.create_child(obj, "Service", service, shown="placeholder service")
            else:
                message = f'There is an existing placeholder Service "{name}" that we do not own.'
                self.check_owner(obj, found, conditions, INGRESS, message=message)
        kept = {service["metadata"]["name"] for service in wanted}
        for service in self.store.list("Service", namespace, {names.ROUTE: route}):
            name = service["metadata"]["name"]
            if name not in kept and owned_by(service, obj):
                self.store.delete("Service", namespace, name)

    def _rollout(
        self,
        obj: Object,
        made: TrafficPlan,
        domains: Domains,
        ingress: Object | None,
        conditions: Conditions,
    ) -> Rollout:
        """Return the traffic that has moved to the latest revision, and plan the next step."""
        wanted, duration_s = rollout.goal(made), _duration_s(obj, domains)
        if ingress is None or duration_s <= 0:
            return wanted
        now = self.context.clock.unix_ns()
        before = rollout.load(annotations_of(ingress).get(names.ROLLOUT, ""))
        if before and is_ready(ingress) and conditions.status(INGRESS) != TRUE:
            before = rollout.observe_ready(before, now, duration_s)
        going = rollout.advance(wanted, before, now)
        if due := going.due():
            self.after(key_of(obj), (due - now) / 1e9)
        return going

    def _point_at(self, obj: Object, made: TrafficPlan, domains: Domains, balancer: str) -> None:
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
    """Return the seconds that a rollout takes: the route's setting, or else the cluster's."""
    given = names.first(annotations_of(route), names.ROLLOUT_DURATION)
    seconds = int(parse_duration_s(given)) if given else 0
    return seconds or int(domains.network.get("rollout-duration", "0"))


def _reflect_ingress(ingress: Object, conditions: Conditions, *, moving: bool) -> None:
    ready = condition(ingress, READY)
    observed = at(ingress, "status", "observedGeneration")
    if observed != ingress["metadata"]["generation"] or not ready:
        conditions.mark_unknown(INGRESS, *_NOT_CONFIGURED)
    elif not moving:
        conditions.follow(INGRESS, ready)

"""Which Configuration and Route does a Knative Service get, and what status from theirs?"""

from __future__ import annotations

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import READY, TRUE, Conditions
from qwenkit.sandbox.controllers.knative.configuration import is_generation
from qwenkit.sandbox.controllers.knative.reconciler import KnativeReconciler
from qwenkit.sandbox.controllers.object_fields import annotations_of, child_metadata, labels_of
from qwenkit.sandbox.kube.objects import Object, at, condition, copied

CONFIGURATIONS, ROUTES = "ConfigurationsReady", "RoutesReady"
_CONFIGURATION_FIELDS = ("latestCreatedRevisionName", "latestReadyRevisionName")
_ROUTE_FIELDS = ("url", "address", "traffic")


class ServiceController(KnativeReconciler):
    """Reconciles Knative Services."""

    name = "service"
    kind = "KnativeService"
    component = "service-controller"
    watches = frozenset({"KnativeService", "Configuration", "Route"})
    dependents = (CONFIGURATIONS, ROUTES)

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Keep the two children as the spec says and follow their conditions."""
        configuration = self._child(obj, conditions, "Configuration", configuration_for(obj))
        _reflect(configuration, status, conditions, CONFIGURATIONS, _CONFIGURATION_FIELDS)
        named = at(configuration, "spec", "template", "metadata", "name")
        if named and not _observed(configuration):
            return  # a named revision is programmed only once the Configuration accepted it
        if taken := self._taken_name(configuration):
            message = f'The revision name "{taken}" is taken by a conflicting Revision, '
            message += "so traffic will not be migrated"
            conditions.mark_false(ROUTES, "RevisionNameTaken", message)
            return
        route = self._child(obj, conditions, "Route", route_for(obj))
        _reflect(route, status, conditions, ROUTES, _ROUTE_FIELDS)
        if conditions.status(ROUTES) == TRUE and not _migrated(configuration, route):
            message = "Traffic is not yet migrated to the latest revision."
            conditions.mark_unknown(ROUTES, "TrafficNotMigrated", message)

    def _child(self, obj: Object, conditions: Conditions, kind: str, wanted: Object) -> Object:
        name = wanted["metadata"]["name"]
        found = self.store.find(kind, wanted["metadata"]["namespace"], name)
        if found is None:
            return self.create_child(obj, kind, wanted)
        condition = CONFIGURATIONS if kind == "Configuration" else ROUTES
        error = f'service: "{name}" does not own {kind.lower()}: "{name}"'
        self.check_owner(obj, found, conditions, condition, error=error)
        if kind == "Configuration":
            _keep_routes(wanted, found)
        return self.update_child(kind, found, wanted)

    def _taken_name(self, configuration: Object) -> str:
        """Return the revision name that the template asks for, if another object has it."""
        name: str = at(configuration, "spec", "template", "metadata", "name") or ""
        namespace = configuration["metadata"]["namespace"]
        revision = self.store.find("Revision", namespace, name) if name else None
        return name if revision and not is_generation(revision, configuration) else ""


def configuration_for(service: Object) -> Object:
    """Return the Configuration that a Service wants."""
    metadata = service["metadata"]
    own = {names.SERVICE: metadata["name"], names.SERVICE_UID: metadata["uid"]}
    dropped = (names.LAST_APPLIED, *names.ROLLOUT_DURATION)
    annotations = names.without(metadata.get("annotations"), dropped)
    annotations[names.ROUTES] = metadata["name"]
    return {
        "metadata": child_metadata(
            service, metadata["name"], labels_of(service) | own, annotations
        ),
        "spec": {"template": copied(service["spec"]["template"])},
    }


def route_for(service: Object) -> Object:
    """Return the Route that a Service wants."""
    name = service["metadata"]["name"]
    traffic = copied(service["spec"].get("traffic", []))
    for target in traffic:
        if not target.get("revisionName"):
            target["configurationName"] = name
    labels = labels_of(service) | {names.SERVICE: name}
    annotations = names.without(annotations_of(service), (names.LAST_APPLIED,))
    return {
        "metadata": child_metadata(service, name, labels, annotations),
        "spec": {"traffic": traffic},
    }


def _keep_routes(wanted: Object, found: Object) -> None:
    """Keep the names of other routes that point at the Configuration."""
    annotations = annotations_of(wanted)
    present = annotations_of(found).get(names.ROUTES, "")
    routes = {annotations[names.ROUTES], *filter(None, present.split(","))}
    annotations[names.ROUTES] = ",".join(sorted(routes))


def _observed(child: Object) -> bool:
    return bool(at(child, "status", "observedGeneration") == child["metadata"]["generation"])


def _reflect(
    child: Object, status: Object, conditions: Conditions, which: str, fields: tuple[str, ...]
) -> None:
    """Copy a child's status fields and follow its Ready, once it has seen its present spec."""
    if not _observed(child):
        message = (
            f"The {child['kind']} is still working to reflect the latest desired specification."
        )
        conditions.mark_unknown(which, "OutOfDate", message)
        return
    for field in fields:
        status.pop(field, None)
        if field in child["status"]:
            status[field] = copied(child["status"][field])
    if ready := condition(child, READY):
        conditions.follow(which, ready)


def _migrated(configuration: Object, route: Object) -> bool:
    """Return whether the route's traffic is what its spec means for this Configuration now."""
    latest = at(configuration, "status", "latestReadyRevisionName")
    wanted = []
    for target in route["spec"].get("traffic", []):
        target = {key: value for key, value in target.items() if key != "latestRevision"}
        if target.pop("configurationName", None):
            target["revisionName"] = latest
        wanted.append(target)
    dropped = ("latestRevision", "url")
    got = [
        {key: value for key, value in target.items() if key not in dropped}
        for target in at(route, "status", "traffic") or []
    ]
    return wanted == got

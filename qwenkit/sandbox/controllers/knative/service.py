"""Knative Service → Configuration and Route, and the Service's status from theirs."""

from __future__ import annotations

from typing import Any

from qwenkit.sandbox.controllers.knative import names
from qwenkit.sandbox.controllers.knative.conditions import (
    FALSE,
    READY,
    TRUE,
    Conditions,
    ConditionSet,
)
from qwenkit.sandbox.controllers.knative.reconciler import ReconcileError, Shaped
from qwenkit.sandbox.controllers.loop import owned_by, owner_reference
from qwenkit.sandbox.kube.objects import Object, at, condition, copied

CONFIGURATIONS, ROUTES = "ConfigurationsReady", "RoutesReady"
_CONFIGURATION_FIELDS = ("latestCreatedRevisionName", "latestReadyRevisionName")
_ROUTE_FIELDS = ("url", "address", "traffic")


class ServiceController(Shaped):
    """Reconciles Knative Services."""

    name = "service"
    kind = "KnativeService"
    component = "service-controller"
    watches = frozenset({"KnativeService", "Configuration", "Route"})
    rules = ConditionSet((CONFIGURATIONS, ROUTES))

    def shape(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Keep the two children as the spec says and reflect them."""
        configuration = self._child(obj, conditions, "Configuration", configuration_for(obj))
        if not _observed(configuration):
            conditions.mark_unknown(CONFIGURATIONS, "OutOfDate", _out_of_date("Configuration"))
            if at(configuration, "spec", "template", "metadata", "name"):
                return  # a named revision is programmed only once the Configuration accepted it
        else:
            _reflect(configuration, status, conditions, CONFIGURATIONS, _CONFIGURATION_FIELDS)
        if taken := self._taken_name(configuration):
            conditions.mark_false(
                ROUTES,
                "RevisionNameTaken",
                f'The revision name "{taken}" is taken by a conflicting Revision, '
                "so traffic will not be migrated",
            )
            return
        route = self._child(obj, conditions, "Route", route_for(obj))
        if not _observed(route):
            conditions.mark_unknown(ROUTES, "OutOfDate", _out_of_date("Route"))
        else:
            _reflect(route, status, conditions, ROUTES, _ROUTE_FIELDS)
        if conditions.status(ROUTES) == TRUE and not _migrated(configuration, route):
            conditions.mark_unknown(
                ROUTES,
                "TrafficNotMigrated",
                "Traffic is not yet migrated to the latest revision.",
            )

    def _child(self, obj: Object, conditions: Conditions, kind: str, wanted: Object) -> Object:
        metadata = wanted["metadata"]
        found = self.store.find(kind, metadata["namespace"], metadata["name"])
        if found is None:
            created = self.store.create(kind, wanted)
            self.recorder.normal(obj, "Created", f'Created {kind} "{metadata["name"]}"')
            return created
        if not owned_by(found, obj):
            which = CONFIGURATIONS if kind == "Configuration" else ROUTES
            name = metadata["name"]
            conditions.mark_false(
                which, "NotOwned", f'There is an existing {kind} "{name}" that we do not own.'
            )
            raise ReconcileError(
                f'service: "{obj["metadata"]["name"]}" does not own {kind.lower()}: "{name}"'
            )
        if kind == "Configuration":
            _keep_routes(wanted, found)
        changed = {**found, "spec": wanted["spec"], "metadata": dict(found["metadata"])}
        changed["metadata"]["labels"] = metadata["labels"]
        changed["metadata"]["annotations"] = metadata["annotations"]
        return self.store.update(kind, changed)

    def _taken_name(self, configuration: Object) -> str:
        """Return the revision name that the template asks for and another object has."""
        name: str = at(configuration, "spec", "template", "metadata", "name") or ""
        namespace = configuration["metadata"]["namespace"]
        revision = self.store.find("Revision", namespace, name) if name else None
        if revision is None:
            return ""
        generation = str(configuration["metadata"]["generation"])
        labels = revision["metadata"].get("labels", {})
        same = labels.get(names.CONFIGURATION_GENERATION) == generation or (
            revision["spec"] == configuration["spec"]["template"]["spec"]
        )
        return "" if same and owned_by(revision, configuration) else name


def configuration_for(service: Object) -> Object:
    """Return the Configuration that a Service wants."""
    metadata = service["metadata"]
    dropped = (names.LAST_APPLIED, *names.ROLLOUT_DURATION)
    annotations = names.without(metadata.get("annotations"), dropped)
    return {
        "metadata": _child_metadata(service)
        | {
            "labels": {
                **metadata.get("labels", {}),
                names.SERVICE: metadata["name"],
                names.SERVICE_UID: metadata["uid"],
            },
            "annotations": {**annotations, names.ROUTES: metadata["name"]},
        },
        "spec": {"template": copied(service["spec"]["template"])},
    }


def route_for(service: Object) -> Object:
    """Return the Route that a Service wants."""
    metadata = service["metadata"]
    traffic = copied(service["spec"].get("traffic", []))
    for target in traffic:
        if not target.get("revisionName"):
            target["configurationName"] = metadata["name"]
    return {
        "metadata": _child_metadata(service)
        | {
            "labels": {**metadata.get("labels", {}), names.SERVICE: metadata["name"]},
            "annotations": names.without(metadata.get("annotations"), (names.LAST_APPLIED,)),
        },
        "spec": {"traffic": traffic},
    }


def _child_metadata(service: Object) -> dict[str, Any]:
    metadata = service["metadata"]
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "ownerReferences": [owner_reference(service)],
    }


def _keep_routes(wanted: Object, found: Object) -> None:
    """Other routes may point at the Configuration too: keep their names."""
    annotations = wanted["metadata"]["annotations"]
    present = found["metadata"].get("annotations", {}).get(names.ROUTES, "")
    routes = {annotations[names.ROUTES], *filter(None, present.split(","))}
    annotations[names.ROUTES] = ",".join(sorted(routes))


def _observed(child: Object) -> bool:
    return bool(at(child, "status", "observedGeneration") == child["metadata"]["generation"])


def _out_of_date(kind: str) -> str:
    return f"The {kind} is still working to reflect the latest desired specification."


def _reflect(
    child: Object, status: Object, conditions: Conditions, which: str, fields: tuple[str, ...]
) -> None:
    for field in fields:
        status.pop(field, None)
        if field in child["status"]:
            status[field] = copied(child["status"][field])
    ready = condition(child, READY)
    if ready.get("status") == TRUE:
        conditions.mark_true(which)
    elif ready:
        mark = conditions.mark_false if ready["status"] == FALSE else conditions.mark_unknown
        mark(which, ready.get("reason", ""), ready.get("message", ""))


def _migrated(configuration: Object, route: Object) -> bool:
    """Tell whether the route's traffic is what its spec means for this Configuration now."""
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

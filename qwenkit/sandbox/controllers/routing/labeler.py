"""Which routes point at a Configuration or Revision, and is it reachable? Labels say so."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import FALSE, READY, TRUE
from qwenkit.sandbox.controllers.loop import Controller
from qwenkit.sandbox.controllers.object_fields import (
    Key,
    annotations_of,
    controller_of,
    deleting,
    key_of,
    labels_of,
)
from qwenkit.sandbox.kube.objects import Object, at, condition, timestamp, utc_now
from qwenkit.sandbox.kube.storage.history import WatchEvent
from qwenkit.sandbox.kube.storage.store import ObjectStore


class Labeler(Controller):
    """Keeps the routing labels and annotations as the routes' traffic says."""

    name = "labeler"
    kind = "Route"
    watches = frozenset({"Route", "Configuration", "Revision"})

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Configurations and Revisions concern every route that points at them."""
        if change.kind == self.kind:
            return [key_of(change.object)]
        return routes_concerned(self.store, change.object)

    def reconcile(self, namespace: str, name: str) -> None:
        """Mark what the route points at, and unmark what it no longer points at."""
        route = self.store.find("Route", namespace, name)
        if route is not None and not deleting(route):
            sync_routing(self.store, route)


def routes_concerned(store: ObjectStore, obj: Object) -> list[Key]:
    """Return the routes whose traffic names a Configuration, a Revision or its Configuration."""
    metadata = obj["metadata"]
    named = {metadata["name"]}
    if obj["kind"] == "Revision":
        named.add(labels_of(obj).get(names.CONFIGURATION))
    return [
        key_of(route)
        for route in store.list("Route", metadata["namespace"])
        if any(
            target.get("revisionName") in named or target.get("configurationName") in named
            for target in route["spec"].get("traffic", [])
        )
    ]


def sync_routing(store: ObjectStore, route: Object, *, gone: bool = False) -> None:
    """Set and clear the labels and annotations of one route; ``gone`` clears them all."""
    namespace, name = key_of(route)
    revisions, configurations = (set(), set()) if gone else _pointed_at(store, route)
    observed = at(route, "status", "observedGeneration") == route["metadata"]["generation"]
    settled = observed and condition(route, READY).get("status") in (TRUE, FALSE)
    for kind, pointed in (("Revision", revisions), ("Configuration", configurations)):
        for obj in store.list(kind, namespace):
            listed = obj["metadata"]["name"] in pointed
            # Unmarked only once the route has settled, so that no revision is cut off early.
            if listed or ((gone or settled) and name in _routes(obj)):
                _mark(store, kind, obj, name, listed)


def _pointed_at(store: ObjectStore, route: Object) -> tuple[set[str], set[str]]:
    namespace = route["metadata"]["namespace"]
    revisions, configurations = set(), set()
    targets = [*(at(route, "status", "traffic") or []), *route["spec"].get("traffic", [])]
    for target in targets:
        configuration = target.get("configurationName")
        if name := target.get("revisionName"):
            revision = store.find("Revision", namespace, name)
            if revision is None:
                continue
            revisions.add(name)
            owner = controller_of(revision) or {}
            configuration = owner.get("name", configuration)
        found = store.find("Configuration", namespace, configuration) if configuration else None
        if found is None:
            continue
        configurations.add(found["metadata"]["name"])
        created = at(found, "status", "latestCreatedRevisionName")
        if created and target.get("latestRevision"):
            revisions.add(created)  # reachable before it is ready, for a smooth change
    return revisions, configurations


def _routes(obj: Object) -> set[str]:
    return set(filter(None, annotations_of(obj).get(names.ROUTES, "").split(",")))


def _mark(store: ObjectStore, kind: str, obj: Object, route: str, listed: bool) -> None:
    metadata = obj["metadata"]
    annotations = metadata.setdefault("annotations", {})
    routes = _routes(obj) | {route} if listed else _routes(obj) - {route}
    if routes:
        annotations[names.ROUTES] = ",".join(sorted(routes))
    else:
        annotations.pop(names.ROUTES, None)
    if kind == "Revision":
        state = "active" if routes else "reserve"
        labels = metadata.setdefault("labels", {})
        if labels.get(names.ROUTING_STATE) != state:
            labels[names.ROUTING_STATE] = state
            annotations[names.ROUTING_STATE_MODIFIED] = timestamp(utc_now())
    store.update(kind, obj)

"""Which Revision does a Configuration get for each generation of its template?"""

from __future__ import annotations

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import FALSE, READY, TRUE, Conditions
from qwenkit.sandbox.controllers.knative.reconciler import KnativeReconciler, ReconcileError
from qwenkit.sandbox.controllers.object_fields import (
    annotations_of,
    child_metadata,
    labels_of,
    owned_by,
)
from qwenkit.sandbox.kube.api_error import ApiError, already_exists
from qwenkit.sandbox.kube.objects import Object, at, condition, copied, timestamp, utc_now


class ConfigurationController(KnativeReconciler):
    """Reconciles Configurations."""

    name = "configuration"
    kind = "Configuration"
    component = "configuration-controller"
    watches = frozenset({"Configuration", "Revision"})

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Create the newest revision and report the latest created and the latest ready one."""
        try:
            revision = self._newest(obj)
        except ApiError as error:
            message = f"Revision creation failed with message: {error.message}."
            conditions.mark_false(READY, "RevisionFailed", message)
            if error.reason == "AlreadyExists":
                return
            failure = f"to create Revision: {error.message}"
            self.recorder.warning(obj, "CreationFailed", f"Failed {failure}")
            raise ReconcileError(f"failed {failure}") from error
        name = revision["metadata"]["name"]
        status["latestCreatedRevisionName"] = name
        if status.get("latestReadyRevisionName") != name:
            conditions.mark_unknown(READY)
        ready = condition(revision, READY)
        if ready.get("status") == TRUE and not status.get("latestReadyRevisionName"):
            self.recorder.normal(obj, "ConfigurationReady", "Configuration becomes ready")
        elif ready.get("status") == FALSE:
            self._failed(obj, status, conditions, revision)
        self._follow_ready(obj, status, conditions, revision)

    def _newest(self, obj: Object) -> Object:
        """Return the revision of this generation, created if there is none.

        Raises:
            ApiError: its name is taken.
        """
        metadata = obj["metadata"]
        if given := at(obj, "spec", "template", "metadata", "name"):
            found = self.store.find("Revision", metadata["namespace"], given)
            if found and not is_generation(found, obj):
                raise already_exists(self.store.kinds["Revision"], given)
            return found or self._create(obj)
        labels = {
            names.CONFIGURATION: metadata["name"],
            names.CONFIGURATION_GENERATION: str(metadata["generation"]),
        }
        present = self.store.list("Revision", metadata["namespace"], labels)
        return present[0] if present else self._create(obj)

    def _create(self, obj: Object) -> Object:
        try:
            return self.create_child(obj, "Revision", revision_for(obj))
        except ApiError as error:
            if error.reason == "AlreadyExists":
                raise ReconcileError(f"failed to create Revision: {error.message}") from error
            raise

    def _failed(
        self, obj: Object, status: Object, conditions: Conditions, revision: Object
    ) -> None:
        name = revision["metadata"]["name"]
        before = conditions.get(READY)
        message = condition(revision, READY).get("message", "")
        message = f'Revision "{name}" failed with message: {message}.'
        conditions.mark_false(READY, "RevisionFailed", message)
        if conditions.get(READY) != before:
            which = "ready" if name == status.get("latestReadyRevisionName") else "created"
            message = f'Latest {which} revision "{name}" has failed'
            self.recorder.warning(obj, f"Latest{which.capitalize()}Failed", message)

    def _follow_ready(
        self, obj: Object, status: Object, conditions: Conditions, created: Object
    ) -> None:
        """Move ``latestReadyRevisionName`` to the newest revision that is ready."""
        old = status.get("latestReadyRevisionName")
        for revision in self._candidates(obj, old, created):
            if not is_ready(revision):
                continue
            name = revision["metadata"]["name"]
            status["latestReadyRevisionName"] = name
            if name == status["latestCreatedRevisionName"]:
                conditions.mark_true(READY)
            if name != old:
                message = f'LatestReadyRevisionName updated to "{name}"'
                self.recorder.normal(obj, "LatestReadyUpdate", message)
            return

    def _candidates(self, obj: Object, latest_ready: str | None, created: Object) -> list[Object]:
        """Return our revisions from the newest down to the one that is ready now."""
        metadata = obj["metadata"]
        labels = {names.CONFIGURATION: metadata["name"]}
        revisions = self.store.list("Revision", metadata["namespace"], labels)
        by_name = {revision["metadata"]["name"]: revision for revision in revisions}
        first = _generation(by_name[latest_ready]) if latest_ready in by_name else 0
        named = created["metadata"]["name"]
        kept = [r for r in revisions if _generation(r) >= first or r["metadata"]["name"] == named]
        return sorted(
            kept, key=lambda r: (r["metadata"]["name"] == named, _generation(r)), reverse=True
        )


def revision_for(configuration: Object) -> Object:
    """Return the Revision of a Configuration's present generation."""
    metadata, template = configuration["metadata"], copied(configuration["spec"]["template"])
    given, inherited = template.get("metadata") or {}, annotations_of(configuration)
    generation, own = metadata["generation"], labels_of(configuration)
    labels = {**given.get("labels", {}), names.ROUTING_STATE: "pending"}
    annotations = given.get("annotations", {})
    annotations[names.ROUTING_STATE_MODIFIED] = timestamp(utc_now())
    if creator := inherited.get(names.MODIFIER):
        annotations[names.CREATOR] = creator
    if routes := inherited.get(names.ROUTES):
        annotations[names.ROUTES] = routes
        labels[names.ROUTING_STATE] = "active"
    labels |= {key: own[key] for key in (names.SERVICE, names.SERVICE_UID) if key in own}
    labels |= {
        names.CONFIGURATION: metadata["name"],
        names.CONFIGURATION_UID: metadata["uid"],
        names.CONFIGURATION_GENERATION: str(generation),
    }
    name = given.get("name") or names.child_name(metadata["name"], f"-{generation:05d}")
    return {
        "metadata": child_metadata(configuration, name, labels, annotations),
        "spec": template["spec"],
    }


def is_ready(obj: Object) -> bool:
    """Return whether an object reports Ready for its present generation."""
    observed = at(obj, "status", "observedGeneration") == obj["metadata"]["generation"]
    return bool(observed and condition(obj, READY).get("status") == TRUE)


def _generation(revision: Object) -> int:
    return int(labels_of(revision).get(names.CONFIGURATION_GENERATION, "0"))


def is_generation(revision: Object, configuration: Object) -> bool:
    """Return whether a revision is the one of a Configuration's present template."""
    if not owned_by(revision, configuration):
        return False
    same_spec: bool = revision["spec"] == configuration["spec"]["template"]["spec"]
    return same_spec or bool(_generation(revision) == configuration["metadata"]["generation"])

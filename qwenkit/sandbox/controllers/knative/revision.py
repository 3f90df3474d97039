"""Which Deployment and PodAutoscaler does a Revision get, and what conditions from theirs?"""

from __future__ import annotations

from collections.abc import Mapping

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import FALSE, READY, TRUE, Conditions
from qwenkit.sandbox.controllers.knative.configuration import is_ready
from qwenkit.sandbox.controllers.knative.queue_proxy import QUEUE_PROXY
from qwenkit.sandbox.controllers.knative.reconciler import KnativeReconciler, ReconcileError
from qwenkit.sandbox.controllers.knative.revision_objects import autoscaler_for, deployment_for
from qwenkit.sandbox.controllers.loop import Context
from qwenkit.sandbox.controllers.object_fields import Key, annotations_of, key_of, labels_of
from qwenkit.sandbox.kube.objects import Object, at, condition, copied

RESOURCES, HEALTHY, ACTIVE = "ResourcesAvailable", "ContainerHealthy", "Active"
DEADLINE = "ProgressDeadlineExceeded"
_DEPLOYING = "Deploying"
_RETRY_FIRST_S, _RETRY_LAST_S = 1.0, 1000.0


class RevisionController(KnativeReconciler):
    """Reconciles Revisions."""

    name = "revision"
    kind = "Revision"
    component = "revision-controller"
    watches = frozenset({"Revision", "Deployment", "PodAutoscaler"})
    dependents = (RESOURCES, HEALTHY)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tries: dict[Key, int] = {}

    def forget(self, key: Key) -> None:
        """Stop resolving images for a revision that is gone."""
        super().forget(key)
        self._tries.pop(key, None)

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Resolve the images, then deploy and scale."""
        was_ready = is_ready(obj)
        if not self._resolved(obj, status, conditions):
            conditions.mark_unknown(RESOURCES, "ResolvingDigests")
            return
        deployment = self._deploy(obj, conditions)
        self._scale(obj, status, conditions, deployment)
        if conditions.status(READY) == TRUE and not was_ready:
            message = "Revision becomes ready upon all resources being ready"
            self.recorder.normal(obj, "RevisionReady", message)

    def _resolved(self, obj: Object, status: Object, conditions: Conditions) -> bool:
        """Return whether the image tags are resolved; a registry takes a moment to answer.

        Raises:
            ReconcileError: one cannot be resolved; the registry is asked again, later each time.
        """
        containers = obj["spec"]["containers"]
        if len(status.get("containerStatuses", [])) == len(containers):
            return True
        key, context = key_of(obj), self.context
        tries, wait_s = self._tries.get(key, 0), context.delays.resolve_image
        if tries:
            wait_s += context.clock.real(min(_RETRY_FIRST_S * 2 ** (tries - 1), _RETRY_LAST_S))
        if not self.waited(key, tries, wait_s):
            return False
        self._tries[key] = tries + 1
        for image in (container["image"] for container in containers):
            if why := context.resolve_image(image):
                error = f'Unable to fetch image "{image}": failed to resolve image to digest: {why}'
                conditions.mark_false(HEALTHY, "ContainerMissing", error)
                raise ReconcileError(error)
        self.forget(key)
        status["containerStatuses"] = [{"name": container["name"]} for container in containers]
        return True

    def _deploy(self, obj: Object, conditions: Conditions) -> Object:
        wanted = deployment_for(obj, self.context.config)
        namespace, name = key_of(wanted)
        found = self.store.find("Deployment", namespace, name)
        if found is None:
            conditions.mark_unknown(RESOURCES, _DEPLOYING)
            conditions.mark_unknown(HEALTHY, _DEPLOYING)
            return self.store.create("Deployment", wanted)
        self.check_owner(obj, found, conditions, RESOURCES)
        found = self._corrected(found, wanted)
        conditions.follow(RESOURCES, condition(found, "Progressing"))
        if failure := condition(found, "ReplicaFailure"):
            conditions.mark_false(RESOURCES, failure["reason"], failure["message"])
        if found["spec"]["replicas"] > 0 and not at(found, "status", "availableReplicas"):
            self._look_at_pods(found, conditions)
        if at(found, "status", "readyReplicas"):
            conditions.mark_true(HEALTHY)
        return found

    def _corrected(self, found: Object, wanted: Object) -> Object:
        """Update a Deployment to the revision's spec; its scale and others' additions stay."""
        digest = wanted["metadata"]["labels"][names.DEPLOYMENT_HASH]
        if labels_of(found).get(names.DEPLOYMENT_HASH) == digest:
            return found
        kept = {field: found["spec"][field] for field in ("replicas", "selector")}
        spec = copied({**wanted["spec"], **kept})
        changed = {**found, "metadata": dict(found["metadata"]), "spec": spec}
        pairs = (
            (changed["metadata"], found["metadata"], wanted["metadata"]),
            (
                spec["template"]["metadata"],
                found["spec"]["template"].get("metadata", {}),
                wanted["spec"]["template"]["metadata"],
            ),
        )
        for target, present, new in pairs:
            for field in ("labels", "annotations"):
                target[field] = _foreign(present.get(field, {})) | new[field]
        return self.store.update("Deployment", changed)

    def _look_at_pods(self, deployment: Object, conditions: Conditions) -> None:
        """Mark why no pod serves, by the first pod's status."""
        labels = deployment["spec"]["selector"]["matchLabels"]
        pods = self.store.list("Pod", deployment["metadata"]["namespace"], labels)
        if not pods:
            return
        scheduled = condition(pods[0], "PodScheduled")
        if scheduled.get("status") == FALSE:
            conditions.follow(RESOURCES, scheduled)
        timed_out = condition(deployment, "Progressing").get("reason") == DEADLINE
        for container in at(pods[0], "status", "containerStatuses") or []:
            if container["name"] == QUEUE_PROXY:
                continue
            waiting = at(container, "state", "waiting")
            if ended := at(container, "lastState", "terminated"):
                code, message = ended["exitCode"], ended.get("message", "")
                if not message and code == 0:
                    message = "container exited with no error"
                message = f"Container failed with: {message}"
                conditions.mark_false(HEALTHY, f"ExitCode{code}", message)
                return
            if waiting and timed_out:
                conditions.follow(RESOURCES, {"status": FALSE, **waiting})
                return

    def _scale(
        self, obj: Object, status: Object, conditions: Conditions, deployment: Object
    ) -> None:
        namespace, name = key_of(obj)
        found = self.store.find("PodAutoscaler", namespace, name)
        if found is None:
            wanted = autoscaler_for(obj, reachability(obj, conditions, deployment))
            found = self.store.create("PodAutoscaler", wanted)
        else:
            self.check_owner(obj, found, conditions, RESOURCES)
        _reflect_autoscaler(found, status, conditions)
        wanted = autoscaler_for(obj, reachability(obj, conditions, deployment))
        # The revision decides about scaling annotations, also about those that are gone.
        kept = {k: v for k, v in annotations_of(found).items() if not k.startswith(PREFIX)}
        found["metadata"]["annotations"] = kept | wanted["metadata"]["annotations"]
        self.store.update("PodAutoscaler", {**found, "spec": wanted["spec"]})


def reachability(obj: Object, conditions: Conditions, deployment: Object) -> str:
    """Return whether requests can reach the revision, for the autoscaler."""
    broken = FALSE in (conditions.status(RESOURCES), conditions.status(HEALTHY))
    wants_pods = deployment["spec"]["replicas"] > 0
    if broken and wants_pods and not at(deployment, "status", "readyReplicas"):
        return "Unreachable"
    state = labels_of(obj).get(names.ROUTING_STATE, "")
    return {"active": "Reachable", "reserve": "Unreachable"}.get(state, "")


def _foreign(values: Mapping[str, str]) -> dict[str, str]:
    """Return what others than Knative wrote, such as ``kubectl rollout restart``."""
    return {k: v for k, v in values.items() if k != "app" and "knative.dev/" not in k}


def _reflect_autoscaler(autoscaler: Object, status: Object, conditions: Conditions) -> None:
    scaling: Object = autoscaler.get("status") or {}
    failed = FALSE in (conditions.status(RESOURCES), conditions.status(HEALTHY))
    for ours, theirs in (("actualReplicas", "actualScale"), ("desiredReplicas", "desiredScale")):
        status.pop(ours, None)
        if scaling.get(theirs, -1) >= 0:
            status[ours] = scaling[theirs]
    ready = condition(autoscaler, READY)
    if not ready:
        conditions.mark_unknown(ACTIVE, _DEPLOYING)
        if not failed:
            conditions.mark_unknown(RESOURCES, _DEPLOYING)
        return
    initialized = condition(autoscaler, "ScaleTargetInitialized").get("status") == TRUE
    if initialized and not failed:
        conditions.mark_true(RESOURCES)
        conditions.mark_true(HEALTHY)
    has_service = bool(scaling.get("serviceName"))
    if conditions.status(RESOURCES) == TRUE and not (has_service and initialized):
        conditions.mark_unknown(RESOURCES, _DEPLOYING)
    if ready["status"] == FALSE and has_service and not (initialized or failed):
        conditions.mark_false(RESOURCES, DEADLINE, "Initial scale was never achieved")
    conditions.follow(ACTIVE, ready)

"""Revision → Deployment and PodAutoscaler, and the revision's conditions from theirs."""

from __future__ import annotations

from collections.abc import Mapping

from qwenkit.sandbox.controllers.knative import names
from qwenkit.sandbox.controllers.knative.conditions import (
    FALSE,
    READY,
    TRUE,
    Conditions,
    ConditionSet,
)
from qwenkit.sandbox.controllers.knative.configuration import is_ready
from qwenkit.sandbox.controllers.knative.images import ImageDigests
from qwenkit.sandbox.controllers.knative.queue_proxy import QUEUE_PROXY
from qwenkit.sandbox.controllers.knative.reconciler import ReconcileError, Shaped
from qwenkit.sandbox.controllers.knative.revision_objects import (
    HASH,
    autoscaler_for,
    deployment_for,
)
from qwenkit.sandbox.controllers.loop import Key, World, key_of, owned_by
from qwenkit.sandbox.kube.objects import Object, at, condition, copied

RESOURCES, HEALTHY, ACTIVE = "ResourcesAvailable", "ContainerHealthy", "Active"
DEADLINE = "ProgressDeadlineExceeded"
_DEPLOYING = "Deploying"


class RevisionController(Shaped):
    """Reconciles Revisions."""

    name = "revision"
    kind = "Revision"
    component = "revision-controller"
    watches = frozenset({"Revision", "Deployment", "PodAutoscaler"})
    rules = ConditionSet((RESOURCES, HEALTHY))

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._digests = ImageDigests(
            world.resolve_image,
            lambda key: world.queue.add(self, key),
            delays=world.delays,
            real=world.clock.real,
        )

    def forget(self, key: Key) -> None:
        """Stop resolving images for a revision that is gone."""
        self._digests.forget(key)

    def close(self) -> None:
        """Stop resolving images."""
        self._digests.close()

    def shape(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Resolve the images, then deploy and scale."""
        was_ready = is_ready(obj)
        if not self._resolved(obj, status, conditions):
            conditions.mark_unknown(RESOURCES, "ResolvingDigests")
            return
        deployment = self._deploy(obj, conditions)
        self._scale(obj, status, conditions, deployment)
        if conditions.status(READY) == TRUE and not was_ready:
            self.recorder.normal(
                obj, "RevisionReady", "Revision becomes ready upon all resources being ready"
            )

    def _resolved(self, obj: Object, status: Object, conditions: Conditions) -> bool:
        containers = obj["spec"]["containers"]
        if len(status.get("containerStatuses", [])) == len(containers):
            return True
        error = self._digests.ask(key_of(obj), [container["image"] for container in containers])
        if error:
            conditions.mark_false(HEALTHY, "ContainerMissing", error)
            raise ReconcileError(error)
        if error is None:
            return False
        status["containerStatuses"] = [{"name": container["name"]} for container in containers]
        return True

    def _deploy(self, obj: Object, conditions: Conditions) -> Object:
        wanted = deployment_for(obj, self.world.config)
        namespace, name = key_of(wanted)
        found = self.store.find("Deployment", namespace, name)
        if found is None:
            conditions.mark_unknown(RESOURCES, _DEPLOYING)
            conditions.mark_unknown(HEALTHY, _DEPLOYING)
            return self.store.create("Deployment", wanted)
        self._check_owner(obj, conditions, found, "Deployment")
        found = self._corrected(found, wanted)
        _reflect_deployment(found, conditions)
        if found["spec"]["replicas"] > 0 and not at(found, "status", "availableReplicas"):
            self._look_at_pods(found, conditions)
        if at(found, "status", "readyReplicas"):
            conditions.mark_true(HEALTHY)
        return found

    def _corrected(self, found: Object, wanted: Object) -> Object:
        """Follow what the revision means now, its scale and what others added apart."""
        if found["metadata"].get("labels", {}).get(HASH) == wanted["metadata"]["labels"][HASH]:
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
        """Say why no pod serves: the first pod stands for all."""
        labels = deployment["spec"]["selector"]["matchLabels"]
        pods = self.store.list("Pod", deployment["metadata"]["namespace"], labels)
        if not pods:
            return
        scheduled = condition(pods[0], "PodScheduled")
        if scheduled.get("status") == FALSE:
            conditions.mark_false(
                RESOURCES, scheduled.get("reason", ""), scheduled.get("message", "")
            )
        timed_out = condition(deployment, "Progressing").get("reason") == DEADLINE
        for container in at(pods[0], "status", "containerStatuses") or []:
            if container["name"] == QUEUE_PROXY:
                continue
            waiting = at(container, "state", "waiting")
            if ended := at(container, "lastState", "terminated"):
                said = ended.get("message", "")
                if not said and ended["exitCode"] == 0:
                    said = "container exited with no error"
                conditions.mark_false(
                    HEALTHY, f"ExitCode{ended['exitCode']}", f"Container failed with: {said}"
                )
                return
            if waiting and timed_out:
                conditions.mark_false(
                    RESOURCES, waiting.get("reason", ""), waiting.get("message", "")
                )
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
            self._check_owner(obj, conditions, found, "PodAutoscaler")
        _reflect_autoscaler(found, status, conditions)
        wanted = autoscaler_for(obj, reachability(obj, conditions, deployment))
        annotations = _without_scaling(found["metadata"].get("annotations", {}))
        annotations |= wanted["metadata"]["annotations"]
        metadata = {**found["metadata"], "annotations": annotations}
        self.store.update("PodAutoscaler", {**found, "metadata": metadata, "spec": wanted["spec"]})

    def _check_owner(self, obj: Object, conditions: Conditions, found: Object, kind: str) -> None:
        if owned_by(found, obj):
            return
        name = found["metadata"]["name"]
        conditions.mark_false(
            RESOURCES, "NotOwned", f'There is an existing {kind} "{name}" that we do not own.'
        )
        raise ReconcileError(f'revision: "{obj["metadata"]["name"]}" does not own {kind}: "{name}"')


def reachability(obj: Object, conditions: Conditions, deployment: Object) -> str:
    """Return whether requests can reach the revision, as the autoscaler is told."""
    broken = FALSE in (conditions.status(RESOURCES), conditions.status(HEALTHY))
    wants_pods = deployment["spec"]["replicas"] > 0
    if broken and wants_pods and not at(deployment, "status", "readyReplicas"):
        return "Unreachable"
    state = obj["metadata"].get("labels", {}).get("serving.knative.dev/routingState")
    return {"active": "Reachable", "reserve": "Unreachable"}.get(state, "")


def _foreign(values: Mapping[str, str]) -> dict[str, str]:
    """Return what others than Knative wrote, such as ``kubectl rollout restart``."""
    return {k: v for k, v in values.items() if k != "app" and "knative.dev/" not in k}


def _without_scaling(annotations: Mapping[str, str]) -> dict[str, str]:
    """Drop the scaling annotations: the revision's are the truth, also about what is gone."""
    prefix = f"{names.AUTOSCALING}/"
    return {key: value for key, value in annotations.items() if not key.startswith(prefix)}


def _reflect_deployment(deployment: Object, conditions: Conditions) -> None:
    progressing = condition(deployment, "Progressing")
    replica_failure = condition(deployment, "ReplicaFailure")
    if replica_failure.get("status") == TRUE:
        conditions.mark_false(
            RESOURCES, replica_failure.get("reason", ""), replica_failure.get("message", "")
        )
    elif progressing.get("status") == TRUE:
        conditions.mark_true(RESOURCES)
    elif progressing.get("status") == FALSE:
        conditions.mark_false(
            RESOURCES, progressing.get("reason", ""), progressing.get("message", "")
        )
    else:
        conditions.mark_unknown(RESOURCES)


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
    reason, message = ready.get("reason", ""), ready.get("message", "")
    if ready["status"] == FALSE:
        if not initialized and not failed and has_service:
            conditions.mark_false(RESOURCES, DEADLINE, "Initial scale was never achieved")
        conditions.mark_false(ACTIVE, reason, message)
    elif ready["status"] == TRUE:
        conditions.mark_true(ACTIVE)
    else:
        conditions.mark_unknown(ACTIVE, reason, message)

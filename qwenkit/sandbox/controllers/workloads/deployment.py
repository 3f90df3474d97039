"""Which ReplicaSets does a Deployment get, and does it make progress?"""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import FALSE, TRUE
from qwenkit.sandbox.controllers.loop import Context, Controller
from qwenkit.sandbox.controllers.object_fields import (
    Key,
    annotations_of,
    child_metadata,
    deleting,
    key_of,
    labels_of,
    set_condition,
)
from qwenkit.sandbox.controllers.workloads.adoption import adopt_and_release, possible_owners
from qwenkit.sandbox.kube.objects import Object, at, condition, copied, timestamp, utc_now
from qwenkit.sandbox.kube.storage.history import WatchEvent

HASH = "pod-template-hash"
BUILT_IN = "sandbox.qwenkit.dev/built-in"  # a component in the sandbox's own process
_REVISION = "deployment.kubernetes.io/revision"
_DESIRED = "deployment.kubernetes.io/desired-replicas"
_MAXIMUM = "deployment.kubernetes.io/max-replicas"
_AVAILABLE = "NewReplicaSetAvailable"
_PROGRESS = ("updatedReplicas", "readyReplicas", "availableReplicas")


class DeploymentController(Controller):
    """Reconciles Deployments with one ReplicaSet for each pod template."""

    name = "deployment"
    kind = "Deployment"
    component = "deployment-controller"
    watches = frozenset({"Deployment", "ReplicaSet"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._progressed: dict[str, float] = {}

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return the keys that a change concerns; of an orphan, those that may adopt it."""
        return super().keys(change) or possible_owners(self.store, self.kind, change.object)

    def reconcile(self, namespace: str, name: str) -> None:
        """Create the ReplicaSet of the present template, scale it, and report."""
        deployment = self.store.find(self.kind, namespace, name)
        if deployment is None or deleting(deployment) or BUILT_IN in labels_of(deployment):
            return
        current, old = self._replica_sets(deployment)
        if current is None:
            current = self._create(deployment, old)
        scaled = self._scale(deployment, current, old)
        replica_sets = [self.store.get("ReplicaSet", *key_of(item)) for item in [current, *old]]
        self._report(deployment, replica_sets, progress=not scaled)
        self._clean_up(deployment, replica_sets[1:])

    def _replica_sets(self, deployment: Object) -> tuple[Object | None, list[Object]]:
        digest = names.template_hash(deployment["spec"]["template"])
        owned = adopt_and_release(self.store, deployment, "ReplicaSet")
        current = [item for item in owned if at(item, "metadata", "labels", HASH) == digest]
        newest = current[0] if current else None
        return newest, [item for item in owned if item not in current]

    def _clean_up(self, deployment: Object, old: list[Object]) -> None:
        """Delete the oldest empty ReplicaSets beyond the history that is kept."""
        empty = [item for item in old if not item["spec"]["replicas"] and not _pods_of(item)]
        empty.sort(key=_revision, reverse=True)
        for item in empty[deployment["spec"]["revisionHistoryLimit"] :]:
            self.store.delete("ReplicaSet", *key_of(item))

    def _create(self, deployment: Object, old: list[Object]) -> Object:
        metadata, spec = deployment["metadata"], deployment["spec"]
        digest = names.template_hash(spec["template"])
        template = copied(spec["template"])
        template.setdefault("metadata", {}).setdefault("labels", {})[HASH] = digest
        revision = str(max(map(_revision, old), default=0) + 1)
        replicas, labels = spec["replicas"], template["metadata"]["labels"]
        annotations = names.without(metadata.get("annotations"), (names.LAST_APPLIED,))
        annotations |= {_REVISION: revision, **_scale_annotations(replicas)}
        name = f"{metadata['name']}-{digest}"
        matched = {**spec["selector"].get("matchLabels", {}), HASH: digest}
        wanted = {
            "metadata": child_metadata(deployment, name, labels, annotations),
            "spec": {
                "replicas": replicas,
                "selector": {**spec["selector"], "matchLabels": matched},
                "template": template,
            },
        }
        created = self.store.create("ReplicaSet", wanted)
        if replicas:
            self._record_scaling(deployment, created, 0, replicas)
        self._report_created(deployment, created, revision)
        return created

    def _report_created(self, deployment: Object, created: Object, revision: str) -> None:
        """Write the new revision, and that progress has begun."""
        name = created["metadata"]["name"]
        metadata = deployment["metadata"]
        metadata["annotations"] = {**annotations_of(deployment), _REVISION: revision}
        status = copied(deployment.get("status") or {})
        message = f'Created new replica set "{name}"'
        _mark(status, "Progressing", TRUE, "NewReplicaSetCreated", message)
        self._progressed[metadata["uid"]] = self.context.clock.now()
        metadata["resourceVersion"] = None
        self.store.update(self.kind, deployment)
        updated = self.store.update_status(self.kind, {**deployment, "status": status})
        deployment.update(updated)

    def _scale(self, deployment: Object, current: Object, old: list[Object]) -> bool:
        """Give the current ReplicaSet the wanted replicas and the old ones none."""
        wanted = deployment["spec"]["replicas"]
        changed = self._set_replicas(deployment, current, wanted)
        ready = at(current, "status", "availableReplicas") or 0
        if ready >= wanted:  # never fewer serving pods than wanted
            for item in old:
                changed |= self._set_replicas(deployment, item, 0)
        return changed

    def _set_replicas(self, deployment: Object, item: Object, wanted: int) -> bool:
        before = item["spec"]["replicas"]
        if before == wanted:
            return False
        item["spec"]["replicas"] = wanted
        item["metadata"].setdefault("annotations", {}).update(_scale_annotations(wanted))
        self.store.update("ReplicaSet", item)
        self._record_scaling(deployment, item, before, wanted)
        return True

    def _record_scaling(self, deployment: Object, item: Object, before: int, wanted: int) -> None:
        direction = "up" if wanted > before else "down"
        name = item["metadata"]["name"]
        message = f"Scaled {direction} replica set {name} from {before} to {wanted}"
        self.recorder.normal(deployment, "ScalingReplicaSet", message)

    def _report(self, deployment: Object, replica_sets: list[Object], *, progress: bool) -> None:
        old: Object = deployment.get("status") or {}
        status = _counted(deployment, replica_sets)
        status["conditions"] = copied(old.get("conditions", []))
        _mark_available(deployment, status)
        if progress:
            self._mark_progress(deployment, replica_sets[0], old, status)
            _move_failure(replica_sets, status)
        if not status["conditions"]:
            del status["conditions"]
        self.write_status(deployment, status)

    def _mark_progress(
        self, deployment: Object, current: Object, old: Object, status: Object
    ) -> None:
        name, uid = current["metadata"]["name"], deployment["metadata"]["uid"]
        wanted, clock = deployment["spec"]["replicas"], self.context.clock
        before = condition({"status": old}, "Progressing")
        counts = {status.get(field, 0) for field in ("replicas", *_PROGRESS)}
        updated = status.get("replicas", 0) == status.get("updatedReplicas", 0)
        if before.get("reason") == _AVAILABLE and updated:
            return
        if not before:
            self._progressed[uid] = clock.now()
        if counts == {wanted}:
            message = f'ReplicaSet "{name}" has successfully progressed.'
            _mark(status, "Progressing", TRUE, _AVAILABLE, message)
        elif any(status.get(field, 0) > old.get(field, 0) for field in _PROGRESS):
            self._progressed[uid] = clock.now()
            message = f'ReplicaSet "{name}" is progressing.'
            _mark(status, "Progressing", TRUE, "ReplicaSetUpdated", message)
        else:
            self._check_deadline(deployment, name, before, status)

    def _check_deadline(
        self, deployment: Object, name: str, before: Object, status: Object
    ) -> None:
        if before.get("status") == FALSE or not before:
            return
        uid, deadline = deployment["metadata"]["uid"], deployment["spec"]["progressDeadlineSeconds"]
        since = self._progressed.get(uid)
        if since is None:
            since = self.context.clock.moment(before["lastUpdateTime"])
            self._progressed[uid] = since
        left = since + deadline - self.context.clock.now()
        if left > 0:
            self.after(key_of(deployment), left)
            return
        message = f'ReplicaSet "{name}" has timed out progressing.'
        _mark(status, "Progressing", FALSE, "ProgressDeadlineExceeded", message)


def _revision(item: Object) -> int:
    return int(annotations_of(item).get(_REVISION, "0"))


def _pods_of(item: Object) -> int:
    return (at(item, "status", "replicas") or 0) + (at(item, "status", "terminatingReplicas") or 0)


def _scale_annotations(replicas: int) -> dict[str, str]:
    # A quarter more may run during a rollout, rounded up.
    return {_DESIRED: str(replicas), _MAXIMUM: str(replicas + -(-replicas // 4))}


def _counted(deployment: Object, replica_sets: list[Object]) -> Object:
    def total(field: str, items: list[Object]) -> int:
        return sum(at(item, "status", field) or 0 for item in items)

    available = total("availableReplicas", replica_sets)
    asked = sum(item["spec"]["replicas"] for item in replica_sets)
    counts = {
        "replicas": total("replicas", replica_sets),
        "updatedReplicas": total("replicas", replica_sets[:1]),
        "readyReplicas": total("readyReplicas", replica_sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, asked - available),
    }
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        **{field: count for field, count in counts.items() if count},
        "terminatingReplicas": total("terminatingReplicas", replica_sets),
    }


def _mark_available(deployment: Object, status: Object) -> None:
    wanted = deployment["spec"]["replicas"]
    allowed = at(deployment, "spec", "strategy", "rollingUpdate", "maxUnavailable") or 0
    if isinstance(allowed, str):
        allowed = wanted * int(allowed.rstrip("%")) // 100
    if status.get("availableReplicas", 0) >= wanted - allowed:
        message = "Deployment has minimum availability."
        _mark(status, "Available", TRUE, "MinimumReplicasAvailable", message)
    else:
        message = "Deployment does not have minimum availability."
        _mark(status, "Available", FALSE, "MinimumReplicasUnavailable", message)


def _move_failure(replica_sets: list[Object], status: Object) -> None:
    """Show why a ReplicaSet cannot create its pods, the current one's reason first."""
    found = filter(None, (condition(item, "ReplicaFailure") for item in replica_sets))
    kept = [one for one in status["conditions"] if one["type"] != "ReplicaFailure"]
    failures = [{**one, "lastUpdateTime": one["lastTransitionTime"]} for one in found]
    status["conditions"] = [*kept, *failures[:1]]


def _mark(status: Object, kind: str, value: str, reason: str, message: str) -> None:
    """Set a Deployment condition; one that does not change keeps its times."""
    old = condition({"status": status}, kind)
    if (old.get("status"), old.get("reason"), old.get("message")) == (value, reason, message):
        return
    now = timestamp(utc_now())
    since = old["lastTransitionTime"] if old.get("status") == value else now
    new = {
        "type": kind,
        "status": value,
        "lastUpdateTime": now,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
    set_condition(status, new)

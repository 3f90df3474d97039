"""Which pods does a ReplicaSet create, and which does it delete first?"""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.conditions import TRUE
from qwenkit.sandbox.controllers.object_fields import Key, deleting
from qwenkit.sandbox.controllers.workloads.adoption import adopt_and_release, possible_owners
from qwenkit.sandbox.controllers.workloads.pods import (
    PodController,
    is_active,
    is_ready_pod,
    terminating,
)
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object, at, condition, timestamp, utc_now
from qwenkit.sandbox.kube.storage.history import WatchEvent


class ReplicaSetController(PodController):
    """Keeps the wanted number of pods."""

    name = "replica-set"
    kind = "ReplicaSet"
    component = "replicaset-controller"
    watches = frozenset({"ReplicaSet", "Pod"})

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return the keys that a change concerns; of an orphaned pod, those that may adopt it."""
        return super().keys(change) or possible_owners(self.store, self.kind, change.object)

    def reconcile(self, namespace: str, name: str) -> None:
        """Create or delete pods, then count them."""
        replica_set = self.store.find(self.kind, namespace, name)
        if replica_set is None:
            return
        before = adopt_and_release(self.store, replica_set, "Pod")
        active = [pod for pod in before if is_active(pod)]
        refused: ApiError | None = None
        if not deleting(replica_set):
            missing = replica_set["spec"]["replicas"] - len(active)
            try:
                for _ in range(missing):
                    self.create_pod(replica_set)
            except ApiError as error:
                refused = error
            for pod in _deleted_first(active)[: max(0, -missing)]:
                self.delete_pod(replica_set, pod)
        # The pods as they were before: the changes made here bring the next round.
        ready = sum(map(is_ready_pod, active))
        counts = {
            "fullyLabeledReplicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        status = {
            "replicas": len(active),
            **{field: count for field, count in counts.items() if count},
            "terminatingReplicas": terminating(before),
            "observedGeneration": replica_set["metadata"]["generation"],
        }
        if refused:
            status["conditions"] = [_failure(replica_set, refused)]
        self.write_status(replica_set, status)
        if refused:
            raise refused  # and so try again, later each time


def _failure(replica_set: Object, refused: ApiError) -> Object:
    """Return the condition ReplicaFailure: of several refusals in a row, the first."""
    new = {
        "type": "ReplicaFailure",
        "status": TRUE,
        "lastTransitionTime": timestamp(utc_now()),
        "reason": "FailedCreate",
        "message": refused.message,
    }
    return condition(replica_set, "ReplicaFailure") or new


def _deleted_first(pods: list[Object]) -> list[Object]:
    """Return pods from the first to delete to the last: of ready ones the youngest goes first."""
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}

    def rank(pod: Object) -> tuple[bool, int, bool]:
        phase = phases.get(at(pod, "status", "phase") or "", 1)
        return bool(at(pod, "spec", "nodeName")), phase, is_ready_pod(pod)

    def created(pod: Object) -> str:
        return str(pod["metadata"]["creationTimestamp"])

    return sorted(sorted(pods, key=created, reverse=True), key=rank)

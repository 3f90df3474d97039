"""On which node does a pod run, or why on none?"""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from collections.abc import Iterable
from fractions import Fraction

from qwenkit.admission.schema import quantities
from qwenkit.sandbox.controllers import events
from qwenkit.sandbox.controllers.conditions import FALSE, TRUE
from qwenkit.sandbox.controllers.loop import Controller
from qwenkit.sandbox.controllers.object_fields import (
    Key,
    annotations_of,
    deleting,
    key_of,
    labels_of,
    set_condition,
)
from qwenkit.sandbox.controllers.workloads.pods import finished, on_node
from qwenkit.sandbox.controllers.workloads.volume_match import claim_class
from qwenkit.sandbox.controllers.workloads.volume_provisioning import (
    SELECTED_NODE,
    waits_for_consumer,
)
from qwenkit.sandbox.kube.objects import Object, at, condition, timestamp, utc_now
from qwenkit.sandbox.kube.storage.history import WatchEvent

SCHEDULER = "default-scheduler"
_HELPLESS = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


class Scheduler(Controller):
    """Binds pods to nodes by volumes, selectors, taints and resources."""

    name = "scheduler"
    kind = "Pod"
    watches = frozenset({"Pod", "Node", "PersistentVolumeClaim", "PersistentVolume"})

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return every waiting pod after a change that may free a resource or bind a volume."""
        if change.kind == "Pod" and not _frees(change):
            return [key_of(change.object)]
        return [key_of(pod) for pod in self.store.list("Pod") if _waits(pod)]

    def reconcile(self, namespace: str, name: str) -> None:
        """Bind the pod to a node, or report why none fits."""
        pod = self.store.find("Pod", namespace, name)
        if pod is None or not _waits(pod):
            return
        problem = self._volume_problem(pod)
        if problem:
            # The scheduler has looked at no node: its message ends in the odd "not found".
            self._refuse(pod, f"{self._count(0)} nodes are available: {problem}. not found")
            return
        nodes = self.store.list("Node")
        if not nodes:
            self._refuse(pod, "no nodes available to schedule pods")
            return
        obstacles = {key_of(node)[1]: self._obstacles(pod, node) for node in nodes}
        fitting = [name for name, found in obstacles.items() if not found]
        if fitting:
            node = min(fitting, key=self._load)
            if waiting := self._unbound(pod):
                for claim in waiting:
                    self._select(claim, node)
                return  # until their volumes are there
            self._bind(pod, node)
        else:
            self._refuse(pod, self._explain(obstacles))

    def _volume_problem(self, pod: Object) -> str:
        namespace = pod["metadata"]["namespace"]
        for volume in at(pod, "spec", "volumes") or []:
            claim = at(volume, "persistentVolumeClaim", "claimName")
            if not claim:
                continue
            found = self.store.find("PersistentVolumeClaim", namespace, claim)
            if found is None:
                return f'persistentvolumeclaim "{claim}" not found'
            if deleting(found):
                return f'persistentvolumeclaim "{claim}" is being deleted'
            bound = at(found, "spec", "volumeName")
            if at(found, "status", "phase") == "Lost":
                return (
                    f'persistentvolumeclaim "{claim}" bound to non-existent '
                    f'persistentvolume "{bound}"'
                )
            if at(found, "status", "phase") != "Bound" and not self._waits_for_pod(found):
                return "pod has unbound immediate PersistentVolumeClaims"
        return ""

    def _waits_for_pod(self, claim: Object) -> bool:
        return waits_for_consumer(self.store.find("StorageClass", None, claim_class(claim)) or {})

    def _unbound(self, pod: Object) -> list[Object]:
        """Return the claims that wait for this pod's node."""
        namespace = pod["metadata"]["namespace"]
        volumes = at(pod, "spec", "volumes") or []
        names = (at(volume, "persistentVolumeClaim", "claimName") for volume in volumes)
        claims = [self.store.get("PersistentVolumeClaim", namespace, one) for one in names if one]
        return [claim for claim in claims if at(claim, "status", "phase") != "Bound"]

    def _select(self, claim: Object, node: str) -> None:
        if SELECTED_NODE not in annotations_of(claim):
            claim["metadata"].setdefault("annotations", {})[SELECTED_NODE] = node
            self.store.update("PersistentVolumeClaim", claim)

    def _obstacles(self, pod: Object, node: Object) -> dict[str, bool]:
        """Return why the pod does not fit, each with whether preemption of pods would help."""
        if at(node, "spec", "unschedulable"):
            return {"node(s) were unschedulable": False}
        for taint in at(node, "spec", "taints") or []:
            if taint["effect"] != "PreferNoSchedule" and not _tolerates(pod, taint):
                return {"node(s) had untolerated taint(s)": False}
        selector = at(pod, "spec", "nodeSelector") or {}
        if not selector.items() <= labels_of(node).items():
            return {"node(s) didn't match Pod's node affinity/selector": False}
        return self._shortages(pod, node)

    def _shortages(self, pod: Object, node: Object) -> dict[str, bool]:
        whole = {
            resource: quantities.parse(text)
            for resource, text in (at(node, "status", "allocatable") or {}).items()
        }
        present = self._pods_on(node["metadata"]["name"])
        taken = _requests(*present)
        shortages = {}
        if len(present) + 1 > whole.get("pods", 110):
            shortages["Too many pods"] = True
        for resource, asked in _requests(pod).items():
            capacity = whole.get(resource, Fraction())
            if asked and asked > capacity - taken[resource]:
                shortages[f"Insufficient {resource}"] = asked <= capacity
        return shortages

    def _pods_on(self, node: str) -> list[Object]:
        pods = self.store.list("Pod")
        return [pod for pod in pods if on_node(pod) and pod["spec"]["nodeName"] == node]

    def _load(self, node: str) -> int:
        return len(self._pods_on(node))

    def _count(self, available: int) -> str:
        return f"{available}/{len(self.store.list('Node'))}"

    def _explain(self, obstacles: dict[str, dict[str, bool]]) -> str:
        reasons = Counter(reason for found in obstacles.values() for reason in found)
        preemption = Counter(
            _NO_VICTIMS if all(found.values()) else _HELPLESS for found in obstacles.values()
        )
        zero = f"{self._count(0)} nodes are available"
        return (
            f"{zero}: {_listed(reasons)}. no new claims to deallocate, "
            f"preemption: {zero}: {_listed(preemption)}."
        )

    def _bind(self, pod: Object, node: str) -> None:
        pod["spec"]["nodeName"] = node
        pod["metadata"]["resourceVersion"] = None
        self._mark(pod, {"status": TRUE})
        bound = self.store.update("Pod", pod)
        message = f"Successfully assigned {'/'.join(key_of(pod))} to {node}"
        self._event(bound, events.NORMAL, "Scheduled", "Binding", message)

    def _refuse(self, pod: Object, message: str) -> None:
        if condition(pod, "PodScheduled").get("message") == message:
            return
        seen = {"observedGeneration": pod["metadata"].get("generation", 1)}
        answer = {"status": FALSE, "reason": "Unschedulable", "message": message}
        self._mark(pod, {**seen, **answer})
        self._event(pod, events.WARNING, "FailedScheduling", "Scheduling", message)

    def _mark(self, pod: Object, values: Object) -> None:
        times = {"lastProbeTime": None, "lastTransitionTime": timestamp(utc_now())}
        status = {**(pod.get("status") or {})}
        set_condition(status, {"type": "PodScheduled", **values, **times})
        self.write_status(pod, status)

    def _event(self, pod: Object, kind: str, reason: str, action: str, message: str) -> None:
        """Record an event in the newer API's form, as the scheduler does."""
        event = events.event_about(pod, kind, reason, message) | {
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "eventTime": utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "action": action,
            "reportingComponent": SCHEDULER,
            "reportingInstance": f"{SCHEDULER}-{socket.gethostname()}",
        }
        events.create(self.store, event)


def _requests(*pods: Object) -> dict[str, Fraction]:
    """Return what the containers of pods request together, by resource."""
    total: dict[str, Fraction] = defaultdict(Fraction)
    for pod in pods:
        for container in at(pod, "spec", "containers") or []:
            resources = container.get("resources") or {}
            asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
            for resource, amount in asked.items():
                total[resource] += quantities.parse(amount)
    return total


def _waits(pod: Object) -> bool:
    return not at(pod, "spec", "nodeName") and not deleting(pod)


def _frees(change: WatchEvent) -> bool:
    """Return whether a change of a pod frees resources."""
    gone = change.type == "DELETED" or finished(change.object)
    return gone and bool(at(change.object, "spec", "nodeName"))


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))


def _tolerates(pod: Object, taint: Object) -> bool:
    for toleration in at(pod, "spec", "tolerations") or []:
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        if toleration.get("operator") == "Exists":
            if toleration.get("key") in (None, "", taint["key"]):
                return True
        elif toleration.get("key") == taint["key"] and (
            toleration.get("value", "") == taint.get("value", "")
        ):
            return True
    return False

"""Faults of the cluster: pods that die, GPUs that are lost, volumes that are slow to mount."""

from __future__ import annotations

from qwenkit.errors import InvalidValue, NotFound
from qwenkit.sandbox.faults.catalogue import FaultSpec
from qwenkit.sandbox.faults.injector import Budget
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet.node import Node


class ClusterFaults:
    """The faults of the node."""

    def __init__(self, store: ObjectStore, node: Node) -> None:
        self._store, self._node = store, node
        self._slow: list[tuple[Budget, float]] = []
        self._lost: list[tuple[Budget, int]] = []
        self._late: list[tuple[Budget, float, str]] = []
        node.mount_delay, node.answer_delay = self._mount_delay, self._answer_delay
        self.update_gpus()

    def inject(self, spec: FaultSpec, budget: Budget) -> str:
        """Inject a fault; return what it affects.

        Raises:
            NotFound: no such pod runs.
            InvalidValue: more GPUs than the node has.
        """
        if spec.where == "gpu" and spec.count > self._node.gpus:
            raise InvalidValue("--count", spec.count, f"the node has {self._node.gpus} GPUs")
        if spec.where == "mount":
            self._slow.append((budget, spec.seconds))
            return "new pods"
        if spec.what == "slow":
            self._late.append((budget, spec.seconds, spec.name))
            return f"pods {spec.name}*"
        budget.use()
        if spec.where == "gpu":
            self._lost.append((budget, spec.count))
            self.update_gpus()
            return f"{self._node.name}: {spec.count} of {self._node.gpus} GPUs"
        pod = self._find(spec)["metadata"]
        if spec.what == "oom":
            self._node.out_of_memory(pod["uid"])
        else:
            self._store.delete("Pod", pod["namespace"], pod["name"], grace_seconds=0)
        return f"pod {pod['namespace']}/{pod['name']}"

    def update_gpus(self) -> None:
        """Give back the GPUs whose loss is over."""
        self._node.lose_gpus(sum(count for budget, count in self._lost if not budget.spent))

    def _mount_delay(self) -> float:
        for budget, seconds in self._slow:
            if not budget.spent:
                budget.use()
                return seconds
        return 0.0

    def _answer_delay(self, pod: str) -> float:
        hit = [(budget, s) for budget, s, name in self._late if pod.startswith(name)]
        active = [(budget, s) for budget, s in hit if not budget.spent]
        for budget, _ in active:
            budget.use()
        return max((seconds for _, seconds in active), default=0.0)

    def _find(self, spec: FaultSpec) -> Object:
        """Return the youngest pod whose name is, or begins with, the given one; a ready one first.

        It is of the newest revision; an older pod may be about to end anyway.
        """
        found = [
            pod
            for pod in self._store.list("Pod")
            if pod["metadata"]["namespace"] == spec.namespace
            and at(pod, "status", "phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
            and pod["metadata"]["name"].startswith(spec.name)
        ]
        if not found:
            raise NotFound(
                f"no pod {spec.name}{'… ' if spec.name else ''}runs in namespace {spec.namespace}",
                "the fault needs a pod that runs",
                "kubectl get pods; a service that scaled to zero has none: send it a request",
            )
        return max(
            found,
            key=lambda pod: (
                condition(pod, "Ready").get("status") == "True",
                str(pod["metadata"]["creationTimestamp"]),
            ),
        )

"""Faults of the cluster: pods that die, GPUs that are lost, volumes that are slow to mount."""

from __future__ import annotations

from qwenkit.errors import InvalidValue, NotFound
from qwenkit.sandbox.faults.catalogue import Order
from qwenkit.sandbox.faults.injector import Allowance
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.kube.store import ObjectStore
from qwenkit.sandbox.kubelet.node import Node


class ClusterFaults:
    """What can go wrong on the node."""

    def __init__(self, store: ObjectStore, node: Node) -> None:
        self._store, self._node = store, node
        self._slow: list[tuple[Allowance, float]] = []
        self._lost: list[tuple[Allowance, int]] = []
        node.mount_delay = self._mount_delay
        self.settle()

    def strike(self, order: Order, allowance: Allowance) -> str:
        """Make it happen; return what it met.

        Raises:
            NotFound: no such pod runs.
            InvalidValue: more GPUs than the node has.
        """
        if order.where == "gpu" and order.count > self._node.gpus:
            raise InvalidValue("--count", order.count, f"the node has {self._node.gpus} GPUs")
        if order.where == "mount":
            self._slow.append((allowance, order.seconds))
            return "new pods"
        allowance.use()
        if order.where == "gpu":
            self._lost.append((allowance, order.count))
            self.settle()
            return f"{self._node.name}: {order.count} of {self._node.gpus} GPUs"
        pod = self._find(order)["metadata"]
        if order.what == "oom":
            self._node.out_of_memory(pod["uid"])
        else:
            self._store.delete("Pod", pod["namespace"], pod["name"], grace_seconds=0)
        return f"pod {pod['namespace']}/{pod['name']}"

    def settle(self) -> None:
        """Give back the GPUs whose time is over."""
        self._node.lose_gpus(sum(count for allowance, count in self._lost if not allowance.over))

    def _mount_delay(self) -> float:
        for allowance, seconds in self._slow:
            if not allowance.over:
                allowance.use()
                return seconds
        return 0.0

    def _find(self, order: Order) -> Object:
        """Return the youngest pod of that name, or whose name begins so; a ready one if any is.

        That is of the newest revision; an older pod may be about to go anyway.
        """
        found = [
            pod
            for pod in self._store.list("Pod")
            if pod["metadata"]["namespace"] == order.namespace
            and at(pod, "status", "phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
            and pod["metadata"]["name"].startswith(order.name)
        ]
        if not found:
            raise NotFound(
                f"no pod {order.name}{'… ' if order.name else ''}runs in namespace "
                f"{order.namespace}",
                "",
                "kubectl get pods; a service that scaled to zero has none: send it a request",
            )
        return max(
            found,
            key=lambda pod: (
                condition(pod, "Ready").get("status") == "True",
                str(pod["metadata"]["creationTimestamp"]),
            ),
        )

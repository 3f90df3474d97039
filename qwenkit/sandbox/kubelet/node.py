"""Which pods run on the node, and with how many of its modelled GPUs?

The containers' command lines are read (``kubelet/program.py``), and hardly ever executed. The
sandbox's ``README.md`` lists what the node does not do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count

from qwenkit.capacity.calibration.cards import gpu_named
from qwenkit.errors import NotFound
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.events import EventRecorder
from qwenkit.sandbox.controllers.object_fields import deleting, key_of
from qwenkit.sandbox.controllers.seed import GPU_RESOURCE
from qwenkit.sandbox.controllers.workloads.pods import finished
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.container import Container
from qwenkit.sandbox.kubelet.images import resolve_image
from qwenkit.sandbox.kubelet.pod import PodWorker
from qwenkit.sandbox.kubelet.real_vllm import Vllm
from qwenkit.sandbox.kubelet.serving import Machine
from qwenkit.sandbox.kubelet.timing import NodeTiming
from qwenkit.sandbox.kubelet.volumes import Backing

__all__ = ["Node", "NodeTiming", "resolve_image"]

log = logging.getLogger("qwenkit.sandbox.node")


class Node:
    """One node of the sandbox's cluster.

    Args:
        store: the cluster's objects.
        name: its name; it runs the pods with this ``spec.nodeName``.
        gpu: its GPU model, a name of ``qwenkit.capacity.gpu``, or a measured card.
        gpus: how many GPUs it has.
        time_scale: how many times faster than real time its time runs; ``clock`` can change it.
        timing: how long its steps take by that clock.
        vllm: serves in place of the modelled engine.
        programs: the folders of the programs that really run; None if none may run.
        backing: what is behind the volumes that need no keys.

    Raises:
        InvalidValue: the GPU model is not known.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        name: str,
        gpu: str,
        gpus: int,
        time_scale: float,
        timing: NodeTiming | None = None,
        vllm: Vllm | None = None,
        programs: Programs | None = None,
        backing: Backing | None = None,
    ) -> None:
        self._backing = backing
        self.name, self.gpus = name, gpus
        self.mount_delay: Callable[[], float] = lambda: 0.0
        self.answer_delay: Callable[[str], float] = lambda pod: 0.0
        self._store, self._gpu, self._lost = store, gpu_named(gpu), 0
        self.clock, self._vllm, self._programs = Clock(time_scale), vllm, programs
        self._timing = replace(timing or NodeTiming(), clock=self.clock)
        self._recorder = EventRecorder(store, "kubelet", host=name)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[PodWorker, asyncio.Task[None]] = {}
        self._pulled: set[str] = set()
        self._addresses = count(2)

    async def run(self) -> None:
        """Run the node's pods until cancelled."""
        changes = self._store.subscribe({"Pod"})
        try:
            for pod in self._store.list("Pod"):
                self._pod(pod)
            async for change in changes:
                if change.type == "DELETED":
                    self._gone(change.object["metadata"]["uid"])
                else:
                    self._pod(change.object)
        finally:
            changes.close()
            tasks = list(self._tasks.values())
            for task in tasks:
                # A second cancellation would interrupt the clean-up of the first.
                if not task.cancelling():
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def answer_clock(self) -> float:
        """How many times faster its pods answer than the GPU that they model."""
        return 1.0 if self._vllm else self.clock.scale  # a real vLLM has no other clock

    def address(self, pod_uid: str) -> str | None:
        """Return where that pod's container listens, ``http://127.0.0.1:PORT``, or None."""
        worker = self._workers.get(pod_uid)
        return worker.address() if worker else None

    def listener(self, pod_uid: str, port: int) -> str | None:
        """Return the real address behind a port of that pod, or None if nothing listens there."""
        worker = self._workers.get(pod_uid)
        return worker.listener(port) if worker else None

    async def answers(self, pod_uid: str) -> bool:
        """Return whether the pod passes the activator's probe: it listens and does not drain."""
        worker = self._workers.get(pod_uid)
        return worker is not None and await worker.answers()

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        timestamps: bool = False,
    ) -> str:
        """Return a container's log since its last start, or of the run before that.

        Raises:
            NotFound: no such pod runs here, or it has no such container.
        """
        found = self._container(namespace, pod, container)
        log = found.previous_log if previous else found.log
        return log.text(timestamps=timestamps)

    def writes(self, namespace: str, pod: str, container: str) -> bool:
        """Return whether a container runs, so that its log may grow.

        Raises:
            NotFound: as for ``logs``.
        """
        return self._container(namespace, pod, container).running

    def _container(self, namespace: str, pod: str, container: str) -> Container:
        for worker in self._workers.values():
            if key_of(worker.pod) == (namespace, pod):
                for one in worker.containers:
                    if one.name == container:
                        return one
        raise NotFound(
            f"container {container} of pod {namespace}/{pod} has no log",
            f"node {self.name} runs no such container",
            "list the pods and their containers",
        )

    def out_of_memory(self, pod_uid: str) -> None:
        """Kill the pod's container as if it had used too much memory."""
        self._workers[pod_uid].out_of_memory()

    def lose_gpus(self, count: int) -> None:
        """Lose a number of GPUs, idle ones first and then the youngest pods'; 0 gives all back.

        A device plugin reports them unhealthy: the node keeps the capacity, but cannot allocate
        it.
        """
        self._lost = min(count, self.gpus)
        left = self.gpus - self._lost
        node = self._store.find("Node", None, self.name)
        if node is not None and self.gpus:
            node["status"]["allocatable"][GPU_RESOURCE] = str(left)
            self._store.update_status("Node", node)
        for worker in self._workers.values():
            left -= worker.gpus
            worker.lose_gpu(left < 0)

    def _pod(self, pod: Object) -> None:
        """Follow a change of a pod; one that cannot be run must not stop the others."""
        try:
            self._follow(pod)
        except Exception:
            log.exception("pod %s", pod["metadata"]["name"])

    def _follow(self, pod: Object) -> None:
        if at(pod, "spec", "nodeName") != self.name:
            return
        uid = pod["metadata"]["uid"]
        if uid not in self._workers and not finished(pod):
            self._start(uid, pod)
        if deleting(pod) and uid in self._workers:
            self._workers[uid].terminate(pod)

    def _start(self, uid: str, pod: Object) -> None:
        worker = PodWorker(
            self._store,
            pod,
            recorder=self._recorder,
            timing=self._timing,
            pulled=self._pulled,
            machine=self._machine,
            mount_delay=lambda: self.mount_delay(),
            pod_ip=f"10.244.0.{next(self._addresses)}",
            programs=self._programs,
            backing=self._backing,
        )
        if pod["spec"].get("initContainers"):
            worker.refuse("NotInSandbox", "the sandbox's node runs no init containers")
            return
        free = self.gpus - self._lost - sum(one.gpus for one in self._workers.values())
        if worker.gpus > free:
            worker.refuse(
                "UnexpectedAdmissionError",
                "Allocate failed due to requested number of devices unavailable for "
                f"{GPU_RESOURCE}. Requested: {worker.gpus}, Available: {free}, which is unexpected",
            )
            return
        self._workers[uid] = worker
        task = self._tasks[worker] = asyncio.create_task(worker.run())
        task.add_done_callback(_report)
        task.add_done_callback(lambda _: self._tasks.pop(worker))

    def _gone(self, uid: str) -> None:
        worker = self._workers.pop(uid, None)
        if worker in self._tasks:
            self._tasks[worker].cancel()

    def _machine(self, gpus: int) -> Machine:
        return Machine(self._gpu, gpus, self._timing, self._vllm)


def _report(task: asyncio.Task[None]) -> None:
    """Log the error that ended a pod's task."""
    with suppress(asyncio.CancelledError):
        if error := task.exception():
            log.error("a pod's worker failed", exc_info=error)

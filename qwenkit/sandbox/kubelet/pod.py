"""How does a pod live on the node: mount, start, probe, drain, stop?"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from qwenkit.errors import NotReady
from qwenkit.sandbox.controllers.clock import loop_time
from qwenkit.sandbox.controllers.events import EventRecorder
from qwenkit.sandbox.controllers.knative.queue_proxy import QUEUE_PROXY
from qwenkit.sandbox.controllers.seed import GPU_RESOURCE
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object, at, timestamp, utc_now
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet import environment, probes, volumes
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.container import Container
from qwenkit.sandbox.kubelet.prober import Prober
from qwenkit.sandbox.kubelet.serving import Machine
from qwenkit.sandbox.kubelet.status import PodFacts, pod_status
from qwenkit.sandbox.kubelet.timing import NodeTiming

HOST_IP = "10.10.0.1"
_POLL_S = 0.02
_OOM = 137


class PodWorker:
    """Runs one pod. ``run`` ends when the pod is gone from the store."""

    def __init__(
        self,
        store: ObjectStore,
        pod: Object,
        *,
        recorder: EventRecorder,
        timing: NodeTiming,
        pulled: set[str],
        machine: Callable[[int], Machine],
        mount_delay: Callable[[], float],
        pod_ip: str,
        programs: Programs | None,
        backing: volumes.Backing | None,
    ) -> None:
        self._backing = backing
        self.timing, self.pulled, self.programs = timing, pulled, programs
        self.pod = pod
        self.draining = False
        self._store, self._recorder, self._pod_ip = store, recorder, pod_ip
        self._mount_delay = mount_delay
        self._start_time = timestamp(utc_now())
        self._sandbox_ready = self._stopped = False
        self._deleted = asyncio.Event()
        # When requests must have ended, in real time as their timeouts are; when the kill comes.
        self._grace_ends = self._killed_at = math.inf
        self._probes: list[asyncio.Task[None]] = []
        metadata, spec = pod["metadata"], pod["spec"]
        # The name of a pod in the kubelet's messages.
        name = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        self.containers = [
            Container(
                one,
                self,
                pod_name=name,
                restart_policy=spec.get("restartPolicy", "Always"),
                machine=machine(_gpus(one)),
            )
            for one in spec["containers"]
        ]

    # For the node

    @property
    def gpus(self) -> int:
        """Return how many GPUs the pod holds now."""
        return 0 if self._stopped else sum(_gpus(one) for one in self.pod["spec"]["containers"])

    def listener(self, port: int) -> str | None:
        """Return the real address behind a port of the pod, or None."""
        for one in self.containers:
            if one.server is not None and one.server.port == port:
                return one.server.url
        return None

    def address(self) -> str | None:
        """Return the real address behind the port that the pod's container serves on."""
        port = self._user_port()
        if port is not None:
            return self.listener(port)
        return next((one.server.url for one in self.containers if one.server), None)

    async def answers(self) -> bool:
        """Return whether the pod passes the activator's probe."""
        proxy = self._queue_proxy()
        if proxy is None or not proxy.running:
            return proxy is None and not self.draining and self.address() is not None
        user = next(one for one in self.containers if one is not proxy)
        return await probes.ready(
            proxy.state.spec,
            user.state.spec,
            self.listener,
            self._pod_ip,
            draining=self.draining,
        )

    def out_of_memory(self) -> None:
        """Kill the user's container, as the kernel does when memory runs out."""
        for one in self.containers:
            if one.name != QUEUE_PROXY:
                one.crash(_OOM, reason="OOMKilled")

    def lose_gpu(self, lost: bool) -> None:
        """Lose the pod's GPUs, or get them back."""
        for one in self.containers:
            one.lose_gpu(lost)

    def refuse(self, reason: str, message: str) -> None:
        """Fail the pod before any of its containers runs."""
        self._stopped = True
        self.event("", "Warning", reason, message)
        if (pod := self._current()) is not None:
            pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}
            self._store.update_status("Pod", pod)

    def terminate(self, pod: Object) -> None:
        """Begin to stop the pod, which is being deleted; again if its grace is shortened."""
        self.pod = pod
        grace, now = pod["metadata"].get("deletionGracePeriodSeconds", 30), loop_time()
        self._grace_ends = min(self._grace_ends, now + grace)
        self._killed_at = min(self._killed_at, self.timing.clock.now() + grace)
        self._deleted.set()

    # For the containers

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables of a container; see ``environment.resolve``."""
        return environment.resolve(self._store, self.pod["metadata"], container)

    @property
    def account(self) -> tuple[str, str]:
        """Namespace and name of the pod's ServiceAccount."""
        name = self.pod["spec"].get("serviceAccountName") or "default"
        return self.pod["metadata"]["namespace"], name

    def service_host(self, namespace: str, name: str) -> str:
        """Return the external host of a Knative Service; empty if it has none."""
        found = self._store.find("KnativeService", namespace, name)
        return urlsplit(at(found or {}, "status", "url") or "").netloc

    def event(self, container: str, kind: str, reason: str, message: str) -> None:
        """Record an event about a container, or about the pod if the name is empty."""
        field = f"spec.containers{{{container}}}" if container else ""
        self._recorder.record(self.pod, kind, reason, message, field)

    def publish(self) -> None:
        """Write the pod's status if it changed."""
        pod = self._current()
        if pod is None:
            return
        facts = PodFacts(
            generation=pod["metadata"].get("generation", 1),
            host_ip=HOST_IP,
            # The API has it when a container runs, as recorded.
            pod_ip=self._pod_ip if any(one.state.container_id for one in self.containers) else None,
            start_time=self._start_time,
            sandbox_ready=self._sandbox_ready,
            containers=[one.state for one in self.containers],
            stopped=self._stopped,
        )
        pod["status"] = pod_status(pod["status"], facts, timestamp(utc_now()))
        self._store.update_status("Pod", pod)

    def ended(self) -> None:
        """Finish the pod when its last container has ended for good."""
        self._stopped = all("terminated" in one.state.state for one in self.containers)
        self.publish()

    # Life

    async def run(self) -> None:
        """Run the pod until it is gone."""
        begin = asyncio.create_task(self._begin())
        try:
            await self._deleted.wait()
            begin.cancel()
            await asyncio.gather(begin, return_exceptions=True)
            await self._end()
        finally:
            begin.cancel()
            await self.stop()

    async def stop(self) -> None:
        """Stop all processes at once."""
        for task in self._probes:
            task.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)
        await asyncio.gather(*(one.stop() for one in self.containers))

    async def _begin(self) -> None:
        await self.timing.clock.sleep(self.timing.accept_s)
        self.publish()
        await self.timing.clock.sleep(self.timing.mount_s)
        mounted = await self._mount()
        await self.timing.clock.sleep(self.timing.sandbox_s)
        self._sandbox_ready = True
        self.publish()
        for one in self.containers:
            one.mounts = volumes.mounts(one.state.spec, mounted)
            one.on_start = partial(self._started, one)
            await one.begin()
        self.publish()

    async def _mount(self) -> dict[str, Any]:
        wait, clock = self.timing.mount_backoff_s, self.timing.clock
        ready_at, timeout_s = clock.now() + self._mount_delay(), self.timing.mount_timeout_s
        while True:
            try:
                return await volumes.mount(
                    self._store,
                    self.pod,
                    clock,
                    ready_at=ready_at,
                    timeout_s=timeout_s,
                    backing=self._backing,
                )
            except NotReady as error:
                self.event("", "Warning", "FailedMount", error.what)
            await clock.sleep(wait)
            wait = min(wait * 2, self.timing.mount_backoff_max_s)

    async def _end(self) -> None:
        running = [one for one in self.containers if one.running]
        for one in running:
            self.event(one.name, "Normal", "Killing", f"Stopping container {one.name}")
        self.draining = True
        if running:
            self.publish()
            await self._drain()
            await self._sigterm(running)
        await self.stop()
        if running:
            self._stopped = True
            self.publish()
            await self.timing.clock.sleep(self.timing.remove_s)
        metadata = self.pod["metadata"]
        try:
            self._store.delete("Pod", metadata["namespace"], metadata["name"], grace_seconds=0)
        except ApiError:
            # Somebody has deleted it by force meanwhile.
            return

    async def _drain(self) -> None:
        """Wait until no request is left, and none has come for the queue-proxy's drain time."""
        begun = loop_time()
        drain_s = self.timing.drain_s if self._queue_proxy() else 0.0
        while (now := loop_time()) < self._grace_ends:
            busy = [await one.server.last_busy() for one in self.containers if one.server]
            if now >= max([begun, *busy]) + self.timing.clock.real(drain_s):
                return
            await asyncio.sleep(_POLL_S)

    async def _sigterm(self, running: Sequence[Container]) -> None:
        """Send SIGTERM once; kill at the end of the grace period what has ignored it."""
        deaf = [one for one in running if not one.sigterm()]
        await asyncio.gather(*(one.stop() for one in running if one not in deaf))
        while any(one.running for one in deaf):
            if self.timing.clock.now() >= self._killed_at:
                break
            await asyncio.sleep(_POLL_S)
        await asyncio.gather(*(one.stop(killed=True) for one in deaf))

    # Probes

    def _started(self, container: Container) -> None:
        """Begin to probe a container that has just started."""
        self._probes = [task for task in self._probes if not task.done()]
        self._probes += Prober(container, self, self._probe_once).start()

    async def _probe_once(self, container: Container, probe: Object) -> str | None:
        if probes.is_queue_proxy(probe):
            return None if await self.answers() else "HTTP probe failed with statuscode: 503"
        return await probes.check(probe, container.state.spec, self.listener, self._pod_ip)

    def _current(self) -> Object | None:
        """Return the pod as it is now, or None if it is gone or its name is another pod's."""
        metadata = self.pod["metadata"]
        pod = self._store.find("Pod", metadata["namespace"], metadata["name"])
        return pod if pod and pod["metadata"]["uid"] == metadata["uid"] else None

    def _queue_proxy(self) -> Container | None:
        return next((one for one in self.containers if one.name == QUEUE_PROXY), None)

    def _user_port(self) -> int | None:
        """Return the port that a Knative pod serves on, or the first that the pod declares."""
        if proxy := self._queue_proxy():
            env = {one["name"]: one.get("value") for one in proxy.state.spec.get("env", [])}
            if env.get("USER_PORT"):
                return int(env["USER_PORT"])
        ports = [port for one in self.containers for port in one.state.spec.get("ports", [])]
        return int(ports[0]["containerPort"]) if ports else None


def _gpus(container: Object) -> int:
    limits = (container.get("resources") or {}).get("limits") or {}
    return int(limits.get(GPU_RESOURCE, 0))

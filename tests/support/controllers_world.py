"""A small cluster for tests of the controllers: a store, all control loops, a scripted kubelet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import compare
import paced

from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.loop import Delays
from qwenkit.sandbox.controllers.manager import Controllers
from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.controllers.seed import seed
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.objects import Object, at, condition, timestamp, utc_now
from qwenkit.sandbox.kube.storage.history import Subscription
from qwenkit.sandbox.kube.storage.store import ObjectStore

SCALE = 40.0
KINDS = {
    "KnativeService",
    "Configuration",
    "Revision",
    "Route",
    "PodAutoscaler",
    "ServerlessService",
    "Ingress",
    "Deployment",
    "Pod",
    "Event",
}
NO_REGISTRY = (
    'Get "https://registry.invalid/v2/": dial tcp: lookup registry.invalid on 10.96.0.10:53: '
    "server misbehaving"
)
# Pods are ready sooner than the recorded ones: in sped-up time everything else takes longer.
START_S, READY_S, DRAIN_S = 0.5, 7.5, 30.0


class LoopClock(Clock):
    """A clock that goes by its event loop's time; see ``paced``."""

    def now(self) -> float:
        """Return the seconds that have passed on this clock since the loop began."""
        return asyncio.get_running_loop().time() * self.scale


class ScriptedKubelet:
    """Starts the pods of one node and calls them ready, or not, as their command says."""

    def __init__(self, store: ObjectStore, clock: Clock, *, ready_s: float = READY_S) -> None:
        self._store, self._clock, self._ready_s = store, clock, ready_s
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Watch for pods until cancelled."""
        changes = self._store.subscribe({"Pod"})
        try:
            async with asyncio.TaskGroup() as group:
                async for change in changes:
                    pod = change.object
                    uid = pod["metadata"]["uid"]
                    if change.type == "DELETED" or not at(pod, "spec", "nodeName"):
                        continue
                    leaving = "deletionTimestamp" in pod["metadata"]
                    job = f"{uid}/{leaving}"
                    if job in self._tasks:
                        continue
                    if leaving and (begun := self._tasks.get(f"{uid}/False")):
                        begun.cancel()
                    script = self._stop(pod) if leaving else self._start(pod)
                    self._tasks[job] = group.create_task(script)
        finally:
            changes.close()

    async def _start(self, pod: Object) -> None:
        command = " ".join(pod["spec"]["containers"][0].get("command", []))
        await self._sleep(START_S)
        crashes = "exit 1" in command
        self._report(pod, ready=False, phase="Running", crashed=crashes)
        if crashes or "sleep" in command:
            return
        await self._sleep(self._ready_s - START_S)
        self._report(pod, ready=True, phase="Running")

    async def _stop(self, pod: Object) -> None:
        await self._sleep(DRAIN_S)
        self._report(pod, ready=False, phase="Failed")
        await self._sleep(0.5)
        metadata = pod["metadata"]
        self._store.delete("Pod", metadata["namespace"], metadata["name"], grace_seconds=0)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(self._clock.real(seconds))

    def _report(self, pod: Object, *, ready: bool, phase: str, crashed: bool = False) -> None:
        found = self._store.find("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
        if found is None:  # deleted before this node had begun with it
            return
        others = [c for c in found["status"]["conditions"] if c["type"] != "Ready"]
        mark = {
            "type": "Ready",
            "status": "True" if ready else "False",
            "lastTransitionTime": timestamp(utc_now()),
        }
        ended = {"exitCode": 1, "reason": "Error", "message": "boom\n"}
        statuses = [
            {"name": container["name"], "ready": ready, "state": {"running": {}}}
            for container in found["spec"]["containers"]
        ]
        if crashed:
            statuses[0] |= {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": ended},
            }
        found["status"] |= {
            "phase": phase,
            "podIP": "10.244.0.9",
            "conditions": [*others, mark],
            "containerStatuses": statuses,
        }
        self._store.update_status("Pod", found)


class Stage:
    """A small cluster: store, controllers, kubelet, and a transcript of what happens."""

    def __init__(
        self,
        *,
        scale: float = SCALE,
        with_claim: bool = True,
        gpus: int = 3,
        ready_s: float = READY_S,
    ) -> None:
        self.clock = LoopClock(scale)
        self.ready_s = ready_s
        self.store = ObjectStore(Kinds())
        self.traffic = Traffic(self.clock)
        self.lines: list[compare.Line] = []
        self._written = 0
        self._served = ("", "")
        self.unknown_hosts = {"registry.invalid"}
        seed(self.store, node_name="lab", gpu="V100-16", gpus=gpus, gateway_port=8080)
        if with_claim:
            self.add_claim()

    def add_claim(self, namespace: str = "default") -> None:
        """Create a volume and the claim that it fits."""
        spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
        volume = {**spec, **self.volume_source(), "capacity": {"storage": "20Gi"}}
        claim = {**spec, "resources": {"requests": {"storage": "20Gi"}}}
        self.store.create(
            "PersistentVolume", {"metadata": {"name": f"{namespace}-llm-model"}, "spec": volume}
        )
        self.store.create(
            "PersistentVolumeClaim",
            {"metadata": {"name": "llm-model", "namespace": namespace}, "spec": claim},
        )

    def volume_source(self) -> Object:
        """Return where the volume's bytes are; a scripted kubelet does not ask."""
        return {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything for as long as the block takes."""
        part = 1 / self.clock.scale
        # Garbage is collected as slowly as ever: a busy machine must not change who goes first.
        delays = Delays(resolve_image=0.05 * part, program_gateway=0.2 * part)
        controllers = Controllers(
            self.store,
            traffic=self.traffic,
            delays=delays,
            resolve_image=self._resolve,
        )
        jobs = [
            asyncio.create_task(job)
            for job in (
                controllers.run(),
                self.kubelet(),
                self._write(self.store.subscribe()),
            )
        ]
        try:
            yield
            await self.eventually(lambda: self._written == self.store.revision)
        finally:
            for job in jobs:
                job.cancel()
            results = await asyncio.gather(*jobs, return_exceptions=True)
        for result in results:
            if not isinstance(result, asyncio.CancelledError):
                raise RuntimeError("a part of the stage ended by itself") from result

    def kubelet(self) -> Coroutine[Any, Any, None]:
        """Return what runs the pods."""
        return ScriptedKubelet(self.store, self.clock, ready_s=self.ready_s).run()

    def request(self, namespace: str, service: str) -> None:
        """Let a request for the Service's first revision arrive, which ``answered`` ends."""
        self._served = (namespace, f"{service}-00001")
        self.traffic.enter(*self._served)

    def answered(self) -> None:
        """Let the request be answered."""
        self.traffic.leave(*self._served)

    def _resolve(self, image: str) -> str | None:
        return NO_REGISTRY if image.partition("/")[0] in self.unknown_hosts else None

    async def _write(self, changes: Subscription) -> None:
        async for change in changes:
            self._written = change.revision
            if change.kind in KINDS:
                self.lines.append((self.clock.now(), change.type, change.object))

    async def eventually(self, what: Callable[[], object]) -> None:
        """Wait until something holds, half a minute at most."""
        for _ in range(3000):
            if what():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not happen within half a minute")

    async def deploy(self, name: str, **options: Any) -> None:
        """Create a Knative Service and wait until it is ready."""
        self.service(name, **options)
        await self.serving(name)

    async def serving(self, name: str) -> None:
        """Wait until a Service is ready, and until that is recorded."""
        kind, ready = "KnativeService", ("True", "")
        await self.eventually(
            lambda: self.ready(kind, name) and self.ready_states(kind, name)[-1:] == [ready]
        )

    def service(
        self,
        name: str,
        namespace: str = "default",
        *,
        image: str = "registry.cn-shanghai.aliyuncs.com/kube-ai/vllm:0.4.1",
        command: str = "serve",
        traffic: list[Object] | None = None,
        metadata: Object | None = None,
        **scaling: str,
    ) -> None:
        """Create a Knative Service as admission would pass it on."""
        container = {
            "name": "vllm-container",
            "image": image,
            "command": ["sh", "-c", command],
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
            "volumeMounts": [{"name": "m", "mountPath": "/m", "readOnly": True}],
        }
        claim = {"claimName": "llm-model", "readOnly": True}
        pod = {
            "containers": [container],
            "volumes": [{"name": "m", "persistentVolumeClaim": claim}],
            "timeoutSeconds": 300,
        }
        template = {"metadata": {"annotations": annotations(scaling)}, "spec": pod}
        traffic = traffic or [{"latestRevision": True, "percent": 100}]
        self.store.create(
            "KnativeService",
            {
                "metadata": {"name": name, "namespace": namespace, **(metadata or {})},
                "spec": {"template": template, "traffic": traffic},
            },
        )

    def change(self, name: str, **scaling: str) -> None:
        """Change the annotations of a Service's template: a new revision."""
        found = self.store.get("KnativeService", "default", name)
        found["spec"]["template"]["metadata"]["annotations"] |= annotations(scaling)
        self.store.update("KnativeService", found)

    def send(self, name: str, *traffic: Object) -> None:
        """Change where a Service's traffic goes."""
        found = self.store.get("KnativeService", "default", name)
        found["spec"]["traffic"] = list(traffic)
        self.store.update("KnativeService", found)

    def set_config(self, name: str, **data: str) -> None:
        """Change entries of a ConfigMap of knative-serving; ``_`` stands for ``-`` in a key."""
        found = self.store.get("ConfigMap", "knative-serving", name)
        found["data"] = (found.get("data") or {}) | {k.replace("_", "-"): data[k] for k in data}
        self.store.update("ConfigMap", found)

    def status(self, kind: str, name: str) -> Object:
        """Return the status of an object of the default namespace."""
        return self.store.get(kind, "default", name).get("status") or {}

    def ready_states(self, kind: str, name: str) -> list[tuple[str, str]]:
        """Return the (status, reason) of an object's Ready condition, one after the other."""
        return [(status, reason) for _, (status, reason, _) in self._history(kind, name).ready]

    def events(self, kind: str, name: str) -> set[tuple[str, str, str]]:
        """Return the events about an object: type, reason, message."""
        return self._history(kind, name).events

    def _history(self, kind: str, name: str) -> compare.ObjectHistory:
        return compare.history(self.lines).of(self.store.kinds[kind].kind, name)

    def ready(self, kind: str, name: str, namespace: str = "default") -> bool:
        """Return whether an object reports Ready for its present spec."""
        found = self.store.find(kind, namespace, name) or {"metadata": {"generation": 0}}
        observed = at(found, "status", "observedGeneration") == found["metadata"]["generation"]
        return observed and condition(found, "Ready").get("status") == "True"


Scene = Callable[[Stage], Awaitable[None]]


def play(*scenes: Scene, **options: Any) -> None:
    """Act scenes out at once, each on a stage of its own."""

    async def act(scene: Scene) -> None:
        stage = Stage(**options)
        async with stage.running():
            await scene(stage)

    async def whole() -> None:
        await asyncio.gather(*map(act, scenes))

    paced.run(whole())


def workload(kind: str, name: str, labels: Object, replicas: int, **container: Any) -> Object:
    """Return a Deployment or a ReplicaSet, whose pods sleep unless the container serves."""
    sleep = {"name": "c", "image": "busybox", "command": ["sleep", "infinity"]}
    pod = {"containers": [sleep | container]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def annotations(scaling: dict[str, str]) -> dict[str, str]:
    """Return autoscaling annotations from keywords."""
    prefix = "autoscaling.knative.dev/"
    return {prefix + key.replace("_", "-"): value for key, value in scaling.items()}

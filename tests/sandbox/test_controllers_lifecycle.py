"""The recorded lifecycles of a real cluster, acted out before our controllers.

A scripted kubelet stands for the node, so that only the control loops are judged: what a kubelet
writes into a running pod's status is left out of the comparison.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from qwenkit.sandbox import compare
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.loop import Delays
from qwenkit.sandbox.controllers.manager import Controllers
from qwenkit.sandbox.controllers.seed import seed
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.objects import Object, at, condition, copied, timestamp, utc_now
from qwenkit.sandbox.kube.store import Store
from qwenkit.sandbox.traffic import Traffic

RECORDINGS = Path(__file__).parent.parent / "data" / "cluster"
SCALE = 20.0
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


class ScriptedKubelet:
    """Starts the pods of one node and calls them ready, or not, as their command says."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
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
        await self._sleep(READY_S - START_S)
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
        assert found is not None
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

    def __init__(self, *, with_claim: bool = True) -> None:
        self.clock = Clock(SCALE)
        self.store = Store(Kinds())
        self.traffic = Traffic(self.clock.now)
        self.lines: list[compare.Line] = []
        seed(self.store, node_name="lab", gpu="V100-16", gpus=3, gateway_port=8080)
        if with_claim:
            self._add_claim()

    def _add_claim(self) -> None:
        spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
        volume = {**spec, "capacity": {"storage": "20Gi"}}
        claim = {**spec, "resources": {"requests": {"storage": "20Gi"}}}
        self.store.create(
            "PersistentVolume", {"metadata": {"name": "llm-model"}, "spec": volume}
        )
        self.store.create(
            "PersistentVolumeClaim",
            {"metadata": {"name": "llm-model", "namespace": "default"}, "spec": claim},
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything for as long as the block takes."""
        part = 1 / SCALE
        delays = Delays(
            resolve_image=0.05 * part,
            program_gateway=0.2 * part,
            collect_garbage=0.02 * part,
            finalize_route=0.08 * part,
        )
        controllers = Controllers(
            self.store,
            traffic=self.traffic,
            clock=self.clock,
            delays=delays,
            resolve_image=lambda image: NO_REGISTRY if "registry.invalid" in image else None,
        )
        jobs = [
            asyncio.create_task(job)
            for job in (
                controllers.run(),
                ScriptedKubelet(self.store, self.clock).run(),
                self._write(),
            )
        ]
        try:
            yield
        finally:
            for job in jobs:
                job.cancel()
            results = await asyncio.gather(*jobs, return_exceptions=True)
        failures = [r for r in results if not isinstance(r, asyncio.CancelledError)]
        assert failures == []

    async def _write(self) -> None:
        changes = self.store.subscribe(KINDS)
        async for change in changes:
            self.lines.append((self.clock.now(), change.type, change.object))

    async def until(self, moment: float) -> None:
        """Sleep until a second of the sandbox's time."""
        await asyncio.sleep(self.clock.real(max(0.0, moment - self.clock.now())))

    async def gone(self, what: Callable[[], bool]) -> None:
        """Wait until something holds, half a minute at most."""
        async with asyncio.timeout(30):
            while not what():
                await asyncio.sleep(0.01)


async def act(recording: list[compare.Line], stage: Stage) -> None:
    """Do what was done in a recording, when it was done."""
    first = next(obj for _, kind, obj in recording if kind == "ADDED" and _is_ksvc(obj))
    for moment, kind, what in recording:
        if kind != "ACTION":
            continue
        verb = what["verb"]
        if verb == "request":
            asyncio.get_running_loop().call_at(0, stage.traffic.leave, "default", "qwen-00001")
            continue
        await stage.until(moment)
        stage.lines.append((stage.clock.now(), "ACTION", {"verb": verb}))
        if verb == "create":
            stage.store.create("KnativeService", {**copied(first), "status": None})
        elif verb == "patch":
            found = stage.store.get("KnativeService", "default", "qwen")
            patch = what["object"]["spec"]["template"]["metadata"]["annotations"]
            found["spec"]["template"]["metadata"]["annotations"] |= patch
            stage.store.update("KnativeService", found)
        elif verb == "delete":
            stage.store.delete("KnativeService", "default", "qwen")


async def request(stage: Stage, start: float, end: float) -> None:
    """Keep one request in flight for a while."""
    await stage.until(start)
    stage.traffic.enter("default", "qwen-00001")
    await stage.until(end)
    stage.traffic.leave("default", "qwen-00001")


def _is_ksvc(obj: Object) -> bool:
    return obj.get("kind") == "Service" and "serving" in obj.get("apiVersion", "")


async def replay(name: str) -> list[str]:
    """Act a recording out and return what differs."""
    recording = list(compare.read(RECORDINGS / f"lifecycle-{name}.jsonl.gz"))
    stage = Stage()
    requests = [
        request(stage, moment - what["seconds"], moment)
        for moment, kind, what in recording
        if kind == "ACTION" and what["verb"] == "request"
    ]
    async with stage.running():
        actions = [line for line in recording if line[1] != "ACTION" or line[2]["verb"] != "request"]
        await asyncio.gather(act(actions, stage), *requests)
        kinds = ("Configuration", "Revision", "Route", "Ingress", "ServerlessService", "Pod")
        await stage.gone(lambda: not any(stage.store.list(kind) for kind in kinds))
    found = compare.differences(compare.account(recording), compare.account(stage.lines))
    scheduled = condition_of_pods(recording)
    return [line for line in found if not (scheduled and line.startswith("Pod/"))]


def condition_of_pods(recording: list[compare.Line]) -> bool:
    """Tell whether a node ever took the recorded pods."""
    return any(
        condition(obj, "PodScheduled").get("status") == "True"
        for _, _, obj in recording
        if obj.get("kind") == "Pod"
    )


@pytest.mark.parametrize(
    "name",
    ["happy", "no-pvc", "no-gpu", "image-pull", "crash", "never-ready", "zero-and-back"],
)
def test_a_recorded_lifecycle_is_repeated(name: str) -> None:
    assert asyncio.run(replay(name)) == []

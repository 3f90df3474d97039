"""How does a container live? Its image, its process, its restarts and its log."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from qwenkit.errors import NotReady, SandboxError
from qwenkit.sandbox.controllers.knative.queue_proxy import QUEUE_PROXY
from qwenkit.sandbox.kube.objects import Object, timestamp, utc_now
from qwenkit.sandbox.kubelet import images, program
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.container_log import ContainerLog
from qwenkit.sandbox.kubelet.own import program as own
from qwenkit.sandbox.kubelet.own.keep import keep
from qwenkit.sandbox.kubelet.own.load import load_worker
from qwenkit.sandbox.kubelet.own.upload import upload, verify
from qwenkit.sandbox.kubelet.serving import Machine, ServerProcess, Serving, serving
from qwenkit.sandbox.kubelet.status import ContainerState
from qwenkit.sandbox.kubelet.timing import NodeTiming
from qwenkit.sandbox.kubelet.volumes import Mount

_KILLED, _ENDED = 137, 143
_MESSAGE_BYTES = 2048
# PyTorch's messages when a GPU is lost, and when a process starts without one.
_GPU_FAILED = "RuntimeError: CUDA error: unspecified launch failure"
_GPU_GONE = "RuntimeError: No CUDA GPUs are available"


class ContainerHost(Protocol):
    """What a container needs of its pod."""

    timing: NodeTiming
    pulled: set[str]
    programs: Programs | None

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables of a container.

        Raises:
            NotReady: it names a Secret, a ConfigMap or a key that does not exist.
        """

    @property
    def account(self) -> tuple[str, str]:
        """Namespace and name of the pod's ServiceAccount."""

    def service_host(self, namespace: str, name: str) -> str:
        """Return the external host of a Knative Service; empty if it has none."""

    def event(self, container: str, kind: str, reason: str, message: str) -> None:
        """Record an event about a container of the pod."""

    def publish(self) -> None:
        """Write the pod's status if it changed."""

    def ended(self) -> None:
        """Note that a container has ended for good."""


class Container:
    """A container of a pod, from its first start until its pod ends."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        host: ContainerHost,
        *,
        pod_name: str,
        restart_policy: str,
        machine: Machine,
    ) -> None:
        self.state = ContainerState(spec)
        self.server: Serving | None = None
        self.mounts: Sequence[Mount] = ()
        self.log, self.previous_log = ContainerLog(), ContainerLog()
        self._host, self._pod_name, self._policy = host, pod_name, restart_policy
        self._machine = machine
        self._timing = host.timing
        self._task: asyncio.Task[None] | None = None
        self._main: asyncio.Task[int] | None = None
        self._crashed = (_KILLED, "Error")
        self._gpu_lost = False
        self._stop_code = _ENDED
        self._command: program.Command | None = None
        self._trap = ""
        self._env: dict[str, str] = {}
        self.on_start: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """The container's name."""
        return self.state.name

    @property
    def running(self) -> bool:
        """Whether its process runs now."""
        return "running" in self.state.state

    async def begin(self) -> None:
        """Start it for the first time; from then on it restarts by itself."""
        process = await self._start()
        self._task = asyncio.create_task(self._supervise(process))

    async def stop(self, *, killed: bool = False) -> None:
        """End its process because its pod stops; ``killed`` if it ignored SIGTERM."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.running:
            self._terminated(_KILLED if killed else self._stop_code)

    def sigterm(self) -> bool:
        """Send it SIGTERM, which it gets once; return whether that ends it. It does not restart."""
        self._policy = "Never"
        listens = self.server is not None and self.server.url is not None
        return self._command is None or program.hears_sigterm(
            self._command, self._trap, listens=listens
        )

    def kill(self) -> None:
        """End its process after a failed liveness probe; it starts again."""
        if self._task is not None and self.running:
            self._task.cancel()
            self._terminated(_KILLED)
            self._task = asyncio.create_task(self._restart(self._task))

    def crash(self, code: int, *, reason: str = "Error", message: str = "") -> None:
        """End its process from outside, as the kernel or a broken device does; it starts again."""
        if self._main is not None and self.running:
            if message:
                self.write(message)
            self._crashed = code, reason
            self._main.cancel()

    def lose_gpu(self, lost: bool) -> None:
        """Lose the GPU that it uses, also for its next starts, or get it back."""
        if lost and not self._gpu_lost and self.server is not None:
            self.crash(1, message=_GPU_FAILED)
        self._gpu_lost = lost

    def write(self, line: str) -> None:
        """Add a line to its log."""
        self.log.write(line)

    async def _restart(self, before: asyncio.Task[None]) -> None:
        await asyncio.wait([before])
        await self._supervise(None)

    async def _supervise(self, process: asyncio.Task[int] | None) -> None:
        """Await the process and restart it according to the restart policy."""
        backoff = 0.0
        try:
            while True:
                if process is not None:
                    await asyncio.wait([process])
                    crashed = process.cancelled()
                    self._terminated(*(self._crashed if crashed else (process.result(),)))
                    code = self.state.state["terminated"]["exitCode"]
                    if self._policy == "Never" or (self._policy == "OnFailure" and not code):
                        self._host.ended()
                        return
                    self._host.publish()
                    # The first restart comes at once.
                    if self.state.restart_count:
                        backoff = min(backoff * 2, self._timing.crash_backoff_max_s)
                        await self._back_off(backoff := backoff or self._timing.crash_backoff_s)
                self.state.restart_count += 1
                process = await self._start()
                self._host.publish()
        finally:
            if process is not None:
                process.cancel()
                await asyncio.gather(process, return_exceptions=True)

    async def _back_off(self, seconds: float) -> None:
        """Wait before a restart; as recorded, only the first wait is shown from its start."""
        where = f"{self.name} in pod {self._pod_name}"
        message = f"Back-off restarting failed container {where}"
        # The kubelet restarts the container when it next checks the pod after the wait.
        wait_s = math.ceil(seconds / self._timing.resync_s) * self._timing.resync_s
        await self._timing.clock.sleep(self._timing.sync_s)
        self._host.event(self.name, "Warning", "BackOff", message)
        if self.state.restart_count == 1:
            await self._timing.clock.sleep(self._timing.sync_s)
            self._host.event(self.name, "Warning", "BackOff", message)
            self._show_back_off(seconds)
        await self._timing.clock.sleep(wait_s)
        if self.state.restart_count != 1:
            self._show_back_off(seconds)

    def _show_back_off(self, seconds: float) -> None:
        # As the kubelet says it, even if this node backs off for less.
        shown = round(seconds / self._timing.crash_backoff_s * NodeTiming().crash_backoff_s)
        self.state.last_state = self.state.state
        where = f"container={self.name} pod={self._pod_name}"
        message = f"back-off {_duration(shown)} restarting failed {where}"
        self.state.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        self._host.publish()

    async def _start(self) -> asyncio.Task[int]:
        await self._pull()
        await self._configure()
        if "terminated" in self.state.state:
            self.state.last_state = self.state.state
        # Together, because a reader of the last state looks for its log.
        self.previous_log, self.log = self.log, ContainerLog()
        await self._timing.clock.sleep(self._timing.create_s)
        self._host.event(self.name, "Normal", "Created", "Container created")
        await self._timing.clock.sleep(self._timing.start_s)
        self._host.event(self.name, "Normal", "Started", "Container started")
        self.state.container_id = f"containerd://{uuid.uuid4().hex}{uuid.uuid4().hex}"
        self.state.image_id = images.image_id(self.state.spec["image"])
        self.state.state = {"running": {"startedAt": _now()}}
        self.state.started = True
        self.on_start()
        self._main = asyncio.create_task(self._process())
        return self._main

    async def _pull(self) -> None:
        image = self.state.spec["image"]
        while why := images.pull_error(image):
            self._host.event(self.name, "Normal", "Pulling", f'Pulling image "{image}"')
            await self._timing.clock.sleep(self._timing.create_s)
            message = f'Failed to pull image "{image}": {why}'
            self._host.event(self.name, "Warning", "Failed", message)
            self._host.event(self.name, "Warning", "Failed", "Error: ErrImagePull")
            await self._wait("ErrImagePull", why)
            message = f'Back-off pulling image "{image}"'
            self._host.event(self.name, "Normal", "BackOff", message)
            self._host.event(self.name, "Warning", "Failed", "Error: ImagePullBackOff")
            await self._wait("ImagePullBackOff", f"{message}: ErrImagePull: {why}")
        pulled = f'Container image "{image}" already present on machine'
        pulled += " and can be accessed by the pod"
        if self._timing.pull_s and image not in self._host.pulled:
            self._host.event(self.name, "Normal", "Pulling", f'Pulling image "{image}"')
            await self._timing.clock.sleep(self._timing.pull_s)
            pulled = f'Successfully pulled image "{image}" in {self._timing.pull_s:.3g}s'
        self._host.pulled.add(image)
        self._host.event(self.name, "Normal", "Pulled", pulled)

    async def _configure(self) -> None:
        while True:
            try:
                self._env = self._host.environment(self.state.spec)
                return
            except NotReady as error:
                self._host.event(self.name, "Warning", "Failed", f"Error: {error.what}")
                await self._wait("CreateContainerConfigError", error.what)

    async def _wait(self, reason: str, message: str) -> None:
        self.state.state = {"waiting": {"reason": reason, "message": message}}
        self._host.publish()
        await self._timing.clock.sleep(self._timing.pull_backoff_s)

    async def _process(self) -> int:
        """Run the container's program; return its exit status."""
        if self.name == QUEUE_PROXY:
            self._stop_code = 0
            await asyncio.Event().wait()
        code = waited = 0
        self._trap = ""
        env = [{"name": name, "value": value} for name, value in self._env.items()]
        for command in program.read({**self.state.spec, "env": env}):
            if (command.after == "&&" and code) or (command.after == "||" and not code):
                continue
            self._command = command
            if command.verb == "wait":
                code = waited
                continue
            if not (command.verb == "exit" and command.args == ("$?",)):
                code = await self._execute(command)
            if command.background:
                code, waited = 0, code
            if command.verb == "exit":
                break
        return code

    async def _execute(self, command: program.Command) -> int:
        verb, args = command.verb, command.args
        if verb == "serve":
            return await self._serve(args)
        if verb in ("upload", "verify", "load-worker", "keep"):
            self._stop_code = _ENDED
            return await own.run(
                partial(self._prepare, verb, args),
                image=self.state.spec["image"],
                programs=self._host.programs,
                log=self.write,
                waits=verb != "keep",
            )
        if verb == "echo":
            self.write(" ".join(args))
        elif verb == "sleep" and args[0] != "infinity":
            await self._timing.clock.sleep(float(args[0].rstrip("s")))
        elif verb in ("sleep", "forever"):
            await asyncio.Event().wait()
        elif verb == "trap":
            self._trap = args[0] if {"TERM", "SIGTERM", "15"} & set(args[1:]) else self._trap
        elif args:
            return int(args[0]) % 256 if args[0].isdigit() else 2
        return 0

    async def _prepare(
        self, verb: str, args: Sequence[str], programs: Programs, home: Path
    ) -> own.OwnCommand:
        if verb == "upload":
            return await upload(args, self._env, self.mounts, programs, home)
        if verb == "verify":
            return verify(args, self.mounts)
        if verb == "keep":
            return keep(args, self._env, self._host.account, programs, home)
        return load_worker(args, self._env, programs, self._host.service_host)

    async def _serve(self, argv: Sequence[str]) -> int:
        if self._gpu_lost:
            self.write(_GPU_GONE)
            return 1
        server = None
        try:
            process = ServerProcess(argv, self.state.spec["image"], self._env)
            async with serving(process, self.mounts, self._machine, self.write) as server:
                self.server = server
                try:
                    return await server.ended()
                finally:
                    self.server = None
        except SandboxError as error:
            self.write(error.what)
            return int(error.context["exit_code"])
        finally:
            if server is not None:
                self._stop_code = server.stop_code

    def _terminated(self, code: int, reason: str = "Error") -> None:
        ended: Object = {"exitCode": code, "reason": reason if code else "Completed"}
        tail = self.log.text()[-_MESSAGE_BYTES:] if code else ""
        if tail and self.state.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = tail
        started = self.state.state.get("running", {}).get("startedAt")
        ended |= {"startedAt": started, "finishedAt": _now()}
        self.state.state = {"terminated": ended | {"containerID": self.state.container_id}}
        self.state.ready = self.state.started = False


def _duration(seconds: int) -> str:
    """Return seconds as Go prints them: 10s, 1m20s."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _now() -> str:
    return timestamp(utc_now())

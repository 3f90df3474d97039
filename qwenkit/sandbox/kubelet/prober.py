"""Act on the probes of one start of a container: ready or not, restarted or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kubelet import probes
from qwenkit.sandbox.kubelet.container import Container, Host

STARTUP, READINESS, LIVENESS = "startupProbe", "readinessProbe", "livenessProbe"
Asker = Callable[[Container, Object], Awaitable[str | None]]


class Prober:
    """The probes of a container that has just started; they end with its process.

    Args:
        container: what is probed.
        host: its pod.
        ask: probes once; None when it passes, else the kubelet's words.
    """

    def __init__(self, container: Container, host: Host, ask: Asker) -> None:
        self._container, self._host, self._ask = container, host, ask
        self._spec = container.state.spec
        self._id = container.state.container_id
        self._up = asyncio.Event()

    def start(self) -> list[asyncio.Task[None]]:
        """Set the container's first state and begin to probe."""
        state = self._container.state
        if STARTUP in self._spec:
            state.started = state.ready = False
        else:
            state.ready = READINESS not in self._spec
            self._up.set()
        kinds = [kind for kind in (STARTUP, READINESS, LIVENESS) if self._spec.get(kind)]
        return [asyncio.create_task(self._watch(kind)) for kind in kinds]

    async def _watch(self, kind: str) -> None:
        if kind != STARTUP:
            await self._up.wait()
        probe = self._spec[kind]
        if not probes.can_ask(probe):
            why = f"{kind} runs a command or gRPC, which the sandbox does not: it passes"
            self._host.event(self._container.name, "Warning", "NotInSandbox", why)
        await probes.watch(
            probes.periods(probe).paced(self._host.timing.probe_s),
            partial(self._ask, self._container, probe),
            passed=partial(self._passed, kind),
            failed=partial(self._failed, kind),
            broken=partial(self._broken, kind),
            goes_on=partial(self._goes_on, kind),
        )

    def _goes_on(self, kind: str) -> bool:
        same = self._container.running and self._container.state.container_id == self._id
        return same and not (kind == STARTUP and self._up.is_set())

    def _passed(self, kind: str) -> None:
        state = self._container.state
        if kind == STARTUP:
            self._up.set()
            state.started = True
            state.ready = READINESS not in self._spec
        elif kind == READINESS:
            state.ready = True
        self._host.publish()

    def _failed(self, kind: str, why: str) -> None:
        name = kind.removesuffix("Probe").capitalize()
        message = f"{name} probe failed: {why}"
        self._host.event(self._container.name, "Warning", "Unhealthy", message)

    def _broken(self, kind: str) -> None:
        if kind == READINESS:
            self._container.state.ready = False
            self._host.publish()
            return
        name = self._container.name
        why = f"Container {name} failed {kind.removesuffix('Probe')} probe, will be restarted"
        self._host.event(name, "Normal", "Killing", why)
        self._container.kill()

"""When is a container ready, and when is it restarted? Its probes decide, from each start on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kubelet import probes
from qwenkit.sandbox.kubelet.container import Container, ContainerHost

STARTUP, READINESS, LIVENESS = "startupProbe", "readinessProbe", "livenessProbe"
_SHORTEST_S = 0.02
ProbeOnce = Callable[[Container, Object], Awaitable[str | None]]


class Prober:
    """The probes of a container that has just started; they end with its process.

    Args:
        container: the container.
        host: its pod.
        probe_once: probes once; returns None when the probe passes, else the kubelet's message.
    """

    def __init__(self, container: Container, host: ContainerHost, probe_once: ProbeOnce) -> None:
        self._container, self._host, self._probe_once = container, host, probe_once
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
        return [asyncio.create_task(self._run(kind)) for kind in kinds]

    async def _run(self, kind: str) -> None:
        if kind != STARTUP:
            await self._up.wait()
        probe, timing = self._spec[kind], self._host.timing
        if not probes.can_ask(probe):
            why = f"{kind} runs a command or gRPC, which the sandbox does not: it passes"
            self._host.event(self._container.name, "Warning", "NotInSandbox", why)
        # 0 and absent mean the default.
        period_s = (probe.get("periodSeconds") or 10) * timing.probe_s
        successes, failures = probe.get("successThreshold") or 1, probe.get("failureThreshold") or 3
        passed = failed = 0
        await timing.clock.sleep((probe.get("initialDelaySeconds") or 0) * timing.probe_s)
        while self._goes_on(kind):
            problem = await self._probe_once(self._container, probe)
            if not self._goes_on(kind):
                return
            if problem is None:
                passed, failed = passed + 1, 0
                if passed == successes:
                    self._succeed(kind)
            else:
                passed, failed = 0, failed + 1
                message = f"{_name(kind).capitalize()} probe failed: {problem}"
                self._host.event(self._container.name, "Warning", "Unhealthy", message)
                if failed == failures:
                    self._fail(kind)
            await timing.clock.sleep(max(period_s, _SHORTEST_S * timing.clock.scale))

    def _goes_on(self, kind: str) -> bool:
        same = self._container.running and self._container.state.container_id == self._id
        return same and not (kind == STARTUP and self._up.is_set())

    def _succeed(self, kind: str) -> None:
        state = self._container.state
        if kind == STARTUP:
            self._up.set()
            state.started = True
            state.ready = READINESS not in self._spec
        elif kind == READINESS:
            state.ready = True
        self._host.publish()

    def _fail(self, kind: str) -> None:
        if kind == READINESS:
            self._container.state.ready = False
            self._host.publish()
            return
        name = self._container.name
        why = f"Container {name} failed {_name(kind)} probe, will be restarted"
        self._host.event(name, "Normal", "Killing", why)
        self._container.kill()


def _name(kind: str) -> str:
    return kind.removesuffix("Probe")

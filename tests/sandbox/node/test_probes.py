"""Probes end when they are cancelled, at whatever moment that comes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kubelet import probes
from qwenkit.sandbox.kubelet.prober import READINESS, Prober
from qwenkit.sandbox.kubelet.status import ContainerState
from qwenkit.sandbox.kubelet.timing import NodeTiming

TURNS = 40


def _probing(url: str, probe: dict[str, object]) -> asyncio.Task[None]:
    state = ContainerState({"name": "c", READINESS: probe})
    container: Any = SimpleNamespace(name="c", state=state, running=True)
    host: Any = SimpleNamespace(
        timing=NodeTiming(probe_s=0), event=lambda *_: None, publish=lambda: None
    )

    async def probe_once(*_: object) -> str | None:
        return await probes.check(probe, {}, lambda _: url, "10.244.0.2")

    (task,) = Prober(container, host, probe_once).start()
    return task


def test_a_cancelled_probe_ends_whatever_it_was_doing() -> None:
    """As the connection completes, too: a probe that outlives its pod keeps the node waiting."""

    async def run() -> None:
        server = await listen(web.Application())
        for probe in ({"tcpSocket": {"port": 8080}}, {"httpGet": {"port": 8080, "path": "/"}}):
            for turns in range(TURNS):
                probing = _probing(server.url, probe)
                for _ in range(turns):
                    await asyncio.sleep(0)
                probing.cancel()
                _, running = await asyncio.wait([probing], timeout=60)
                assert not running, f"{probe} goes on, cancelled after {turns} turns"
        await server.close()

    asyncio.run(run())

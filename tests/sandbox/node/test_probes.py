"""Probes end when they are cancelled, at whatever moment that comes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kubelet import probes

TURNS = 40


async def _watching(url: str, probe: dict[str, object]) -> asyncio.Task[None]:
    return asyncio.create_task(
        probes.watch(
            probes.periods(probe).paced(0),
            lambda: probes.check(probe, {}, lambda _: url, "10.244.0.2"),
            passed=lambda: None,
            failed=lambda _: None,
            broken=lambda: None,
            goes_on=lambda: True,
        )
    )


def test_a_cancelled_probe_ends_whatever_it_was_doing() -> None:
    """As the connection completes, too: a probe that outlives its pod keeps the node waiting."""

    async def run() -> None:
        server = await listen(web.Application())
        for probe in ({"tcpSocket": {"port": 8080}}, {"httpGet": {"port": 8080, "path": "/"}}):
            for turns in range(TURNS):
                watching = await _watching(server.url, probe)
                for _ in range(turns):
                    await asyncio.sleep(0)
                watching.cancel()
                _, running = await asyncio.wait([watching], timeout=60)
                assert not running, f"{probe} goes on, cancelled after {turns} turns"
        await server.close()

    asyncio.run(run())

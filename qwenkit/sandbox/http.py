"""Start an aiohttp application on loopback; the one place where the sandbox listens."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from dataclasses import dataclass

from aiohttp import web

from qwenkit.errors import SandboxError

LOOPBACK = "127.0.0.1"
_TURNS = 3


@dataclass(frozen=True)
class Listening:
    """A running server. ``url`` has no trailing slash."""

    url: str
    port: int
    runner: web.AppRunner

    async def close(self) -> None:
        """Stop accepting, finish nothing, release the port."""
        server = self.runner.server
        transports = {one.transport for one in server.connections} if server else set()
        await self.runner.cleanup()
        # What was being accepted meanwhile becomes a connection only in the loop's next turns.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        transports |= {one.transport for one in server.connections} if server else set()
        # TLS waits half a minute for a client that keeps its connection open: do not.
        for transport in filter(None, transports):
            transport.abort()
        await asyncio.sleep(0)


async def listen(
    app: web.Application, *, port: int = 0, tls: ssl_module.SSLContext | None = None
) -> Listening:
    """Serve ``app`` on loopback; port 0 takes a free one.

    Raises:
        SandboxError: the port is taken.
    """
    # Bodies stay as they were sent: an uploaded .gz is an object, not a transfer coding.
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=1.0,
        handler_cancellation=True,
        auto_decompress=False,
    )
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, port, ssl_context=tls, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise SandboxError(
            f"port {port} on {LOOPBACK} cannot be used",
            error.strerror or str(error),
            "stop what listens there, or choose another port (0 takes a free one)",
        ) from error
    bound: int = runner.addresses[0][1]
    scheme = "https" if tls else "http"
    return Listening(f"{scheme}://{LOOPBACK}:{bound}", bound, runner)

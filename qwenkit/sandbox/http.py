"""Serve aiohttp applications on loopback; every server of the sandbox starts here."""

from __future__ import annotations

import asyncio
import contextlib
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from qwenkit.errors import SandboxError
from qwenkit.sandbox.connections import BoundedRunner, Limits, log

LOOPBACK = "127.0.0.1"
_KEEP_ALIVE_S = 300.0
_TURNS = 3
_RETRY_S = 0.1


@dataclass(frozen=True)
class Listening:
    """A running server. ``url`` has no trailing slash."""

    url: str
    port: int
    runner: web.AppRunner
    tls: ssl_module.SSLContext | None = None

    async def close(self) -> None:
        """Break all connections and release the port."""
        await self._break(self.runner.cleanup)

    async def restart(self, seconds: float) -> None:
        """Break every connection, refuse new ones for some seconds, then listen on the port again.

        A server that is down already stays so.
        """
        sites = list(self.runner.sites)
        if not sites:
            return

        async def stop() -> None:
            for site in sites:
                await site.stop()

        await self._break(stop)
        await asyncio.sleep(seconds)
        while not self.runner.sites:
            # The port may have been assigned to a client's socket meanwhile.
            with contextlib.suppress(SandboxError):
                await _start(self.runner, self.port, self.tls)
            await asyncio.sleep(_RETRY_S)

    async def _break(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Stop listening and break all connections."""
        server = self.runner.server
        # A socket that is being accepted becomes a connection in the next turns of the loop. A
        # server that is closed before that leaves the socket open (asyncio's Server._attach).
        self._stop_accepting()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        # As a killed process does: an orderly stop waits for running requests, and with TLS half a
        # minute for a client that keeps its connection open.
        _abort(server)
        await stop()
        await asyncio.sleep(0)

    def _stop_accepting(self) -> None:
        loop = asyncio.get_running_loop()
        for site in self.runner.sites:
            listener = site._server  # aiohttp has no public name for it
            for socket in listener.sockets if isinstance(listener, asyncio.Server) else ():
                loop.remove_reader(socket.fileno())


def _abort(server: web.Server | None) -> None:
    for connection in server.connections if server else ():
        if connection.transport is not None:
            connection.transport.abort()


async def listen(
    app: web.Application,
    *,
    port: int = 0,
    tls: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
) -> Listening:
    """Serve ``app`` on loopback; port 0 takes a free one.

    Raises:
        SandboxError: the port is taken.
    """
    # No decompression: an uploaded .gz is an object, not a transfer coding.
    runner = BoundedRunner(
        app,
        limits=limits or Limits(),
        access_log=None,
        logger=log,
        shutdown_timeout=1.0,
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=_KEEP_ALIVE_S,
    )
    await runner.setup()
    try:
        await _start(runner, port, tls)
    except SandboxError:
        await runner.cleanup()
        raise
    bound: int = runner.addresses[0][1]
    scheme = "https" if tls else "http"
    return Listening(f"{scheme}://{LOOPBACK}:{bound}", bound, runner, tls)


async def _start(runner: web.AppRunner, port: int, tls: ssl_module.SSLContext | None) -> None:
    site = web.TCPSite(runner, LOOPBACK, port, ssl_context=tls, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        raise SandboxError(
            f"port {port} on {LOOPBACK} cannot be used",
            error.strerror or str(error),
            "stop what listens there, or choose another port (0 takes a free one)",
        ) from error

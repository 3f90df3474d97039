"""What one client may hold of a server: connections, time to send a request, memory for bodies.

Kubernetes' API server gives a client 32 s for the header of a request; OSS answers RequestTimeout
to a body that stops. aiohttp waits for both without an end, and reads bodies without a common
bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

log = logging.getLogger("qwenkit.sandbox.http")

_MOST_FILES = 2**16
# A request through the gateway takes three sockets, and there are several servers.
_FILES_A_CONNECTION = 8
_ALWAYS_BYTES = 2**14


@dataclass(frozen=True)
class Limits:
    """Bounds of one server: seconds, bytes a second; 0 connections: as the open files allow.

    Args:
        header_s: from the first byte of a request, or from connecting, to the end of its header.
        idle_s: without a byte of a body that is not complete.
        least_rate: a body that has taken ``idle_s`` must have arrived at least that fast.
        write_s: for a client that does not read its answer.
    """

    header_s: float = 30.0
    idle_s: float = 60.0
    least_rate: float = 1024.0
    write_s: float = 300.0
    connections: int = 0


class _Connection(RequestHandler):
    """One connection, which knows since when its client owes something."""

    _header_since: float | None = None
    _body_since = _heard = _paused_since = 0.0
    _body: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._header_since = self._loop.time()

    def data_received(self, data: bytes) -> None:
        requests = self._request_count
        super().data_received(data)
        self._heard = self._loop.time()
        if self._request_count > requests:
            self._header_since = None
        elif self._current_request is None and not self._messages and data:
            self._header_since = self._header_since or self._heard

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, UnicodeError):  # as from aiohttp's own answer to an odd Expect
            status, exc, message = 400, None, "the request holds text that is not UTF-8"
        return super().handle_error(request, status, exc, message)

    def is_late(self, limits: Limits) -> bool:
        """Return whether the client has used up its time."""
        now = self._loop.time()
        if self._header_since is not None:
            return now - self._header_since > limits.header_s
        self._paused_since = (self._paused_since or now) if self.writing_paused else 0.0
        if self._paused_since and now - self._paused_since > limits.write_s:
            return True
        request = self._current_request
        if request is None or request.content.is_eof() or self._reading_paused:
            self._body = None  # the client waits for the server
            return False
        if self._body is not request:
            self._body, self._body_since, self._heard = request, now, now
            return False
        late = now - self._heard > limits.idle_s
        took, arrived = now - self._body_since, request.content.total_bytes
        return late or (took > limits.idle_s and arrived < took * limits.least_rate)


class _Server(web.Server):
    """Makes connections, up to a number, and ends those whose clients are late."""

    limits = Limits()

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > (self.limits.connections or most_connections()):
            transport.abort()

    async def patrol(self) -> None:
        """End late connections until cancelled."""
        every = min(1.0, self.limits.header_s / 4, self.limits.idle_s / 4)
        while True:
            await asyncio.sleep(every)
            for one in self.connections:
                if isinstance(one, _Connection) and one.transport and one.is_late(self.limits):
                    one.transport.abort()


class BoundedRunner(web.AppRunner):
    """Runs an application within ``limits``."""

    __slots__ = ("_limits", "_patrol")

    def __init__(self, app: web.Application, *, limits: Limits, **options: Any) -> None:
        super().__init__(app, **options)
        self._limits = limits
        self._patrol: asyncio.Task[None] | None = None

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        made = _Server(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            **plain._kwargs,
        )
        made.limits = self._limits
        self._patrol = asyncio.create_task(made.patrol())
        return made

    async def cleanup(self) -> None:
        """Stop the server and its patrol."""
        if self._patrol:
            self._patrol.cancel()
        await super().cleanup()


def most_connections() -> int:
    """Return how many connections a server may have, so that files can still be opened."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES_A_CONNECTION


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as it may be raised, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class BodyBudget:
    """The memory that all bodies of a process may take together; small ones always have room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextlib.asynccontextmanager
    async def body(self, request: web.Request, *, most: int) -> AsyncIterator[bytes]:
        """Read a whole body; its memory counts until the block ends.

        Raises:
            HTTPException: 413, it has more than ``most`` bytes; 503, all together are too many.
        """
        if (request.content_length or 0) > most:
            raise web.HTTPRequestEntityTooLarge(most, request.content_length or 0)
        content, counted = bytearray(), 0
        try:
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > most:
                    raise web.HTTPRequestEntityTooLarge(most, len(content))
                if len(content) > _ALWAYS_BYTES:
                    self.held += len(content) - counted
                    counted = len(content)
                if counted and self.held > self._most:
                    raise web.HTTPServiceUnavailable(reason="too many large bodies at once")
            yield bytes(content)
        finally:
            self.held -= counted


bodies = BodyBudget(2**28)


class _Unreadable(logging.Filter):
    """Drops what aiohttp logs about a request that is no HTTP: it quotes the request."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


log.addFilter(_Unreadable())

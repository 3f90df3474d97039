"""The effects of faults on requests to any HTTP server of the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from aiohttp import StreamReader, web

from qwenkit.sandbox.faults.injector import Effect, Handler

Render = Callable[[web.Request], web.Response]
_Write = Callable[[Any, bytes], Awaitable[None]]


def answer(render: Render) -> Effect:
    """Answer instead of the server, after the whole body was read."""

    async def effect(request: web.Request, _handler: Handler) -> web.StreamResponse:
        await request.content.read()
        return render(request)

    return effect


async def reset(request: web.Request, _handler: Handler) -> web.StreamResponse:
    """Break the connection in the middle of the request's body."""
    await request.content.readany()
    _break(request)


async def lose_answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle the request, then break the connection."""
    await handler(request)
    _break(request)


async def close(request: web.Request, _handler: Handler) -> web.StreamResponse:
    """Read the body and close the connection without an answer."""
    await request.content.read()
    if request.transport:
        request.transport.close()
    raise ConnectionResetError


def stall(seconds: float) -> Effect:
    """Wait, then handle the request."""

    async def effect(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await handler(request)

    return effect


def change_headers(headers: Mapping[str, str | None]) -> Effect:
    """Change headers of the answer; None takes one away."""

    async def effect(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        for name, value in headers.items():
            response.headers.pop(name, None)
            if value is not None:
                response.headers[name] = value
        return response

    return effect


async def change_sent_byte(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Change a byte of the body on its way to the server, as a faulty proxy does."""
    changed = request.clone()
    body = bytearray(await request.content.read())
    if body:
        body[len(body) // 2] ^= 1
    stream = StreamReader(request.protocol, 2**20, loop=asyncio.get_running_loop())
    stream.feed_data(bytes(body))
    stream.feed_eof()
    changed._payload = stream  # aiohttp has no other way to replace a body
    return await handler(changed)


def spoil_answer(spoil: Callable[[web.Request, Any, bytes], Awaitable[None]]) -> Effect:
    """Let ``spoil`` write each piece of the answer's body to the real writer."""

    async def effect(request: web.Request, handler: Handler) -> web.StreamResponse:
        async def write(writer: Any, piece: bytes) -> None:
            await spoil(request, writer, piece)

        spoilt: Any = _Writer(request._payload_writer, write)
        request._payload_writer = spoilt
        return await handler(request)

    return effect


async def cut(request: web.Request, writer: Any, piece: bytes) -> None:
    """Break the connection in the middle of the piece."""
    await writer.write(piece[: len(piece) // 2])
    _break(request)


async def end_early(request: web.Request, writer: Any, piece: bytes) -> None:
    """End the answer in the middle of the piece, in good spec."""
    await writer.write(piece[: len(piece) // 2])
    await writer.drain()
    if request.transport:
        request.transport.close()
    raise ConnectionResetError


async def change_byte(_request: web.Request, writer: Any, piece: bytes) -> None:
    """Change the first byte of the piece."""
    await writer.write(bytes([piece[0] ^ 1]) + piece[1:] if piece else piece)


async def shift_range(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with a range that begins one byte after the requested one."""
    headers = request.headers.copy()
    start = int(headers.get("Range", "bytes=0-")[6:].partition("-")[0] or 0)
    headers["Range"] = f"bytes={start + 1}-"
    return await handler(request.clone(headers=headers))


class _Writer:
    """A response's writer, with another way to write."""

    def __init__(self, writer: Any, write: _Write) -> None:
        self._writer, self._write = writer, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    async def write(self, piece: bytes, **_: Any) -> None:
        await self._write(self._writer, bytes(piece))


def _break(request: web.Request) -> NoReturn:
    if request.transport:
        request.transport.abort()
    raise ConnectionResetError

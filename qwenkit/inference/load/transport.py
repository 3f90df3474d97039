"""How a load's requests reach the gateway: one HTTP/1.1 connection for each that runs.

A plain protocol costs a third of the CPU of a general HTTP client, so that times are the
server's. The general client is used only where a proxy is in between.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from qwenkit.inference import failures
from qwenkit.inference.client import Server
from qwenkit.inference.events import BadEvent
from qwenkit.inference.raw import CHAT, CONNECT_S, authorities
from qwenkit.loopback import is_loopback

_LONGEST = 2**16  # of a head, or of the line before a chunk


class Closed(BadEvent):
    """The connection was closed before anything of the answer came."""


class Sink(Protocol):
    """Takes an answer as it comes; either may raise ``BadEvent``."""

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the status and the headers, whose names are in lower case."""

    def data(self, data: bytes) -> None:
        """Take a part of the body."""


class Connection(Protocol):
    """Carries one request at a time."""

    reusable: bool

    async def post(self, body: bytes, name: str, sink: Sink) -> None:
        """Send a request with a name of its own, and give its whole answer to ``sink``."""

    async def close(self) -> None:
        """Close it."""


class DirectConnection(asyncio.BufferedProtocol):
    """A connection without a proxy. It is opened by its first request.

    All connections of a load read into one ``buffer``: a new one for each token costs as much as
    reading it.
    """

    def __init__(self, head: bytes, connect: Callable[..., Any], buffer: memoryview) -> None:
        self._head, self._connect, self._buffer = head, connect, buffer
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self.reusable = True

    async def post(self, body: bytes, name: str, sink: Sink) -> None:
        """Send a request and read its answer; see ``Connection``."""
        if self._transport is None:
            try:
                async with asyncio.timeout(CONNECT_S):
                    self._transport, _ = await self._connect(lambda: self)
            except (OSError, TimeoutError) as error:
                why = str(error) or f"it does not answer within {CONNECT_S:g} s"
                fix = failures.untrusted(why)
                raise BadEvent("no connection", f"{why}; {fix}" if fix else why) from None
        self._sink, self._rest = sink, b""
        self._in_head, self._left = True, 0
        self._chunked = self._last = self._until_closed = False
        self._unpack: Callable[[bytes], bytes] = bytes
        self._done = asyncio.get_running_loop().create_future()
        request = b"%bContent-Length: %d\r\nX-Request-Id: %b\r\n\r\n%b"
        self._transport.write(request % (self._head, len(body), name.encode(), body))
        await self._done

    async def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.abort()

    def get_buffer(self, _wanted: int) -> memoryview:
        """Return where to put the bytes; they are taken out before another connection reads."""
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        """Read as far as the bytes go."""
        if self._done is None or self._done.done():  # nobody asked
            self.reusable = False
            return
        try:
            data = self._rest + self._buffer[:count]
            self._rest = data[self._read(data) :]
            if len(self._rest) > _LONGEST:
                raise ValueError(f"a line of more than {_LONGEST} bytes")
        except BadEvent as error:
            self._end(error)
        except (ValueError, zlib.error) as error:
            self._end(BadEvent("not an answer", f"its answer is not HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """End the answer, which is whole only if this is how its end is told."""
        self.reusable = False
        if self._done is not None:
            whole = self._until_closed and error is None
            kind = Closed if self._in_head and not self._rest else BadEvent
            self._end(None if whole else kind("cut", ""))

    def _end(self, error: BadEvent | None = None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None) if error is None else self._done.set_exception(error)

    def _read(self, data: bytes) -> int:
        """Return how many bytes were used."""
        at = 0
        while at < len(data):
            if self._done is None or self._done.done():  # more than the answer
                self.reusable = False
                return len(data)
            if self._in_head:
                found = data.find(b"\r\n\r\n", at)
                if not b"HTTP/1.".startswith(data[at : at + 7]):
                    raise ValueError(repr(data[at : at + 40]))
                if found < 0:
                    break
                self._start(data[at:found].decode("latin-1"))
                at = found + 4
            elif self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                self._sink.data(self._unpack(part))
                if not (self._left or self._chunked):
                    self._end()
            else:
                found = data.find(b"\r\n", at)
                if found < 0:
                    break
                self._line(data[at:found])
                at = found + 2
        return at

    def _start(self, text: str) -> None:
        status, *lines = text.split("\r\n")
        number = int(status[9:12])
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if 100 <= number < 200:
            return
        self._in_head = False
        if headers.get("content-encoding", "identity") != "identity":
            # Nobody asked for it, but some proxies do so. 47: gzip or zlib, as its head says.
            self._unpack = zlib.decompressobj(47).decompress
        self._sink.head(number, headers)
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = "0" if number in (204, 304) else headers.get("content-length")
        self._until_closed = not self._chunked and length is None
        self._left = 0 if self._chunked else _size(length or str(sys.maxsize), 10)
        if status.startswith("HTTP/1.0") or headers.get("connection", "").lower() == "close":
            self.reusable = False
        if not (self._left or self._chunked):
            self._end()

    def _line(self, line: bytes) -> None:
        """Read the line before a chunk, or the empty one after it, or a trailer."""
        if self._last:
            if not line:
                self._end()
        elif line:
            self._left = _size(line.partition(b";")[0].decode("latin-1"), 16)
            self._last = not self._left


def _size(text: str, base: int) -> int:
    size = int(text, base)
    if size < 0:
        raise ValueError(f"a part of {size} bytes")
    return size


class ProxiedConnection:
    """A connection of the OpenAI client's HTTP library, which knows proxies."""

    reusable = True

    def __init__(self, client: Any) -> None:
        self._client = client

    async def post(self, body: bytes, name: str, sink: Sink) -> None:
        """Send a request and read its answer; see ``Connection``."""
        headers = {"X-Request-Id": name}
        answered = False
        try:
            async with self._client.stream("POST", CHAT, content=body, headers=headers) as response:
                answered = True
                sink.head(response.status_code, response.headers)
                async for data in response.aiter_bytes():
                    sink.data(data)
        except Exception as error:
            if failures.kind(error) == "cut" and not answered:
                raise Closed("cut", "") from None
            raise

    async def close(self) -> None:
        """Close it."""
        await self._client.aclose()


def connector(server: Server) -> Callable[[], Connection]:
    """Return a function that creates a connection.

    Raises:
        QwenkitError: none can be created: a proxy or the machine's certificates are wrong.
    """
    url = urlsplit(server.gateway)
    host, headers = (
        str(url.hostname),
        {
            "Host": server.host or url.netloc,
            "Authorization": f"Bearer {server.key or 'none'}",
            "Content-Type": "application/json",
        },
    )
    # Shared, because reading the machine's certificates takes longer than most requests.
    trusted = authorities(server.gateway, server.ca)
    proxies = {} if is_loopback(server.gateway) or proxy_bypass(host) else getproxies()
    if url.scheme in proxies or "all" in proxies:
        return _through_proxy(server, headers, trusted)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {url.path}{CHAT} HTTP/1.1\r\n{lines}".encode()
    port = url.port or (443 if trusted else 80)

    async def connect(protocol: Callable[[], asyncio.BaseProtocol]) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(protocol, host, port, ssl=trusted)

    return partial(DirectConnection, head, connect, memoryview(bytearray(2**16)))


def _through_proxy(
    server: Server, headers: dict[str, str], trusted: ssl.SSLContext | None
) -> Callable[[], Connection]:
    import openai

    def create() -> Connection:
        client = openai.DefaultAsyncHttpxClient(
            base_url=server.gateway,
            headers=headers,
            timeout=openai.Timeout(server.timeout_s, connect=min(CONNECT_S, server.timeout_s)),
            follow_redirects=False,
            verify=trusted or True,
        )
        return ProxiedConnection(client)

    try:
        create()
    except (ImportError, OSError, ValueError) as error:
        raise failures.no_client(server.gateway, error) from None
    return create

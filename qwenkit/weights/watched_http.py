"""HTTP connections that end: when the work is stopped, when bytes drip, when headers never end.

A socket's timeout bounds one wait, not an answer: a server that sends a byte a second is never
silent. So the bytes of each answer are watched where they leave the socket, headers, sizes of
chunks and trailers included. The waits are short enough to notice a stop or a deadline.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.wait import wait_for_read

from qwenkit.weights.retry import active_stop

LEAST_BPS = 1024  # bytes a second that an answer must have, on average over a window
WINDOW_S = 20.0  # of waiting for bytes; time in which nobody reads does not count
OVERHEAD = 256 << 10  # bytes of headers, or of chunk sizes and trailers around one read
_POLL_S = 0.5


class FlowError(OSError):
    """An answer came too slowly, or, if ``final``, had headers or trailers without end."""

    def __init__(self, text: str, *, final: bool) -> None:
        super().__init__(text)
        self.final = final


def flow_error(error: BaseException | None) -> FlowError | None:
    """Return why an answer was given up, if that is behind another library's error."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, FlowError):
            return error
        if type(error) in (http.client.LineTooLong, http.client.HTTPException):
            return FlowError(f"its headers are not HTTP: {error}", final=True)
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


class WatchedAdapter(HTTPAdapter):
    """The transport of ``requests``, with watched answers."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make connections that are watched."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Make connections through a proxy that are watched; not through SOCKS."""
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager


class _WatchedBytes(io.RawIOBase):
    """The bytes of one answer, as they leave the socket."""

    def __init__(self, sock: Any, inner: io.BufferedIOBase) -> None:
        # Closing ``inner`` releases the socket; it is never read.
        self._sock, self._inner = sock, inner
        self._begun = False
        self._waited, self._got, self.allowed = 0.0, 0, math.inf

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        began = time.monotonic()
        self._wait(began)
        count: int = self._sock.recv_into(buffer)
        self.allowed -= count
        if self.allowed < 0:
            text = f"it sends more than {OVERHEAD} bytes of headers, chunk sizes or trailers"
            raise FlowError(text, final=True)
        if self._begun:  # the time to the first byte is the server's thinking, and has a timeout
            self._waited += time.monotonic() - began
            self._got += count
        self._begun = True
        if self._waited >= WINDOW_S:
            if self._got < LEAST_BPS * self._waited:
                text = f"it sent {self._got} bytes in {self._waited:.0f} s"
                raise FlowError(f"{text}, less than {LEAST_BPS} a second", final=False)
            self._waited, self._got = 0.0, 0
        return count

    def _wait(self, began: float) -> None:
        if not isinstance(self._sock, socket.socket):
            return  # TLS through a proxy's TLS: decrypted bytes may wait where nobody can look
        pending = getattr(self._sock, "pending", lambda: 0)  # decrypted bytes
        limit_s = self._sock.gettimeout() or math.inf
        while not pending() and not wait_for_read(self._sock, min(_POLL_S, limit_s)):
            active_stop().check()
            if time.monotonic() - began >= limit_s:
                raise TimeoutError("timed out")

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            super().close()


class _WatchedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._watched = _WatchedBytes(sock, self.fp)
        self.fp = io.BufferedReader(self._watched, 64 << 10)

    def begin(self) -> None:
        self._watched.allowed = OVERHEAD
        super().begin()
        self._watched.allowed = math.inf

    def read1(self, n: int = -1) -> bytes:
        self._watched.allowed = max(n, 0) + OVERHEAD
        return super().read1(n)


class _WatchedConnection(HTTPConnection):
    response_class = _WatchedResponse


class _WatchedTlsConnection(HTTPSConnection):
    response_class = _WatchedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}

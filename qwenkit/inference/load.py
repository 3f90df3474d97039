"""Closed-loop load on the server: each client waits for its last answer.

Every request streams, so time to first token and time per token are measured on the user's side.
All clients share one event loop in its own thread, because a notebook's event loop is already
running. Requests use the OpenAI client's HTTP library, but not the client itself: two hundred of
those would take the CPU that the sandbox's server needs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from qwenkit.errors import InvalidValue
from qwenkit.inference.client import Server, load_transport
from qwenkit.inference.raw import CHAT
from qwenkit.inference.results import LoadProgress, LoadRequest, LoadResult

# A client waits after a failure, so that a refused connection does not become a busy loop.
_PAUSE_S = 0.5
_PROGRESS_S = 5.0


def run_load(
    server: Server,
    *,
    clients: int,
    seconds: float,
    prompt: str,
    max_tokens: int,
    on_progress: Callable[[LoadProgress], None] | None = None,
    **sampling: Any,
) -> LoadResult:
    """Load the server and return every request's times and outcome.

    No request starts after ``seconds``; running ones get the server's timeout to end. An
    interrupt ends the load early and returns what was measured so far. ``on_progress`` is called
    every few seconds.

    Raises:
        InvalidValue: no clients, or no time.
    """
    if clients < 1:
        raise InvalidValue("clients", clients, "must be at least 1")
    if not 0 < seconds < float("inf"):
        raise InvalidValue("seconds", seconds, "must be more than 0 and finite")
    asked = server.body(prompt, max_tokens=max_tokens, **sampling) | {"stream": True}
    body = json.dumps(asked, ensure_ascii=False).encode()
    run = _Run(server, body, clients, seconds)
    with ThreadPoolExecutor(1, "qwenkit-load") as thread:
        running = thread.submit(run.main)
        try:
            _watch(running, run, on_progress)
        except KeyboardInterrupt:
            run.stop()
        running.result()
    requests = tuple(sorted(run.requests, key=lambda request: request.start_s))
    return LoadResult(clients, requests, run.elapsed(), run.began)


def _watch(
    running: Future[None], run: _Run, on_progress: Callable[[LoadProgress], None] | None
) -> None:
    due_s = _PROGRESS_S
    # With a short timeout, because an interrupt does not end a wait on every system.
    while wait([running], timeout=0.25).not_done:
        if on_progress is not None and run.elapsed() >= due_s:
            due_s += _PROGRESS_S
            on_progress(LoadProgress(run.elapsed(), run.running, tuple(run.requests)))


class _Run:
    """One load while it runs; ``main`` runs in its thread, other threads may read the rest."""

    def __init__(self, server: Server, body: bytes, clients: int, seconds: float) -> None:
        self.requests: list[LoadRequest] = []
        self.running = 0
        self._server, self._body = server, body
        self._clients, self._seconds = clients, seconds
        self.began, self._end = time.monotonic(), 0.0
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()

    def elapsed(self) -> float:
        """Return the seconds since the start, or of the whole load once it has ended."""
        return (self._end or time.monotonic()) - self.began

    def stop(self) -> None:
        """End the load from another thread; running requests are cancelled."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopped.set)

    def main(self) -> None:
        """Run the load to its end."""
        try:
            self._loop.run_until_complete(self._all())
        finally:
            self._end = time.monotonic()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _all(self) -> None:
        connect = load_transport(self._server)
        self.began = time.monotonic()
        tasks = [asyncio.create_task(self._client(connect)) for _ in range(self._clients)]
        stopping = asyncio.create_task(self._stopped.wait())
        everything = asyncio.gather(*tasks)
        awaited: set[asyncio.Future[Any]] = {everything, stopping}
        limit = self._seconds + self._server.timeout_s
        await asyncio.wait(awaited, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, everything, return_exceptions=True)

    async def _client(self, connect: Callable[[], Any]) -> None:
        # One connection pool per client: a shared pool searches all its connections each time.
        async with connect() as client:
            while time.monotonic() - self.began < self._seconds:
                await self._one(client)

    async def _one(self, client: Any) -> None:
        self.running += 1
        try:
            done = await self._request(client)
        finally:
            self.running -= 1
        self.requests.append(done)
        if done.outcome == "failed":
            await asyncio.sleep(_PAUSE_S)

    async def _request(self, client: Any) -> LoadRequest:
        meter = _StreamMeter(time.monotonic() - self.began)
        try:
            await self._send(client, meter)
        except asyncio.CancelledError:
            self.requests.append(meter.failed(self.elapsed(), "unfinished"))
            raise
        except Exception as error:
            return meter.failed(self.elapsed(), _kind(error))
        return meter.done(self.elapsed())

    async def _send(self, client: Any, meter: _StreamMeter) -> None:
        rest = b""
        async with client.stream("POST", CHAT, content=self._body) as response:
            if response.status_code != 200:
                raise _Refused(f"http {response.status_code}")
            async for data in response.aiter_bytes():
                *lines, rest = (rest + data).split(b"\n")
                now_s = self.elapsed()
                for line in lines:
                    if line.startswith(b"data: {"):
                        meter.line(line, now_s)


class _StreamMeter:
    """Measures one request from the lines of its stream."""

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._first_s: float | None = None
        self._last_s = 0.0
        self._pieces = 0
        self._tokens = 0
        self._finish = ""

    def line(self, line: bytes, now_s: float) -> None:
        """Add one ``data:`` line."""
        chunk = json.loads(line.removeprefix(b"data: "))
        if "error" in chunk or chunk.get("object") == "error":
            raise _Refused("error in stream")
        if usage := chunk.get("usage"):
            self._tokens = int(usage.get("completion_tokens") or 0)
        for choice in chunk.get("choices") or []:
            # The first piece of a chat has only the role, and is not a token.
            if (choice.get("delta") or {}).get("content"):
                self._first_s = now_s if self._first_s is None else self._first_s
                self._last_s = now_s
                self._pieces += 1
            self._finish = choice.get("finish_reason") or self._finish

    def done(self, end_s: float) -> LoadRequest:
        """Return the finished request; a stream without a finish reason was cut."""
        if not self._finish:
            return self.failed(end_s, "cut")
        tokens = self._tokens or self._pieces
        return LoadRequest(self._start_s, end_s, "ok", "", self._first_s, self._last_s, tokens)

    def failed(self, end_s: float, why: str) -> LoadRequest:
        """Return the request as a failure."""
        return LoadRequest(
            self._start_s, end_s, "failed", why, self._first_s, self._last_s, self._pieces
        )


class _Refused(Exception):
    """The server refused the request, before or in the stream."""


def _kind(error: Exception) -> str:
    """Return the kind of a failure, by which failures are counted.

    It uses class names: the OpenAI client's HTTP library changed its modules, not its names.
    """
    name = type(error).__name__
    if isinstance(error, _Refused):
        return str(error)
    if "Timeout" in name:
        return "timeout"
    known = {"ConnectError": "no connection", "ReadError": "cut", "RemoteProtocolError": "cut"}
    return known.get(name, name)

"""What one client may hold: connections and their time, bodies, watches, objects."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from qwenkit.sandbox.connections import BodyBudget, Limits
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.storage.store import ObjectStore

QUICK = Limits(header_s=0.4, idle_s=0.4, least_rate=1000, connections=5)
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


def on_server(
    talk: Callable[[int], Awaitable[Any]], *, budget: int = 2**20, limits: Limits = QUICK
) -> Any:
    """Run ``talk`` with the port of a server that answers with the length of the body."""
    bodies = BodyBudget(budget)

    async def answer(request: web.Request) -> web.Response:
        async with bodies.body(request, most=2**20) as body:
            return web.Response(text=str(len(body)))

    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/", answer)
        server = await listen(app, limits=limits)
        try:
            return await talk(int(urlsplit(server.url).port or 0))
        finally:
            await server.close()
            assert bodies.held == 0

    return asyncio.run(run())


async def ended(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces with pauses; return what came before the server closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"GET / HTTP/1.1\r\n"],
        [b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 12],
        [PUT, b"half"],
        [PUT, *[b"x"] * 12],
    ],
)
def test_a_request_that_does_not_end_is_ended(pieces: list[bytes]) -> None:
    assert on_server(lambda port: ended(port, *pieces, pause=0.1)) == b""


def test_a_slow_but_steady_body_arrives() -> None:
    pieces = [PUT + b"x" * 10_000, *[b"x" * 10_000] * 9, b"GET / HTTP/1.1\r\nHost: x\r\n"]
    said = on_server(lambda port: ended(port, *pieces, pause=0.1))
    assert said.endswith(b"\r\n\r\n100000")


def test_a_connection_too_many_is_closed_at_once() -> None:
    async def talk(port: int) -> bytes:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        try:
            request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            return await asyncio.wait_for(ended(port, request), 5)
        finally:
            for _, writer in held:
                writer.close()

    assert on_server(talk, limits=Limits(connections=5)) == b""


def test_all_unfinished_bodies_together_are_bounded() -> None:
    async def talk(port: int) -> list[bytes]:
        head = b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 60000\r\n\r\n"
        first = asyncio.create_task(ended(port, head + b"x" * 50_000, pause=0.3))
        await asyncio.sleep(0.1)
        second = await ended(port, head + b"x" * 60_000)
        small = head.replace(b"60000", b"10")
        return [second, await ended(port, small + b"x" * 10), await first]

    second, small, _ = on_server(talk, budget=80_000)
    assert second.startswith(b"HTTP/1.1 503")
    assert small.endswith(b"\r\n\r\n10")


def test_a_header_too_large_is_refused() -> None:
    line = b"X: " + b"y" * 20_000 + b"\r\n"
    said = on_server(lambda port: ended(port, b"GET / HTTP/1.1\r\n" + line * 200 + b"\r\n"))
    assert said == b"" or said.startswith(b"HTTP/1.0 400") or said.startswith(b"HTTP/1.1 400")


def store(most_bytes: int = 2**25) -> ObjectStore:
    made = ObjectStore(Kinds(), most_bytes=most_bytes)
    made.create("Namespace", {"metadata": {"name": "default"}})
    return made


def config_map(data: str) -> dict[str, Any]:
    return {"metadata": {"name": "m", "namespace": "default"}, "data": {"a": data}}


def test_the_history_is_bounded_by_bytes() -> None:
    made = store(100_000)
    made.create("ConfigMap", config_map(""))
    for number in range(30):
        made.update("ConfigMap", config_map(str(number) * 10_000))
    kept = made.changes_since("ConfigMap", made.revision - 4)
    assert len(kept) == 4
    assert sum(len(json.dumps(change.object)) for change in kept) < 100_000
    with pytest.raises(ApiError, match="too old resource version"):
        made.changes_since("ConfigMap", 2)


def test_a_watch_that_is_not_read_is_closed() -> None:
    async def run() -> tuple[int, int]:
        made = store()
        lazy, eager = made.subscribe({"ConfigMap"}, most_bytes=100_000), made.subscribe()
        made.create("ConfigMap", config_map(""))
        for number in range(30):
            made.update("ConfigMap", config_map(str(number) * 10_000))
        eager.close()
        return len([one async for one in lazy]), eager._queue.qsize()

    lazy, eager = asyncio.run(run())
    assert lazy == 0
    assert eager == 32  # every change, and the end


def test_an_object_has_a_size_and_pods_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    made = store()
    with pytest.raises(ApiError, match="Request entity too large"):
        made.create("ConfigMap", config_map("x" * 2**21))
    monkeypatch.setattr("qwenkit.sandbox.kube.policies.admission._MOST_PODS", 2)
    spec = {"containers": [{"name": "c", "image": "i"}]}
    for name in ("one", "two"):
        made.create("Pod", {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    with pytest.raises(ApiError, match="exceeded quota"):
        made.create("Pod", {"metadata": {"name": "more", "namespace": "default"}, "spec": spec})


def test_a_port_is_free_again_after_its_connections_were_ended() -> None:
    port = on_server(lambda port: asyncio.sleep(0, port))
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))

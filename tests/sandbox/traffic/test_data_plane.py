"""What the gateway does to requests and answers on the wire, before containers that show it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

import aiohttp
import paced
import pytest
from aiohttp import web
from node_world import client, meta, split, until

from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet.node import Node
from qwenkit.sandbox.traffic.gateway import IngressGateway

HOST = "qwen.default.example.com"
REVISION = "qwen-00001"
FORGED = {"X-Qwenkit-Pod": "other", "x-qwenkit-clock": "1", "X-Qwenkit-More": "1"}


class Containers:
    """Where pods listen: one server each, which shows what arrives or does as its path says."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}
        self.asked: list[str] = []
        self.answer_clock = 10.0
        self.broken = asyncio.Event()

    def address(self, uid: str) -> str | None:
        return self.urls.get(uid)

    def answer_delay(self, _pod: str) -> float:
        return 0.0

    async def answers(self, uid: str) -> bool:
        return uid in self.urls

    def app(self, name: str) -> web.Application:
        async def show(request: web.Request) -> web.StreamResponse:
            self.asked.append(name)
            body = await request.read()
            if request.path == "/stall":
                await self._endless(request)
            if request.path == "/break" and request.transport:
                request.transport.abort()
            seen = {
                "pod": name,
                "method": request.method,
                "target": request.raw_path,
                "headers": [[key, value] for key, value in request.headers.items()],
                "size": len(body),
            }
            answered = {"X-From": "container", "Keep-Alive": "x"} | FORGED
            status = 500 if request.path == "/error" else 200
            return web.json_response(seen, status=status, headers=answered)

        app = web.Application(client_max_size=2**27)
        app.router.add_route("*", "/{path:.*}", show)
        return app

    async def _endless(self, request: web.Request) -> None:
        """Write until nobody takes it any more."""
        response = web.StreamResponse()
        try:
            await response.prepare(request)
            while True:
                await response.write(b"x" * 2**16)
        finally:
            self.broken.set()


@dataclass
class Plane:
    """A gateway, its store, and containers behind it."""

    store: ObjectStore
    traffic: Traffic
    containers: Containers
    url: str = ""

    def revision(self, *, proxied: bool = True, **spec: Any) -> None:
        self.store.create("Revision", meta(REVISION, spec=spec))
        mode = "Proxy" if proxied else "Serve"
        self.store.create("ServerlessService", meta(REVISION, spec={"mode": mode}))
        path = {"splits": [split(REVISION, 100)]}
        rules = [
            {"hosts": [HOST], "visibility": "ExternalIP", "http": {"paths": [path]}},
            {"hosts": ["qwen.default"], "visibility": "ClusterLocal", "http": {"paths": [path]}},
        ]
        self.store.create("Ingress", meta("qwen", spec={"rules": rules}))

    def pod(self, name: str, url: str) -> None:
        labels = {"serving.knative.dev/revision": REVISION}
        pod = meta(name, spec={"containers": [{"name": "c", "image": "i"}]})
        pod["metadata"]["labels"] = labels
        created = self.store.create("Pod", pod)
        self.containers.urls[created["metadata"]["uid"]] = url
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.store.update_status("Pod", {**created, "status": ready})


@asynccontextmanager
async def plane(*pods: str, **revision: Any) -> AsyncIterator[Plane]:
    made = Plane(ObjectStore(Kinds()), Traffic(), Containers())
    made.store.create("Namespace", {"metadata": {"name": "default"}})
    made.revision(**revision)
    gateway = IngressGateway(made.store, cast(Node, made.containers), made.traffic)
    servers = [await listen(made.containers.app(name)) for name in pods]
    for name, server in zip(pods, servers, strict=True):
        made.pod(name, server.url)
    listening = await listen(gateway.app())
    made.url = listening.url
    try:
        yield made
    finally:
        await listening.close()
        for server in servers:
            await server.close()


Test = Callable[[Plane, aiohttp.ClientSession], Awaitable[None]]


def in_plane(*pods: str, **revision: Any) -> Callable[[Test], Callable[[], None]]:
    """Run a test against a gateway with these containers behind it."""

    def decorated(test: Test) -> Callable[[], None]:
        async def run() -> None:
            async with plane(*(pods or ("one",)), **revision) as made, client() as session:
                await test(made, session)

        return lambda: paced.run(run())

    return decorated


async def get(
    made: Plane, session: aiohttp.ClientSession, path: str = "/", **headers: str
) -> tuple[int, str]:
    given = {"Host": HOST, **{key.replace("_", "-"): value for key, value in headers.items()}}
    async with session.get(made.url + path, headers=given) as response:
        return response.status, await response.text()


async def raw(made: Plane, request: bytes) -> bytes:
    """Send bytes and read until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(made.url.rpartition(":")[2]))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("proxied", [True, False])
def test_a_container_sees_the_request_as_behind_knatives_proxies(proxied: bool) -> None:
    async def test(made: Plane, session: aiohttp.ClientSession) -> None:
        request = (
            f"GET /a%2Fb//c?x=%20&y=1 HTTP/1.1\r\nHost: {HOST}:80\r\nConnection: close, X-Mine\r\n"
            "X-Mine: 1\r\nKnative-Serving-Revision: other\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n"
        )
        head, _, body = (await raw(made, request.encode())).partition(b"\r\n\r\n")
        seen = json.loads(body)
        names = {name.lower(): value for name, value in seen["headers"]}
        request_id = names.pop("x-request-id")
        assert len(request_id) == 36
        assert seen["target"] == "/a%2Fb//c?x=%20&y=1"
        expected = {
            "host": f"{HOST}:80",
            "x-forwarded-for": "10.1.1.1, 127.0.0.1",
            "x-forwarded-proto": "http",
            "forwarded": "for=10.1.1.1;proto=http, for=127.0.0.1",
        }
        assert names == expected | ({"k-proxy-request": "activator"} if proxied else {})
        assert b"\r\nServer: envoy\r\n" in head
        assert b"\r\nX-From: container\r\n" in head
        assert b"Keep-Alive" not in head

    in_plane(proxied=proxied)(test)()


@in_plane()
async def test_an_answer_says_which_pod_gave_it_and_how_fast_its_clock_runs(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    async def told(path: str, host: str = HOST) -> list[tuple[str, str]]:
        async with session.get(made.url + path, headers={"Host": host}) as response:
            items = [(name.lower(), value) for name, value in response.headers.items()]
            return sorted(item for item in items if item[0].startswith("x-qwenkit-"))

    given = [("clock", "10"), ("pod", "one"), ("revision", REVISION)]
    for path in ("/", "/error", "/stall"):
        assert await told(path) == [(f"x-qwenkit-{name}", value) for name, value in given]
    made.containers.answer_clock = 0.5
    assert ("x-qwenkit-clock", "0.5") in await told("/")
    for path, host in (("/", "other.example.com"), ("/break", HOST)):  # the gateway's own answers
        assert await told(path, host) == []


@in_plane()
async def test_only_the_worlds_name_of_a_service_is_served(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    for host, status in (
        (f"{HOST}:8080", 200),
        (HOST.upper(), 200),
        (f"{HOST}.", 404),
        ("qwen.default", 404),
        (f"x{HOST}", 404),
    ):
        assert (await get(made, session, Host=host))[0] == status
    absolute = f"GET http://{HOST}/p?q=1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    assert b'"target": "/p?q=1"' in await raw(made, absolute.encode())


@pytest.mark.parametrize(
    ("proxied", "headers", "expected"),
    [
        (True, {"User_Agent": "kube-probe/1.36"}, (200, "")),
        (True, {"K_Kubelet_Probe": "x"}, (200, "")),
        (True, {"K_Network_Probe": "activator"}, (200, "activator")),
        (True, {"K_Network_Probe": "q"}, (400, 'unexpected probe header value: "q"\n')),
        (True, {"K_Network_Probe": "probe", "K_Network_Hash": "h"}, (200, "")),
        (False, {"K_Network_Probe": "probe", "K_Network_Hash": "h"}, (200, "")),
        (False, {"User_Agent": "kube-probe/1.36"}, (400, "unexpected probe header value: \n")),
        (False, {"User_Agent": "kube-probe/1", "K_Network_Probe": "queue"}, (200, "queue")),
    ],
)
def test_probes_are_answered_on_the_way(
    proxied: bool, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    async def test(made: Plane, session: aiohttp.ClientSession) -> None:
        assert await get(made, session, "/healthz", **headers) == expected
        assert made.containers.asked == []
        assert made.traffic.sample("default", REVISION, 1.0) is None
        assert (await get(made, session, "/healthz"))[0] == 200  # the path alone is no probe
        assert made.containers.asked == ["one"]

    in_plane(proxied=proxied)(test)()


@in_plane()
async def test_bodies_arrive_whole_however_they_are_sent(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 10_000

    sent: list[tuple[Any, dict[str, str], int]] = [
        (chunks(), {}, 2_000_000),
        (BytesIO(b"y" * 30_000_000), {"Expect": "100-continue"}, 30_000_000),
        (None, {}, 0),
    ]
    for data, headers, size in sent:
        async with session.post(
            made.url + "/up", data=data, headers={"Host": HOST, **headers}
        ) as response:
            assert (await response.json())["size"] == size
    async with session.post(
        made.url + "/up", data=BytesIO(bytes(64 * 2**20 + 1)), headers={"Host": HOST}
    ) as response:
        assert response.status == 413


@in_plane()
async def test_methods_without_a_body_and_connections_that_are_kept(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    ask = f"HTTP/1.1\r\nHost: {HOST}\r\n"
    both = f"HEAD / {ask}\r\nOPTIONS /o {ask}Connection: close\r\n\r\n"
    answer = await raw(made, both.encode())
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert rest.startswith(b"HTTP/1.1")  # nothing followed the first head
    assert b'"method": "OPTIONS"' in rest


@in_plane()
async def test_websockets_are_refused_in_plain_words(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    status, text = await get(made, session, Upgrade="websocket", Connection="Upgrade")
    assert (status, "WebSocket" in text) == (501, True)
    # An offer of HTTP/2 may be passed over.
    assert (await get(made, session, Upgrade="h2c", Connection="Upgrade"))[0] == 200


@in_plane("one", "two")
async def test_a_pod_that_dies_with_a_request_is_not_asked_for_another_answer(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    async with session.post(made.url + "/break", headers={"Host": HOST}) as response:
        assert (response.status, await response.text()) == (502, "EOF\n")
    assert len(made.containers.asked) == 1


@in_plane(timeoutSeconds=1)
async def test_a_client_that_stops_reading_does_not_hold_its_pod_for_ever(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    port = int(made.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(f"GET /stall HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    await until(lambda: made.traffic.in_flight("default", REVISION) == 1)
    await until(lambda: made.traffic.in_flight("default", REVISION) == 0)
    await made.containers.broken.wait()
    writer.transport.abort()


@in_plane(timeoutSeconds=1)
async def test_a_client_that_never_ends_its_request_is_answered_504(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    port = int(made.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 504")
    writer.transport.abort()
    assert made.containers.asked == []


@in_plane()
async def test_an_object_that_makes_no_sense_stops_no_other(
    made: Plane, session: aiohttp.ClientSession
) -> None:
    made.store.create("Ingress", meta("odd", spec={"rules": [{"hosts": "x", "http": 3}]}))
    made.store.delete("Ingress", "default", "qwen")
    await until(lambda: not made.store.list("Ingress", "default", {"a": "b"}))
    path = {"splits": [split(REVISION, 100)]}
    rule = {"hosts": ["new.test"], "visibility": "ExternalIP", "http": {"paths": [path]}}
    made.store.create("Ingress", meta("new", spec={"rules": [rule]}))
    for _ in range(1000):
        if (await get(made, session, Host="new.test"))[0] == 200:
            return
    raise AssertionError("the gateway heard of nothing any more")

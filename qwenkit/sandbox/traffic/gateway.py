"""The gateway: routes by Host, holds requests until there is a pod, streams the answer.

Kourier, activator and queue-proxy in one: unknown hosts get 404 with an empty body; a request
counts for the autoscaler from its arrival on; a stream is never buffered and never retried once
its first byte is out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import BytesIO

import aiohttp
from aiohttp import web
from yarl import URL

from qwenkit.errors import NotReady
from qwenkit.sandbox.connections import bodies
from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.clock import loop_time
from qwenkit.sandbox.controllers.object_fields import key_of
from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.storage.history import WatchEvent
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet.node import Node
from qwenkit.sandbox.traffic import headers, probes
from qwenkit.sandbox.traffic.activator import Backend, RevisionPods
from qwenkit.sandbox.traffic.routes import Routes

log = logging.getLogger("qwenkit.sandbox.traffic")

HEALTH_HOST = "internalkourier"
_KINDS = ("Ingress", "Revision", "ServerlessService", "Pod")
_MAX_BODY = 64 * 2**20
_FOREVER_S = 10 * 365 * 86_400.0
_LAST_WRITE_S = 1.0
_NO_UPGRADE = "the sandbox's gateway does not upgrade connections to WebSocket"
Key = tuple[str, str]


@dataclass
class _Revision:
    """A revision's pods and timeouts. Timeouts in seconds; 0 is none."""

    name: str
    pods: RevisionPods
    timeout_s: float = 300
    response_start_s: float = 0
    idle_s: float = 0
    proxied: bool = True
    """Whether the activator is in the path."""

    def configure(self, spec: Mapping[str, float]) -> None:
        self.timeout_s = spec.get("timeoutSeconds") or 300
        self.response_start_s = spec.get("responseStartTimeoutSeconds") or 0
        self.idle_s = spec.get("idleTimeoutSeconds") or 0
        self.pods.configure(int(spec.get("containerConcurrency") or 0))


class IngressGateway:
    """The cluster's external gateway.

    Args:
        store: holds the Ingress objects, revisions and pods.
        node: knows the addresses of pods.
        traffic: the counts that the autoscaler samples.
    """

    def __init__(self, store: ObjectStore, node: Node, traffic: Traffic) -> None:
        self._store, self._node, self._traffic = store, node, traffic
        self._routes = Routes()
        self._revisions: dict[Key, _Revision] = {}

    def app(self) -> web.Application:
        """Return the gateway; it follows the store while the application runs."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(_sign)
        app.cleanup_ctx.append(self._running)
        return app

    async def _running(self, _: web.Application) -> AsyncIterator[None]:
        changes = self._store.subscribe(set(_KINDS))
        for kind in _KINDS:
            for obj in self._store.list(kind):
                self._change(WatchEvent("ADDED", kind, obj, self._store.revision))

        async def follow() -> None:
            async for change in changes:
                self._change(change)

        task = asyncio.create_task(follow())
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            skip_auto_headers=headers.NOT_ADDED,
        ) as self._session:
            yield
        changes.close()
        await task
        for revision in self._revisions.values():
            revision.pods.close()

    # Following the store

    def _change(self, change: WatchEvent) -> None:
        """Apply a change; an invalid object must not stop the others."""
        try:
            self._remove(change) if change.type == "DELETED" else self._update(change)
        except (KeyError, TypeError, AttributeError):
            log.exception("%s %s", change.kind, change.object["metadata"]["name"])

    def _remove(self, change: WatchEvent) -> None:
        obj = change.object
        if change.kind == "Ingress":
            self._routes.remove(obj)
        elif change.kind == "Revision":
            if gone := self._revisions.pop(key_of(obj), None):
                gone.pods.close()
        elif change.kind == "Pod" and (revision := self._revisions.get(_revision_of(obj))):
            revision.pods.remove(obj["metadata"]["uid"])

    def _update(self, change: WatchEvent) -> None:
        kind, obj = change.kind, change.object
        key = key_of(obj)
        if kind == "Ingress":
            self._routes.update(obj)
        elif kind == "Revision":
            self._revision(key).configure(obj.get("spec", {}))
        elif kind == "ServerlessService":
            self._revision(key).proxied = at(obj, "spec", "mode") != "Serve"
        elif (owner := _revision_of(obj))[1]:
            self._revision(owner).pods.update(obj)

    def _revision(self, key: Key) -> _Revision:
        if key not in self._revisions:
            self._revisions[key] = _Revision(key[1], RevisionPods(self._node))
        return self._revisions[key]

    # Serving

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if host.partition(":")[0] == HEALTH_HOST:
            return web.Response(text="ok")
        split = self._routes.find(host, request.path)
        if split is None:
            return web.Response(status=404)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return web.Response(status=501, text=_NO_UPGRADE)
        revision = self._revisions.get((split.namespace, split.revision))
        if revision is None:
            return web.Response(status=503, text="no healthy upstream")
        proxied = revision.proxied or not revision.pods.has_pods()
        if (answer := probes.answer(request.headers, proxied=proxied)) is not None:
            return answer
        self._traffic.enter(split.namespace, split.revision)
        try:
            exchange = _Exchange(self._session, self._node, request, revision, proxied=proxied)
            return await exchange.run()
        finally:
            self._traffic.leave(split.namespace, split.revision)


class _Exchange:
    """One request to a pod, and its answer."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        node: Node,
        request: web.Request,
        revision: _Revision,
        *,
        proxied: bool,
    ) -> None:
        self._session, self._node, self._request = session, node, request
        self._revision, self._proxied = revision, proxied
        now = loop_time()
        self._end = now + revision.timeout_s
        self._first = now + min(
            revision.timeout_s,
            revision.response_start_s or _FOREVER_S,
            revision.idle_s or _FOREVER_S,
        )
        self._choose = revision.pods.activated if proxied else revision.pods.direct
        self._late = "activator request timeout" if proxied else "request timeout"

    async def run(self) -> web.StreamResponse:
        """Send the request to a pod, or to another if that one is gone; return the answer."""
        try:
            async with asyncio.timeout_at(self._first) as until_first:
                async with bodies.body(self._request, most=_MAX_BODY) as body:
                    while True:
                        async with self._choose() as backend:
                            answer = await self._forward(backend, body, until_first)
                        if answer is not None:
                            return answer
        except TimeoutError:
            return web.Response(status=504, text=self._late)
        except NotReady as error:
            return probes.refusal(503, error.what)

    async def _forward(
        self, backend: Backend, body: bytes, until_first: asyncio.Timeout
    ) -> web.StreamResponse | None:
        """Stream the pod's answer to the client; return None if the pod does not listen."""
        address = self._node.address(backend.uid)
        if address is None:
            backend.ready = False
            return None
        await asyncio.sleep(self._node.answer_delay(backend.name))
        try:
            upstream = await self._session.request(
                self._request.method,
                URL(address + self._target(), encoded=True),
                headers=self._headers(),
                data=BytesIO(body) if body else None,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError:
            backend.ready = False
            return None
        except aiohttp.ClientError:
            # The pod may have begun to work: another one could do it twice.
            return probes.refusal(502, "EOF")
        until_first.reschedule(None)
        async with upstream:
            return await self._pass_on(upstream, backend.name)

    async def _pass_on(self, upstream: aiohttp.ClientResponse, pod: str) -> web.StreamResponse:
        kept = headers.to_client(
            upstream.headers,
            pod=pod,
            revision=self._revision.name,
            clock=self._node.answer_clock,
        )
        response = web.StreamResponse(status=upstream.status, headers=kept)
        idle_s = self._revision.idle_s or _FOREVER_S
        try:
            await response.prepare(self._request)
            while True:
                # Also a client that does not read what is written runs out of time.
                async with asyncio.timeout_at(min(self._end, loop_time() + idle_s)):
                    chunk = await upstream.content.readany()
                    if not chunk:
                        break
                    await response.write(chunk)
            await response.write_eof()
        except TimeoutError:
            await self._cut(response, self._late.encode())
        except (aiohttp.ClientError, ConnectionResetError):
            # The pod died in the middle: the client must not take this for the end of the answer.
            await self._cut(response)
        return response

    def _target(self) -> str:
        """Return path and query as they were sent; a client of a proxy sends the host too."""
        raw = self._request.raw_path
        return raw if raw.startswith("/") else self._request.rel_url.raw_path_qs or "/"

    def _headers(self) -> Mapping[str, str]:
        client = self._request.remote or "127.0.0.1"
        return headers.to_container(self._request.headers, client, proxied=self._proxied)

    async def _cut(self, response: web.StreamResponse, last_bytes: bytes = b"") -> None:
        """Break the connection, so that the client knows that the answer is incomplete."""
        transport = self._request.transport
        if transport is None:
            return
        try:
            async with asyncio.timeout(_LAST_WRITE_S):
                if last_bytes:
                    await response.write(last_bytes)
            transport.close()
        except (TimeoutError, ConnectionResetError):
            transport.abort()


async def _sign(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "envoy"


def _revision_of(pod: Object) -> Key:
    """Return the key of a pod's revision; the name is "" for any other pod."""
    name = at(pod, "metadata", "labels", names.REVISION)
    return pod["metadata"]["namespace"], name or ""

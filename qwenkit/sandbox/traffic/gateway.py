"""The gateway: routes by Host, holds requests until a pod is there, passes bytes as they come.

Kourier, activator and queue-proxy in one: unknown hosts get 404 with an empty body; a request
counts for the autoscaler from its arrival on; a stream is never buffered and never retried once
its first byte is out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from qwenkit.errors import NotReady
from qwenkit.sandbox.kube.history import Change
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.store import Store
from qwenkit.sandbox.kubelet.node import Node
from qwenkit.sandbox.traffic.activator import Backend, RevisionPods
from qwenkit.sandbox.traffic.counts import Traffic
from qwenkit.sandbox.traffic.routes import Routes, Split

HEALTH_HOST = "internalkourier"
_KINDS = ("Ingress", "Revision", "ServerlessService", "Pod")
_REVISION_LABEL = "serving.knative.dev/revision"
_MAX_BODY = 64 * 2**20
_FOREVER_S = 10 * 365 * 86_400.0
_HOP_BY_HOP = {
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
Key = tuple[str, str]


@dataclass
class _Revision:
    """What the gateway knows of a revision. Timeouts in seconds; 0 is none."""

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


class Gateway:
    """The cluster's external gateway.

    Args:
        store: where the Ingress objects, revisions and pods are.
        node: where pods listen.
        traffic: what the autoscaler samples.
    """

    def __init__(self, store: Store, node: Node, traffic: Traffic) -> None:
        self._store, self._node, self._traffic = store, node, traffic
        self._routes = Routes()
        self._revisions: dict[Key, _Revision] = {}

    def app(self) -> web.Application:
        """Return the gateway; it follows the store while the application runs."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.cleanup_ctx.append(self._running)
        return app

    async def _running(self, _: web.Application) -> AsyncIterator[None]:
        changes = self._store.subscribe(set(_KINDS))
        for kind in _KINDS:
            for obj in self._store.list(kind):
                self._learn(kind, obj)

        async def follow() -> None:
            async for change in changes:
                self._change(change)

        task = asyncio.create_task(follow())
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as self._session:
            yield
        changes.close()
        await task
        for revision in self._revisions.values():
            revision.pods.close()

    # Following the store

    def _change(self, change: Change) -> None:
        obj = change.object
        if change.type != "DELETED":
            self._learn(change.kind, obj)
        elif change.kind == "Ingress":
            self._routes.remove(obj)
        elif change.kind == "Revision":
            self._revisions.pop((obj["metadata"]["namespace"], obj["metadata"]["name"]), None)
        elif change.kind == "Pod" and (key := _revision_of(obj)) in self._revisions:
            self._revisions[key].pods.remove(obj["metadata"]["uid"])

    def _learn(self, kind: str, obj: Object) -> None:
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        if kind == "Ingress":
            self._routes.update(obj)
        elif kind == "Revision":
            self._revision(key).configure(obj.get("spec", {}))
        elif kind == "ServerlessService":
            self._revision(key).proxied = at(obj, "spec", "mode") != "Serve"
        elif (owner := _revision_of(obj)) is not None:
            self._revision(owner).pods.update(obj)

    def _revision(self, key: Key) -> _Revision:
        if key not in self._revisions:
            self._revisions[key] = _Revision(RevisionPods(self._node))
        return self._revisions[key]

    # Serving

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if host.partition(":")[0] == HEALTH_HOST:
            return web.Response(text="ok")
        split = self._routes.find(host, request.path)
        if split is None:
            return web.Response(status=404)
        revision = self._revisions.get((split.namespace, split.revision))
        if revision is None:
            return web.Response(status=503, text="no healthy upstream")
        self._traffic.enter(split.namespace, split.revision)
        try:
            return await _Exchange(self._session, self._node, request, split, revision).run()
        finally:
            self._traffic.leave(split.namespace, split.revision)


class _Exchange:
    """One request on its way to a pod, and the answer on its way back."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        node: Node,
        request: web.Request,
        split: Split,
        revision: _Revision,
    ) -> None:
        self._session, self._node, self._request = session, node, request
        self._split, self._revision = split, revision
        now = asyncio.get_running_loop().time()
        self._end = now + revision.timeout_s
        self._last = now
        self._first = now + min(
            revision.timeout_s,
            revision.response_start_s or _FOREVER_S,
            revision.idle_s or _FOREVER_S,
        )
        proxied = revision.proxied or not revision.pods.has_pods()
        self._choose = revision.pods.activated if proxied else revision.pods.direct
        self._late = "activator request timeout" if proxied else "request timeout"

    async def run(self) -> web.StreamResponse:
        """Send the request to a pod, to another one if that one is gone; return the answer."""
        body = await self._request.read()
        while True:
            try:
                async with asyncio.timeout_at(self._first) as until_first:
                    async with self._choose() as backend:
                        answer = await self._ask(backend, body, until_first)
            except TimeoutError:
                return web.Response(status=504, text=self._late)
            except NotReady as error:
                return web.Response(status=503, text=error.what)
            if answer is not None:
                return answer

    async def _ask(
        self, backend: Backend, body: bytes, until_first: asyncio.Timeout
    ) -> web.StreamResponse | None:
        """Return the pod's answer, passed on; None if the pod gave no byte of one."""
        address = self._node.address(backend.uid)
        if address is None:
            return None
        try:
            upstream = await self._session.request(
                self._request.method,
                URL(address + self._request.raw_path, encoded=True),
                headers=self._headers(),
                data=body or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectionError, aiohttp.ClientOSError):
            backend.ready = False
            return None
        until_first.reschedule(None)
        async with upstream:
            return await self._pass_on(upstream)

    async def _pass_on(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = _end_to_end(upstream.headers)
        response = web.StreamResponse(status=upstream.status, headers=headers)
        await response.prepare(self._request)
        loop = asyncio.get_running_loop()
        idle_s = self._revision.idle_s or _FOREVER_S
        try:
            while True:
                async with asyncio.timeout_at(min(self._end, loop.time() + idle_s)):
                    chunk = await upstream.content.readany()
                if not chunk:
                    break
                await response.write(chunk)
        except TimeoutError:
            await response.write(self._late.encode())
            self._cut()
        except aiohttp.ClientError:
            # The pod died in the middle: the client must not take this for the end.
            self._cut()
        with suppress(ConnectionResetError):
            await response.write_eof()
        return response

    def _headers(self) -> CIMultiDict[str]:
        headers = _end_to_end(self._request.headers)
        headers.update(self._split.headers)
        headers["X-Forwarded-Proto"] = "http"
        headers.add("X-Forwarded-For", self._request.remote or "127.0.0.1")
        return headers

    def _cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.close()


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept = ((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)
    return CIMultiDict(kept)


def _revision_of(pod: Object) -> Key | None:
    name = at(pod, "metadata", "labels", _REVISION_LABEL)
    return (pod["metadata"]["namespace"], name) if name else None

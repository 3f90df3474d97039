"""A proxy in front of a Kubernetes API that spoils chosen answers, over real TCP and TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from qwenkit.sandbox.http import listen

PAGE = b"<!DOCTYPE html><html><body><h1>Bad Gateway</h1></body></html>"
_STATUS = {
    "429": (429, "Too many requests, please try again later.", {}),
    "429 in 1 s": (429, "Too many requests, please try again later.", {"Retry-After": "1"}),
    "429 in a day": (429, "Too many requests", {"Retry-After": "100000"}),
    "429 nonsense": (429, "Too many requests", {"Retry-After": "-soon"}),
    "500": (500, "etcdserver: request timed out", {}),
    "500 webhook": (500, 'failed calling webhook "webhook.serving.knative.dev": EOF', {}),
    "502": (502, "", {}),
    "503": (503, "the server is currently unable to handle the request", {"Retry-After": "1"}),
    "504": (504, "Timeout: request did not complete within the allotted timeout", {}),
    "409": (409, "Operation cannot be fulfilled: the object has been modified", {}),
    "410": (410, "The provided continue parameter is too old", {}),
}
# Beyond a status: before and after the server executed the request, and spoiled bodies.
FAULTS = (*_STATUS, "reset", "lost answer", "silence", "html", "truncated", "cut", "null items")


def verb_of(request: web.BaseRequest) -> str:
    """Return GET, LIST, LOG, READ (discovery, version), or the method."""
    parts = request.path.strip("/").split("/")
    rest = parts[2 if parts[0] == "api" else 3 :]
    if request.method != "GET":
        return request.method
    if not rest or parts[0] not in ("api", "apis"):
        return "READ"
    if rest[-1] == "log":
        return "LOG"
    rest = rest[2:] if rest[0] == "namespaces" and len(rest) > 2 else rest
    return "LIST" if len(rest) == 1 else "GET"


@dataclass
class Fault:
    """Spoils ``times`` requests of a verb after ``skip`` of them."""

    verb: str
    name: str
    skip: int = 0
    times: int = 1


@dataclass
class FaultyApi:
    """The proxy: ``arm`` faults, then read ``hits`` and ``seen``."""

    upstream: str
    trusted: ssl.SSLContext | None = None
    url: str = ""
    silence_s: float = 20.0
    hits: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    _faults: tuple[Fault, ...] = ()
    _silent_until: float = 0.0

    def arm(self, *faults: Fault) -> None:
        """Replace the faults by these; without any, nothing is spoiled."""
        self._faults = faults
        self.hits, self.seen, self._silent_until = [], {}, 0.0

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator[FaultyApi]:
        """Serve until the block ends."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="faulty-api", daemon=True)
        thread.start()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)

        async def start() -> tuple[object, aiohttp.ClientSession]:
            jar = aiohttp.DummyCookieJar()
            session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=jar)
            return await listen(app, tls=tls), session

        def run(what):  # type: ignore[no-untyped-def]
            return asyncio.run_coroutine_threadsafe(what, loop).result(30)

        listening, self._session = run(start())
        self.url = listening.url
        try:
            yield self
        finally:
            run(self._session.close())
            run(listening.close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verb = verb_of(request)
        number = self.seen[verb] = self.seen.get(verb, 0) + 1
        now = asyncio.get_running_loop().time()
        due = (f for f in self._faults if f.verb == verb and number > f.skip and f.times > 0)
        if fault := next(due, None):
            fault.times -= 1
            self.hits.append(f"{request.method} {request.path}")
            if fault.name == "silence":
                self._silent_until = now + self.silence_s
        # While the API is silent, it is so for every request.
        await asyncio.sleep(max(self._silent_until - now, 0))
        return await (self._spoiled(request, fault.name) if fault else self._forwarded(request))

    async def _spoiled(self, request: web.Request, fault: str) -> web.StreamResponse:
        if fault in _STATUS:
            code, message, headers = _STATUS[fault]
            if not message:
                return web.Response(status=code, body=PAGE, content_type="text/html")
            body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}
            return web.json_response(body, status=code, headers=headers)
        if fault == "html":
            return web.Response(body=PAGE, content_type="text/html")
        if fault == "reset":
            return _reset(request)
        async with self._ask(request) as answer:
            body = await answer.read()
            status = answer.status
        if fault == "lost answer":
            return _reset(request)
        if fault == "null items":
            body = json.dumps({**json.loads(body), "items": None, "metadata": None}).encode()
        if fault == "truncated":
            response = web.StreamResponse(status=status)
            response.content_length = len(body)
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            return _reset(request)
        if fault == "cut":
            body = body[: len(body) // 2]
        return web.Response(status=status, body=body, content_type="application/json")

    async def _forwarded(self, request: web.Request) -> web.StreamResponse:
        async with self._ask(request) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    def _ask(self, request: web.Request):  # type: ignore[no-untyped-def]
        kept = ("Authorization", "Content-Type", "Accept", "Impersonate-User")
        return self._session.request(
            request.method,
            self.upstream + str(request.rel_url),
            headers={name: request.headers[name] for name in kept if name in request.headers},
            data=request.content if request.body_exists else None,
            ssl=self.trusted if self.trusted is not None else True,
        )


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()

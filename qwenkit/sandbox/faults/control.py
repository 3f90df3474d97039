"""The HTTP endpoint through which faults are injected into a running sandbox, behind a token."""

from __future__ import annotations

import hmac
import json
import secrets

from aiohttp import web

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.sandbox.faults.catalogue import parse
from qwenkit.sandbox.faults.injector import Handler
from qwenkit.sandbox.faults.registry import FaultRegistry

PATH = "/faults"


class FaultControl:
    """Serves ``/faults``; ``token`` is in a private file under the sandbox's root."""

    def __init__(self, registry: FaultRegistry) -> None:
        self.token = secrets.token_urlsafe(24)
        self._registry = registry

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._guard], client_max_size=2**16)
        app.router.add_post(PATH, self._inject)
        app.router.add_get(PATH, self._list)
        app.router.add_delete(PATH, self._clear)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            return web.json_response({"what": "the token is wrong"}, status=401)
        try:
            return await handler(request)
        except QwenkitError as error:
            status = 400 if isinstance(error, InvalidValue) else 404
            # The value in the error's own dictionary is quoted already.
            answer = error.to_dict() | {"value": getattr(error, "value", None)}
            return web.json_response(answer, status=status)

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            raw = json.loads(await request.read())
        except ValueError as error:
            raise InvalidValue("fault", "", "must be a JSON object") from error
        if not isinstance(raw, dict):
            raise InvalidValue("fault", raw, "must be a JSON object")
        return web.json_response(self._registry.inject(parse(raw)).to_dict())

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([one.to_dict() for one in self._registry.injected()])

    async def _clear(self, _: web.Request) -> web.Response:
        return web.json_response({"cleared": self._registry.clear()})

"""The HTTP endpoint through which a running sandbox is changed: its faults, its time."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Callable
from typing import Any

from aiohttp import web

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.faults.catalogue import parse
from qwenkit.sandbox.faults.injector import Handler
from qwenkit.sandbox.faults.registry import FaultRegistry
from qwenkit.untrusted.parsing import parse_json

PATH, TIME_SCALE = "/faults", "/time-scale"
_FASTEST = 1000


class FaultControl:
    """Serves the endpoint; ``token`` is in a private file under the sandbox's root.

    Args:
        registry: the faults.
        clock: the node's.
        on_time_scale: called when another time scale holds.
    """

    def __init__(
        self, registry: FaultRegistry, clock: Clock, on_time_scale: Callable[[float], None]
    ) -> None:
        self.token = secrets.token_urlsafe(24)
        self._registry = registry
        self._clock, self._on_time_scale = clock, on_time_scale
        self._scales: dict[object, float] = {self: clock.scale}

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._guard], client_max_size=2**16)
        app.router.add_post(PATH, self._inject)
        app.router.add_get(PATH, self._list)
        app.router.add_delete(PATH, self._clear)
        app.router.add_post(TIME_SCALE, self._hold_time_scale)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
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
        raw = await _json(request, "fault")
        if not isinstance(raw, dict):
            raise InvalidValue("fault", raw, "must be a JSON object")
        return web.json_response(self._registry.inject(parse(raw)).to_dict())

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([one.to_dict() for one in self._registry.injected()])

    async def _clear(self, _: web.Request) -> web.Response:
        return web.json_response({"cleared": self._registry.clear()})

    async def _hold_time_scale(self, request: web.Request) -> web.StreamResponse:
        """Let the node's time run at the given speed for as long as the connection lasts.

        So it runs as before when the client ends, even if it is killed. The last one to come wins.
        """
        scale = await _json(request, "time_scale")
        if type(scale) not in (int, float) or not 0 < scale <= _FASTEST:
            raise InvalidValue("time_scale", scale, f"must be above 0 and at most {_FASTEST}")
        mine = object()
        self._scales[mine] = scale
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(json.dumps({"before": self._clock.scale}).encode() + b"\n")
            self._rescale()
            await asyncio.Event().wait()
        finally:
            del self._scales[mine]
            self._rescale()
        return response

    def _rescale(self) -> None:
        newest = list(self._scales.values())[-1]
        if self._clock.scale != newest:
            self._clock.rescale(newest)
            self._on_time_scale(newest)


async def _json(request: web.Request, name: str) -> Any:
    try:
        return parse_json(await request.read())
    except ValueError as error:
        raise InvalidValue(name, "", "must be JSON") from error

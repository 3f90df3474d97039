"""Inject faults into a server, by a middleware: the first fault that matches a request gets it."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Matches = Callable[[web.Request], bool]
Effect = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@dataclass
class Budget:
    """How often a fault may hit, until when, and how often it has."""

    times: float = math.inf
    ends: float = math.inf
    hits: int = 0

    @property
    def spent(self) -> bool:
        """Whether the fault hits no more."""
        return self.hits >= self.times or time.monotonic() >= self.ends

    def use(self) -> None:
        """Count a hit."""
        self.hits += 1


@dataclass
class FaultRule:
    """One fault, and the requests that it affects."""

    matches: Matches
    effect: Effect
    budget: Budget


@dataclass
class Injector:
    """The faults of one server."""

    rules: list[FaultRule] = field(default_factory=list)
    _open: dict[int, web.Request] = field(default_factory=dict, repr=False)

    def install(self, app: web.Application) -> web.Application:
        """Handle the requests of ``app`` before anything else."""
        app.middlewares.insert(0, self.handle)
        return app

    def drop(self, matches: Matches) -> int:
        """Break the connections of open requests; return how many."""
        dropped = [one.transport for one in self._open.values() if matches(one)]
        for transport in filter(None, dropped):
            transport.abort()
        return len(dropped)

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass the request to the first fault that matches it, else to the server."""
        self._open[id(request)] = request
        try:
            for rule in self.rules:
                if not rule.budget.spent and rule.matches(request):
                    rule.budget.use()
                    return await rule.effect(request, handler)
            return await handler(request)
        finally:
            del self._open[id(request)]

"""Faults in front of a server, as a middleware: the first that wants a request gets it."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Wants = Callable[[web.Request], bool]
Effect = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@dataclass
class Allowance:
    """How often and until when a fault may strike, and how often it has."""

    times: float = math.inf
    ends: float = math.inf
    hits: int = 0

    @property
    def over(self) -> bool:
        """Whether it will strike no more."""
        return self.hits >= self.times or time.monotonic() >= self.ends

    def use(self) -> None:
        """Count a hit."""
        self.hits += 1


@dataclass
class Rule:
    """One fault, and the requests that it meets."""

    wants: Wants
    effect: Effect
    allowance: Allowance


@dataclass
class Injector:
    """The faults in front of one server."""

    rules: list[Rule] = field(default_factory=list)
    _open: dict[int, web.Request] = field(default_factory=dict, repr=False)

    def add(
        self, wants: Wants, effect: Effect, times: float = math.inf, *, ends: float = math.inf
    ) -> Allowance:
        """Put a fault behind those that there are; return what it may do."""
        rule = Rule(wants, effect, Allowance(times, ends))
        self.rules.append(rule)
        return rule.allowance

    def install(self, app: web.Application) -> web.Application:
        """Stand in front of everything else of ``app``."""
        app.middlewares.insert(0, self.meddle)
        return app

    def drop(self, wants: Wants) -> int:
        """Break the connections of open requests; return how many."""
        dropped = [one.transport for one in self._open.values() if wants(one)]
        for transport in filter(None, dropped):
            transport.abort()
        return len(dropped)

    @web.middleware
    async def meddle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request to the first fault that wants it, else to the server."""
        self._open[id(request)] = request
        try:
            for rule in self.rules:
                if not rule.allowance.over and rule.wants(request):
                    rule.allowance.use()
                    return await rule.effect(request, handler)
            return await handler(request)
        finally:
            del self._open[id(request)]

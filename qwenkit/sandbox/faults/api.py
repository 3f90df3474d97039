"""Faults of the Kubernetes API: its own error answers, and watches that break off."""

from __future__ import annotations

import json

from aiohttp import web

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.faults import effects
from qwenkit.sandbox.faults.catalogue import FaultSpec
from qwenkit.sandbox.faults.injector import Effect, Matches
from qwenkit.sandbox.kube.api_error import ApiError

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_TIMED_OUT = ApiError(500, "InternalError", "etcdserver: request timed out")
_UNAVAILABLE = ApiError(
    503,
    "ServiceUnavailable",
    "the server is currently unable to handle the request",
)
_BUSY = ApiError(
    429,
    "TooManyRequests",
    "Too many requests, please try again later.",
    {"retryAfterSeconds": 1},
)


def matches(on: str) -> Matches:
    """Return whether a request has one of the methods, separated by commas; empty: any.

    Raises:
        InvalidValue: there is no such method.
    """
    asked = {name.strip().upper() for name in on.split(",") if name.strip()}
    if unknown := sorted(asked.difference(_METHODS)):
        raise InvalidValue("on", unknown[0], f"is none of {', '.join(_METHODS)}")
    chosen = asked or set(_METHODS)
    return lambda request: request.method in chosen


def watches(request: web.Request) -> bool:
    """Return whether a request is a watch."""
    return request.query.get("watch", "").lower() in ("1", "true")


def effect(spec: FaultSpec) -> Effect:
    """Return what an spec does to a request."""
    made = {"429": _BUSY, "500": _TIMED_OUT, "503": _UNAVAILABLE}
    if spec.what in made:
        return effects.answer(lambda _: _status(made[spec.what]))
    return effects.answer(lambda request: _status(_conflict(request)))


def _conflict(request: web.Request) -> ApiError:
    *_, resource, name = ["", *request.path.strip("/").split("/")]
    group = request.path.split("/")[2] if request.path.startswith("/apis/") else ""
    message = (
        f'Operation cannot be fulfilled on {resource}{"." * bool(group)}{group} "{name}": the '
        "object has been modified; please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message)


def _status(error: ApiError) -> web.Response:
    headers = {"Retry-After": "1"} if "retryAfterSeconds" in error.details else {}
    text = json.dumps(error.body(), separators=(",", ":"))
    return web.Response(
        status=error.status, text=text, content_type="application/json", headers=headers
    )

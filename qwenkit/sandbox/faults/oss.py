"""Faults of OSS: its operations by name, and its refusals in its own words."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from aiohttp import web

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.faults import effects
from qwenkit.sandbox.faults.catalogue import Order
from qwenkit.sandbox.faults.injector import Effect, Handler, Wants
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.xml import document

Abort = Callable[[str, str, str], Awaitable[None]]

_CRC = "x-oss-hash-crc64ecma"
# Method, whether a key is named, and the parameter that tells operations apart.
OPERATIONS = {
    ("PUT", True, ""): "PutObject",
    ("GET", True, ""): "GetObject",
    ("HEAD", True, ""): "HeadObject",
    ("DELETE", True, ""): "DeleteObject",
    ("GET", False, ""): "ListObjects",
    ("POST", False, "delete"): "DeleteMultipleObjects",
    ("GET", False, "bucketInfo"): "GetBucketInfo",
    ("GET", False, "uploads"): "ListMultipartUploads",
    ("POST", True, "uploads"): "InitiateMultipartUpload",
    ("PUT", True, "uploadId"): "UploadPart",
    ("GET", True, "uploadId"): "ListParts",
    ("POST", True, "uploadId"): "CompleteMultipartUpload",
    ("DELETE", True, "uploadId"): "AbortMultipartUpload",
}
_TOLD_BY = ("uploadId", "uploads", "delete", "bucketInfo")


def operation(request: web.Request) -> str:
    """Return OSS's name of the operation that a request asks for, empty if it has none here."""
    _, _, key = request.path.lstrip("/").partition("/")
    told = next((name for name in _TOLD_BY if name in request.query), "")
    return OPERATIONS.get((request.method, bool(key), told), "")


def wants(on: str) -> Wants:
    """Return whether a request is one of the operations, separated by commas; empty: any.

    Raises:
        InvalidValue: OSS has no such operation here.
    """
    names = {name.lower(): name for name in OPERATIONS.values()}
    asked = [name.strip() for name in on.split(",") if name.strip()]
    if unknown := [name for name in asked if name.lower() not in names]:
        raise InvalidValue("on", unknown[0], f"is none of {', '.join(names.values())}")
    chosen = {names[name.lower()] for name in asked} or {*names.values(), ""}
    return lambda request: operation(request) in chosen


def effect(order: Order, abort: Abort) -> Effect:
    """Return what an order does to a request; ``abort`` ends a multipart upload."""
    made: dict[str, Effect] = {
        "reset": effects.reset,
        "lost-answer": effects.lose_answer,
        "no-answer": effects.close,
        "stall": effects.stall(order.seconds),
        "500": refuse(500, "InternalError", "We encountered an internal error. Please try again."),
        "503": refuse(503, "ServiceUnavailable", "Please reduce your request rate."),
        "wrong-crc": effects.change_headers({_CRC: "1"}),
        "missing-crc": effects.change_headers({_CRC: None}),
        "changed-byte": effects.change_sent_byte,
        "clock-skew": effects.answer(lambda request: _skewed(request, order.seconds)),
        "expired-token": refuse(403, "SecurityTokenExpired", "The security token has expired."),
        "access-denied": refuse(
            403, "AccessDenied", "You have no right to access this object because of bucket acl."
        ),
        "lost-upload": _after(abort),
    }
    return made[order.what]


def refuse(status: int, code: str, message: str = "injected", **details: str) -> Effect:
    """Refuse as OSS does."""
    return effects.answer(lambda _: _error(status, code, message, **details))


def _error(status: int, code: str, message: str, **details: str) -> web.Response:
    body = document("Error", [("Code", code), ("Message", message), *details.items()])
    return web.Response(status=status, body=body, content_type="application/xml")


def _skewed(request: web.Request, seconds: float) -> web.Response:
    server = datetime.now(UTC) + timedelta(seconds=seconds)
    message = "The difference between the request time and the current time is too large."
    time = server.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return _error(403, "RequestTimeTooSkewed", message, ServerTime=time)


def _after(abort: Abort) -> Effect:
    async def effect(request: web.Request, handler: Handler) -> web.StreamResponse:
        bucket, _, key = request.path.lstrip("/").partition("/")
        with contextlib.suppress(OssError):  # there was none: the server says so itself
            await abort(bucket, key, request.query.get("uploadId", ""))
        return await handler(request)

    return effect

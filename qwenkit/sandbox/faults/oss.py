"""Faults of OSS: its operations by name, and its own error answers."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from aiohttp import web

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.faults import effects
from qwenkit.sandbox.faults.catalogue import FaultSpec
from qwenkit.sandbox.faults.injector import Effect, Handler, Matches
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.xml import document

Abort = Callable[[str, str, str], Awaitable[None]]

_CRC = "x-oss-hash-crc64ecma"
# Method, whether there is a key, and the parameter that distinguishes operations.
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
_DISTINGUISHING = ("uploadId", "uploads", "delete", "bucketInfo")


def operation(request: web.Request) -> str:
    """Return OSS's name of a request's operation, empty if it has none here."""
    _, _, key = request.path.lstrip("/").partition("/")
    parameter = next((name for name in _DISTINGUISHING if name in request.query), "")
    return OPERATIONS.get((request.method, bool(key), parameter), "")


def matches(on: str) -> Matches:
    """Return whether a request is one of the operations, separated by commas; empty: any.

    Raises:
        InvalidValue: there is no such operation.
    """
    names = {name.lower(): name for name in OPERATIONS.values()}
    asked = [name.strip() for name in on.split(",") if name.strip()]
    if unknown := [name for name in asked if name.lower() not in names]:
        raise InvalidValue("on", unknown[0], f"is none of {', '.join(names.values())}")
    chosen = {names[name.lower()] for name in asked} or {*names.values(), ""}
    return lambda request: operation(request) in chosen


def effect(spec: FaultSpec, abort: Abort) -> Effect:
    """Return what an spec does to a request; ``abort`` ends a multipart upload."""
    made: dict[str, Effect] = {
        "reset": effects.reset,
        "lost-answer": effects.lose_answer,
        "no-answer": effects.close,
        "stall": effects.stall(spec.seconds),
        "500": refuse(500, "InternalError", "We encountered an internal error. Please try again."),
        "503": refuse(503, "ServiceUnavailable", "Please reduce your request rate."),
        "wrong-crc": effects.change_headers({_CRC: "1"}),
        "missing-crc": effects.change_headers({_CRC: None}),
        "changed-byte": effects.change_sent_byte,
        "clock-skew": effects.answer(lambda request: _skewed(request, spec.seconds)),
        "expired-token": refuse(403, "SecurityTokenExpired", "The security token has expired."),
        "public-endpoint": refuse(
            403, "PublicEndpointForbidden", "Data may not be accessed by the public endpoint."
        ),
        "access-denied": refuse(
            403, "AccessDenied", "You have no right to access this object because of bucket acl."
        ),
        "lost-upload": _after(abort),
    }
    return made[spec.what]


def refuse(status: int, code: str, message: str = "injected", **details: str) -> Effect:
    """Answer with an error of OSS."""
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

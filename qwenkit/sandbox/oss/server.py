"""The sandbox's OSS: the object store's HTTP protocol over a folder of ordinary files.

Objects are files at ``ROOT/<bucket>/<key>``; everything else is under ``ROOT/.qwenkit/``.
A file is served as it is on disk, also if another program wrote it. The answer to what
``README.md`` lists as left out is NotImplemented.
"""

from __future__ import annotations

import base64
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, unquote_plus

from aiohttp import web

from qwenkit.sandbox.oss.buckets import Buckets
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.key_paths import MAX_KEY_BYTES
from qwenkit.sandbox.oss.multipart import Multipart
from qwenkit.sandbox.oss.objects import Objects
from qwenkit.sandbox.oss.request import OssRequest
from qwenkit.sandbox.oss.signature import SUBRESOURCES, SignedRequest, verify
from qwenkit.sandbox.oss.store import EtagKind, OssStore
from qwenkit.sandbox.oss.uploads import Uploads
from qwenkit.sandbox.oss.xml import document

_log = logging.getLogger("qwenkit.sandbox.oss")
_Handler = Callable[[OssRequest], Awaitable[web.StreamResponse]]
_ID = web.RequestKey("oss_request_id", str)
_STARTED = web.RequestKey("oss_started", float)

# Parameters that V1 signs but that only modify an operation.
_MODIFIERS = re.compile(
    r"partNumber|security-token|continuation-token|response-.*|x-oss-(traffic|request|ac)-.*"
)
# Headers that ask for what a bucket of files cannot do; ignoring them would be dishonest.
_LEFT_OUT = re.compile(
    r"x-oss-(server-side-(data-)?encryption.*|tagging(-directive)?|callback(-var)?|process"
    r"|traffic-limit|object-acl|copy-source-if-.*|object-worm-.*)",
    re.IGNORECASE,
)


class OssServer:
    """An OSS endpoint for one account in one region.

    Args:
        root: the folder of buckets.
        keys: secrets by access key id; never logged.
        region: the region of V4 signatures.
        buckets: created at the start if they do not exist.
        etag: ``"crc"`` saves the MD5 that a real ETag needs; for benchmarks of clients.
    """

    def __init__(
        self,
        root: Path,
        keys: Mapping[str, str],
        *,
        region: str = "cn-hangzhou",
        buckets: Iterable[str] = (),
        etag: EtagKind = "md5",
    ) -> None:
        self._root, self._keys, self._region = root, dict(keys), region
        self._buckets, self._etag = tuple(buckets), etag
        self._store: OssStore | None = None
        self._uploads: Uploads | None = None
        self._operations: dict[tuple[str, str, str], _Handler] = {}

    def app(self) -> web.Application:
        """Return the application; its start opens the folder."""
        app = web.Application()
        app.router.add_route("*", r"/{path:[\s\S]*}", self._answer)
        app.on_response_prepare.append(_add_headers)
        app.cleanup_ctx.append(self._running)
        return app

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort a multipart upload, as another client may do.

        Raises:
            OssError: NoSuchUpload.
        """
        assert self._uploads
        await self._uploads.abort(self._uploads.get(bucket, key, upload_id))

    async def _running(self, app: web.Application) -> AsyncIterator[None]:
        self._store = store = OssStore(self._root, etag=self._etag)
        self._uploads = uploads = Uploads(store)
        self._operations = _operations(store, uploads, self._region)
        try:
            for bucket in self._buckets:
                store.create_bucket(bucket)
            yield
        finally:
            await uploads.drain()
            store.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        request[_STARTED] = time.monotonic()
        try:
            oss_request = self._read(request)
            handler = self._handler(oss_request)
            return await handler(oss_request)
        except OssError as error:
            _log.debug("%s %s: %s", request.method, request.rel_url.raw_path, error.code)
            return _failed(request, error)
        except ConnectionError:  # the client left in the middle of its body
            return _failed(request, OssError("IncompleteBody"))
        except Exception:
            _log.exception("%s %s", request.method, request.rel_url.raw_path)
            return _failed(request, OssError("InternalError"))

    def _read(self, request: web.Request) -> OssRequest:
        """Return a request whose signature is valid, with its bucket and key."""
        assert self._store
        bucket, key = _address(request, self._store.names.is_bucket)
        query = tuple(_parameters(request.rel_url.raw_query_string))
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), value)
        signed = SignedRequest(request.method, bucket, key, query, headers)
        verify(signed, self._keys, region=self._region, now=datetime.now(UTC))
        return OssRequest(request, bucket, key, dict(query))

    def _handler(self, oss_request: OssRequest) -> _Handler:
        level = "object" if oss_request.key else "bucket" if oss_request.bucket else "service"
        named = [
            name
            for name in oss_request.query
            if name in SUBRESOURCES and not _MODIFIERS.fullmatch(name)
        ]
        operation = named[0] if named else ""
        handler = self._operations.get((level, oss_request.http.method, operation))
        left_out = [name for name in oss_request.http.headers if _LEFT_OUT.fullmatch(name)]
        if left_out:
            message = f"The sandbox's OSS does not support the header {left_out[0]}."
            raise OssError("NotImplemented", message)
        if handler and len(named) <= 1:
            return handler
        if named:
            what = f"{oss_request.http.method} ?{'&'.join(named)} on a {level}"
            raise OssError("NotImplemented", f"The sandbox's OSS does not do {what}.")
        raise OssError("MethodNotAllowed", Method=oss_request.http.method)


def _operations(
    store: OssStore, uploads: Uploads, region: str
) -> dict[tuple[str, str, str], _Handler]:
    """Return the handlers by level, method and sub-resource."""
    objects, multipart = Objects(store), Multipart(store, uploads)
    buckets = Buckets(store, uploads, region=region)
    return {
        ("service", "GET", ""): buckets.service,
        ("bucket", "PUT", ""): buckets.put,
        ("bucket", "DELETE", ""): buckets.delete,
        ("bucket", "GET", ""): buckets.list_objects,
        ("bucket", "GET", "bucketInfo"): buckets.info,
        ("bucket", "GET", "location"): buckets.location,
        ("bucket", "GET", "stat"): buckets.stat,
        ("bucket", "GET", "uploads"): buckets.list_uploads,
        ("bucket", "POST", "delete"): buckets.delete_objects,
        ("object", "PUT", ""): objects.put,
        ("object", "HEAD", ""): objects.head,
        ("object", "HEAD", "objectMeta"): objects.meta,
        ("object", "GET", ""): objects.get,
        ("object", "DELETE", ""): objects.delete,
        ("object", "POST", "uploads"): multipart.initiate,
        ("object", "PUT", "uploadId"): multipart.upload_part,
        ("object", "GET", "uploadId"): multipart.list_parts,
        ("object", "POST", "uploadId"): multipart.complete,
        ("object", "DELETE", "uploadId"): multipart.abort,
    }


def _address(request: web.Request, is_bucket: Callable[[str], bool]) -> tuple[str, str]:
    """Return bucket and key; the key is decoded once, from the raw path."""
    raw = request.rel_url.raw_path.removeprefix("/")
    bucket = _bucket_of_host(request.host, is_bucket)
    if not bucket:
        bucket, _, raw = raw.partition("/")
    try:
        key = unquote(raw, errors="strict")
    except UnicodeDecodeError as error:
        raise OssError("InvalidObjectName", "An object name must be UTF-8.") from error
    if len(key.encode("utf-8", "surrogateescape")) > MAX_KEY_BYTES:
        message = f"An object name has at most {MAX_KEY_BYTES} bytes."
        raise OssError("InvalidObjectName", message)
    return bucket, key


def _bucket_of_host(host: str, is_bucket: Callable[[str], bool]) -> str:
    """Return the bucket of a virtual-host style request, empty for path style."""
    name = re.sub(r":\d+$", "", host).lower()
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        bucket, _, rest = name.partition(".")
        endpoint = rest.endswith("localhost") or rest.startswith("oss-")
        return bucket if endpoint or (rest and is_bucket(bucket)) else ""
    return ""


def _parameters(query: str) -> Iterable[tuple[str, str]]:
    for item in query.split("&"):
        if item:
            name, _, value = item.partition("=")
            yield unquote_plus(name), unquote_plus(value)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "AliyunOSS"
    response.headers["x-oss-request-id"] = _request_id(request)
    if _STARTED in request:  # a middleware may answer before us
        elapsed = time.monotonic() - request[_STARTED]
        response.headers["x-oss-server-time"] = str(round(elapsed * 1000))


def _request_id(request: web.Request) -> str:
    if _ID not in request:
        request[_ID] = secrets.token_hex(12).upper()
    return request[_ID]


def _failed(request: web.Request, error: OssError) -> web.Response:
    """Render an error; the answer to HEAD has it in a header instead of a body."""
    body = document(
        "Error",
        [
            ("Code", error.code),
            ("Message", error.message),
            ("RequestId", _request_id(request)),
            ("HostId", request.host),
            *error.details.items(),
            *([("EC", error.ec)] if error.ec else []),
        ],
    )
    headers = {"x-oss-ec": error.ec} if error.ec else {}
    if error.status == 304:
        return web.Response(status=304, headers=headers)
    if request.method == "HEAD":
        headers["x-oss-err"] = base64.b64encode(body).decode()
        return web.Response(status=error.status, headers=headers)
    return web.Response(
        status=error.status, headers=headers, body=body, content_type="application/xml"
    )

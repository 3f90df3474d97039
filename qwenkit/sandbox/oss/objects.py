"""Operations on objects: put, copy, head, get, delete."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from aiohttp import web

from qwenkit.sandbox.oss import ranges
from qwenkit.sandbox.oss.body import copy, receive, send_file
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.ledger import ObjectRecord
from qwenkit.sandbox.oss.request import (
    STANDARD_HEADERS,
    OssRequest,
    body_headers,
    check_length,
    empty,
    meta_headers,
    object_headers,
    quoted,
    xml,
)
from qwenkit.sandbox.oss.store import OssStore
from qwenkit.sandbox.oss.xml import timestamp


class Objects:
    """Handlers of one store's objects."""

    def __init__(self, store: OssStore) -> None:
        self._store = store

    async def put(self, request: OssRequest) -> web.StreamResponse:
        """PutObject, or CopyObject where a source is named."""
        self._store.bucket(request.bucket)
        if request.header("x-oss-copy-source"):
            return await self._copy(request)
        headers = request.stored_headers()
        check_length(request)
        self._check_overwrite(request)
        with self._store.temporary() as path:
            with_md5 = self._store.with_md5 or request.expected_md5() is not None
            with path.open("wb", buffering=0) as file:
                digest = await receive(request.http.content, file, with_md5=with_md5)
            request.check_body(digest)
            self._check_overwrite(request)
            record = self._store.commit(
                path, request.bucket, request.key, digest=digest, headers=headers
            )
        return empty(headers=body_headers(digest, record.etag))

    async def _copy(self, request: OssRequest) -> web.StreamResponse:
        source = unquote(request.header("x-oss-copy-source")).removeprefix("/")
        bucket, _, key = source.partition("/")
        if "?" in key or not key:
            raise OssError("InvalidArgument", "The copy source must be /bucket/key.")
        path, original = await self._store.find(bucket, key)
        replaces = request.header("x-oss-metadata-directive").upper() == "REPLACE"
        headers = request.stored_headers() if replaces else dict(original.headers)
        self._check_overwrite(request)
        with self._store.temporary() as target:
            with path.open("rb", buffering=0) as file, target.open("wb", buffering=0) as new:
                digest = await asyncio.to_thread(copy, file, new, with_md5=self._store.with_md5)
            record = self._store.commit(
                target, request.bucket, request.key, digest=digest, headers=headers
            )
        return xml(
            "CopyObjectResult",
            [
                ("LastModified", timestamp(record.mtime_ns // 10**9)),
                ("ETag", quoted(record.etag)),
            ],
            {"ETag": quoted(record.etag), "x-oss-hash-crc64ecma": str(record.crc)},
        )

    async def head(self, request: OssRequest) -> web.StreamResponse:
        """HeadObject."""
        record = (await self._store.find(request.bucket, request.key))[1]
        _check_conditions(request, record)
        return _sized(object_headers(record), record.size)

    async def meta(self, request: OssRequest) -> web.StreamResponse:
        """GetObjectMeta."""
        record = (await self._store.find(request.bucket, request.key))[1]
        return _sized(meta_headers(record), record.size)

    async def get(self, request: OssRequest) -> web.StreamResponse:
        """GetObject, whole or one range."""
        path, record = await self._store.find(request.bucket, request.key)
        with path.open("rb", buffering=0) as file:
            _check_conditions(request, record)
            headers = object_headers(record) | _overrides(request)
            standard = request.header("x-oss-range-behavior").lower() == "standard"
            wanted = ranges.requested(request.header("Range"), record.size, standard=standard)
            return await send_file(request.http, file, record.size, wanted, headers)

    async def delete(self, request: OssRequest) -> web.StreamResponse:
        """DeleteObject; an object that does not exist is no error."""
        self._store.delete(request.bucket, request.key)
        return empty(204)

    def _check_overwrite(self, request: OssRequest) -> None:
        if request.forbids_overwrite and self._store.exists(request.bucket, request.key):
            raise OssError("FileAlreadyExists", Key=request.key)


def _sized(headers: dict[str, str], size: int) -> web.StreamResponse:
    return empty(headers={**headers, "Content-Length": str(size)})


def _overrides(request: OssRequest) -> dict[str, str]:
    """Return the headers that the parameters of a GET (mostly presigned) replace."""
    found = {name: request.text(f"response-{name}") for name in STANDARD_HEADERS}
    if any(not value.isprintable() for value in found.values()):
        raise OssError("InvalidArgument", "A response header holds control characters.")
    return {name: value for name, value in found.items() if value}


def _check_conditions(request: OssRequest, record: ObjectRecord) -> None:
    modified = record.mtime_ns // 10**9
    match, none_match = request.header("If-Match"), request.header("If-None-Match")
    if match and match.strip('"') != record.etag:
        raise OssError("PreconditionFailed", Condition="If-Match")
    unmodified_since = _date(request.header("If-Unmodified-Since"))
    if unmodified_since is not None and modified > unmodified_since:
        raise OssError("PreconditionFailed", Condition="If-Unmodified-Since")
    if none_match and none_match.strip('"') == record.etag:
        raise OssError("NotModified")
    modified_since = _date(request.header("If-Modified-Since"))
    if modified_since is not None and modified <= modified_since:
        raise OssError("NotModified")


def _date(header: str) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except ValueError:  # RFC 9110: a date that cannot be read does not count
        return None

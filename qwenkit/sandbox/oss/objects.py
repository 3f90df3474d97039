"""Operations on objects: put, head, get, delete."""

from __future__ import annotations

import re

from aiohttp import web

from qwenkit.sandbox.oss.body import receive, send_file
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.request import (
    OssRequest,
    body_headers,
    check_length,
    empty,
    meta_headers,
    object_headers,
)
from qwenkit.sandbox.oss.store import OssStore


class Objects:
    """Handlers of one store's objects."""

    def __init__(self, store: OssStore) -> None:
        self._store = store

    async def put(self, request: OssRequest) -> web.StreamResponse:
        """PutObject."""
        self._store.bucket(request.bucket)
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

    async def head(self, request: OssRequest) -> web.StreamResponse:
        """HeadObject."""
        record = (await self._store.find(request.bucket, request.key))[1]
        return _sized(object_headers(record), record.size)

    async def meta(self, request: OssRequest) -> web.StreamResponse:
        """GetObjectMeta."""
        record = (await self._store.find(request.bucket, request.key))[1]
        return _sized(meta_headers(record), record.size)

    async def get(self, request: OssRequest) -> web.StreamResponse:
        """GetObject, whole or one range."""
        path, record = await self._store.find(request.bucket, request.key)
        with path.open("rb", buffering=0) as file:
            wanted = requested_range(request.header("Range"), record.size)
            return await send_file(request.http, file, record.size, wanted, object_headers(record))

    async def delete(self, request: OssRequest) -> web.StreamResponse:
        """DeleteObject; an object that does not exist is no error."""
        self._store.delete(request.bucket, request.key)
        return empty(204)

    def _check_overwrite(self, request: OssRequest) -> None:
        if request.forbids_overwrite and self._store.exists(request.bucket, request.key):
            raise OssError("FileAlreadyExists", Key=request.key)


def _sized(headers: dict[str, str], size: int) -> web.StreamResponse:
    return empty(headers={**headers, "Content-Length": str(size)})


def requested_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte to send, None for the whole object with status 200.

    OSS ignores a range that is not within the object, where HTTP has status 416. Of several
    ranges the first is used.
    """
    found = re.match(r"bytes=(\d{0,19})-(\d{0,19})(?:,|$)", header.replace(" ", ""), re.ASCII)
    if not found or not any(found.groups()):
        return None
    first, last = found.groups()
    start = int(first) if first else size - int(last)
    end = int(last) if first and last else size - 1
    return (start, end) if 0 <= start <= end < size else None

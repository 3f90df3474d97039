"""Operations on multipart uploads: initiate, upload part, list parts, complete, abort."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from qwenkit.sandbox.oss.body import receive
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.ledger import PartRecord, UploadRecord
from qwenkit.sandbox.oss.request import (
    OssRequest,
    body_headers,
    check_length,
    empty,
    quoted,
    storage_class,
    xml,
)
from qwenkit.sandbox.oss.store import ObjectStore
from qwenkit.sandbox.oss.uploads import MAX_PART_NUMBER, Uploads
from qwenkit.sandbox.oss.xml import Children, parse_complete, timestamp


class Multipart:
    """Handlers of one store's multipart uploads."""

    def __init__(self, store: ObjectStore, uploads: Uploads) -> None:
        self._store, self._uploads = store, uploads

    async def initiate(self, call: OssRequest) -> web.StreamResponse:
        """InitiateMultipartUpload."""
        self._store.bucket(call.bucket)
        if call.forbids_overwrite and self._store.exists(call.bucket, call.key):
            raise OssError("FileAlreadyExists", Key=call.key)
        upload = self._uploads.start(call.bucket, call.key, call.stored_headers())
        return xml(
            "InitiateMultipartUploadResult",
            [
                ("Bucket", call.bucket),
                ("Key", call.encoded(call.key)),
                ("UploadId", upload.id),
                *call.encoding(),
            ],
        )

    async def upload_part(self, call: OssRequest) -> web.StreamResponse:
        """UploadPart."""
        if call.header("x-oss-copy-source"):
            raise OssError("NotImplemented", "The sandbox's OSS does not do UploadPartCopy.")
        upload = self._upload(call)
        if not call.text("partNumber"):
            raise OssError("InvalidArgument", "partNumber is required.")
        number = call.number("partNumber", default=0, low=1, high=MAX_PART_NUMBER)
        check_length(call)
        with_md5 = self._store.with_md5 or call.expected_md5() is not None
        with self._uploads.room(upload, number, call.request.content_length) as room:
            digest = await receive(call.request.content, room.file, with_md5=with_md5)
            call.check_body(digest)
            etag = self._store.etag(digest)
            await self._uploads.keep(upload, number, room, digest=digest, etag=etag)
        return empty(headers=body_headers(digest, etag))

    async def list_parts(self, call: OssRequest) -> web.StreamResponse:
        """ListParts."""
        upload = self._upload(call)
        limit = call.number("max-parts", default=1000, low=1, high=1000)
        marker = call.number("part-number-marker", default=0, low=0, high=MAX_PART_NUMBER)
        behind = [part for part in self._uploads.parts(upload).values() if part.number > marker]
        page = behind[:limit]
        return xml(
            "ListPartsResult",
            [
                *_addressed(call, upload),
                ("StorageClass", storage_class(upload.headers)),
                ("PartNumberMarker", marker),
                ("NextPartNumberMarker", page[-1].number if page else marker),
                ("MaxParts", limit),
                ("IsTruncated", len(behind) > limit),
                *(("Part", _facts(part)) for part in page),
            ],
        )

    async def complete(self, call: OssRequest) -> web.StreamResponse:
        """CompleteMultipartUpload."""
        upload = self._upload(call)
        overwrite = not call.forbids_overwrite
        wanted = _wanted(call, await call.body())
        record = await self._uploads.complete(upload, wanted, overwrite=overwrite)
        return xml(
            "CompleteMultipartUploadResult",
            [
                *call.encoding(),
                (
                    "Location",
                    str(call.request.url.origin().with_path(f"/{call.bucket}/{call.key}")),
                ),
                ("Bucket", call.bucket),
                ("Key", call.encoded(call.key)),
                ("ETag", quoted(record.etag)),
            ],
            {"ETag": quoted(record.etag), "x-oss-hash-crc64ecma": str(record.crc)},
        )

    async def abort(self, call: OssRequest) -> web.StreamResponse:
        """AbortMultipartUpload."""
        await self._uploads.abort(self._upload(call))
        return empty(204)

    def _upload(self, call: OssRequest) -> UploadRecord:
        return self._uploads.get(call.bucket, call.key, call.text("uploadId"))


def _wanted(call: OssRequest, body: bytes) -> Sequence[tuple[int, str]] | None:
    if call.header("x-oss-complete-all").lower() != "yes":
        return parse_complete(body)
    if body:
        message = "x-oss-complete-all: yes means all parts; a list of parts contradicts it."
        raise OssError("InvalidArgument", message)
    return None


def _addressed(call: OssRequest, upload: UploadRecord) -> Children:
    facts = [
        ("Bucket", upload.bucket),
        ("Key", call.encoded(upload.key)),
        ("UploadId", upload.id),
    ]
    return [*facts, *call.encoding()]


def _facts(part: PartRecord) -> Children:
    return [
        ("PartNumber", part.number),
        ("LastModified", timestamp(part.modified)),
        ("ETag", quoted(part.etag)),
        ("HashCrc64ecma", str(part.crc)),
        ("Size", part.size),
    ]

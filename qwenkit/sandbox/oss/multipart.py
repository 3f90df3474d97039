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
from qwenkit.sandbox.oss.store import OssStore
from qwenkit.sandbox.oss.uploads import MAX_PART_NUMBER, Uploads
from qwenkit.sandbox.oss.xml import Children, parse_complete, timestamp


class Multipart:
    """Handlers of one store's multipart uploads."""

    def __init__(self, store: OssStore, uploads: Uploads) -> None:
        self._store, self._uploads = store, uploads

    async def initiate(self, request: OssRequest) -> web.StreamResponse:
        """InitiateMultipartUpload."""
        self._store.bucket(request.bucket)
        if request.forbids_overwrite and self._store.exists(request.bucket, request.key):
            raise OssError("FileAlreadyExists", Key=request.key)
        upload = self._uploads.start(request.bucket, request.key, request.stored_headers())
        return xml(
            "InitiateMultipartUploadResult",
            [
                ("Bucket", request.bucket),
                ("Key", request.encoded(request.key)),
                ("UploadId", upload.id),
                *request.encoding(),
            ],
        )

    async def upload_part(self, request: OssRequest) -> web.StreamResponse:
        """UploadPart."""
        if request.header("x-oss-copy-source"):
            raise OssError("NotImplemented", "The sandbox's OSS does not do UploadPartCopy.")
        upload = self._upload(request)
        if not request.text("partNumber"):
            raise OssError("InvalidArgument", "partNumber is required.")
        number = request.number("partNumber", default=0, low=1, high=MAX_PART_NUMBER)
        check_length(request)
        with_md5 = self._store.with_md5 or request.expected_md5() is not None
        with self._uploads.slot(upload, number, request.http.content_length) as slot:
            digest = await receive(request.http.content, slot.file, with_md5=with_md5)
            request.check_body(digest)
            etag = self._store.etag(digest)
            await self._uploads.keep(upload, number, slot, digest=digest, etag=etag)
        return empty(headers=body_headers(digest, etag))

    async def list_parts(self, request: OssRequest) -> web.StreamResponse:
        """ListParts."""
        upload = self._upload(request)
        limit = request.number("max-parts", default=1000, low=1, high=1000)
        marker = request.number("part-number-marker", default=0, low=0, high=MAX_PART_NUMBER)
        rest = [part for part in self._uploads.parts(upload).values() if part.number > marker]
        page = rest[:limit]
        return xml(
            "ListPartsResult",
            [
                *_addressed(request, upload),
                ("StorageClass", storage_class(upload.headers)),
                ("PartNumberMarker", marker),
                ("NextPartNumberMarker", page[-1].number if page else marker),
                ("MaxParts", limit),
                ("IsTruncated", len(rest) > limit),
                *(("Part", _facts(part)) for part in page),
            ],
        )

    async def complete(self, request: OssRequest) -> web.StreamResponse:
        """CompleteMultipartUpload."""
        upload = self._upload(request)
        overwrite = not request.forbids_overwrite
        wanted = _wanted(request, await request.body())
        record = await self._uploads.complete(upload, wanted, overwrite=overwrite)
        return xml(
            "CompleteMultipartUploadResult",
            [
                *request.encoding(),
                (
                    "Location",
                    str(request.http.url.origin().with_path(f"/{request.bucket}/{request.key}")),
                ),
                ("Bucket", request.bucket),
                ("Key", request.encoded(request.key)),
                ("ETag", quoted(record.etag)),
            ],
            {"ETag": quoted(record.etag), "x-oss-hash-crc64ecma": str(record.crc)},
        )

    async def abort(self, request: OssRequest) -> web.StreamResponse:
        """AbortMultipartUpload."""
        await self._uploads.abort(self._upload(request))
        return empty(204)

    def _upload(self, request: OssRequest) -> UploadRecord:
        return self._uploads.get(request.bucket, request.key, request.text("uploadId"))


def _wanted(request: OssRequest, body: bytes) -> Sequence[tuple[int, str]] | None:
    if request.header("x-oss-complete-all").lower() != "yes":
        return parse_complete(body)
    if body:
        message = "x-oss-complete-all: yes means all parts; a list of parts contradicts it."
        raise OssError("InvalidArgument", message)
    return None


def _addressed(request: OssRequest, upload: UploadRecord) -> Children:
    facts = [
        ("Bucket", upload.bucket),
        ("Key", request.encoded(upload.key)),
        ("UploadId", upload.id),
    ]
    return [*facts, *request.encoding()]


def _facts(part: PartRecord) -> Children:
    return [
        ("PartNumber", part.number),
        ("LastModified", timestamp(part.modified)),
        ("ETag", quoted(part.etag)),
        ("HashCrc64ecma", str(part.crc)),
        ("Size", part.size),
    ]

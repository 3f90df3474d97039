"""Operations on the service and on buckets: make, describe, list, delete many, remove."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from aiohttp import web

from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.ledger import ObjectRecord
from qwenkit.sandbox.oss.request import OssRequest, empty, quoted, storage_class, xml
from qwenkit.sandbox.oss.store import BucketRecord, ObjectPage, OssStore
from qwenkit.sandbox.oss.uploads import Uploads
from qwenkit.sandbox.oss.xml import Children, Value, parse_delete, timestamp

_OWNER: Children = [("ID", "0000000000000000"), ("DisplayName", "0000000000000000")]


class Buckets:
    """Handlers of one store's buckets."""

    def __init__(self, store: OssStore, uploads: Uploads, *, region: str) -> None:
        self._store, self._uploads = store, uploads
        self._location = f"oss-{region}"

    async def service(self, request: OssRequest) -> web.StreamResponse:
        """ListBuckets, on one page."""
        prefix = request.text("prefix")
        buckets = [
            ("Bucket", self._facts(bucket))
            for bucket in self._store.buckets()
            if bucket.name.startswith(prefix)
        ]
        return xml(
            "ListAllMyBucketsResult",
            [("Owner", _OWNER), ("IsTruncated", False), ("Buckets", buckets)],
        )

    async def put(self, request: OssRequest) -> web.StreamResponse:
        """PutBucket; every bucket is private, and creating one's own again changes nothing."""
        if request.header("x-oss-acl") not in ("", "private"):
            raise OssError("NotImplemented", "The buckets of the sandbox's OSS are private.")
        await request.body()
        self._store.create_bucket(request.bucket)
        return empty(headers={"Location": f"/{request.bucket}"})

    async def delete(self, request: OssRequest) -> web.StreamResponse:
        """DeleteBucket."""
        self._store.delete_bucket(request.bucket)
        return empty(204)

    async def info(self, request: OssRequest) -> web.StreamResponse:
        """GetBucketInfo."""
        bucket = self._store.bucket(request.bucket)
        facts: list[tuple[str, Value]] = [
            *self._facts(bucket),
            ("Owner", _OWNER),
            ("AccessControlList", [("Grant", "private")]),
            ("DataRedundancyType", "LRS"),
            ("Comment", ""),
        ]
        return xml("BucketInfo", [("Bucket", facts)])

    async def location(self, request: OssRequest) -> web.StreamResponse:
        """GetBucketLocation."""
        self._store.bucket(request.bucket)
        return xml("LocationConstraint", self._location)

    async def stat(self, request: OssRequest) -> web.StreamResponse:
        """GetBucketStat, exact at this moment."""
        self._store.bucket(request.bucket)
        sizes = self._store.sizes(request.bucket)
        uploads = len(self._uploads.of(request.bucket))
        facts = [("Storage", sum(sizes)), ("ObjectCount", len(sizes))]
        return xml("BucketStat", [*facts, ("MultipartUploadCount", uploads)])

    async def list_objects(self, request: OssRequest) -> web.StreamResponse:
        """ListObjects or, with ``list-type=2``, ListObjectsV2."""
        version_2 = request.text("list-type") == "2"
        limit = request.number("max-keys", default=100, low=1, high=1000)
        after = _continued(request) if version_2 else request.text("marker")
        prefix, delimiter = request.text("prefix"), request.text("delimiter")
        page = await self._store.page(
            request.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
        facts: list[tuple[str, Value]] = [
            ("Name", request.bucket),
            ("Prefix", request.encoded(prefix)),
            ("MaxKeys", limit),
            ("Delimiter", request.encoded(delimiter)),
            ("IsTruncated", page.truncated),
            *request.encoding(),
            *(_continuation(request, page) if version_2 else _marker(request, page)),
        ]
        with_owner = not version_2 or request.text("fetch-owner") == "true"
        facts += [("Contents", _contents(request, item, with_owner)) for item in page.objects]
        return xml("ListBucketResult", facts + _prefixes(request, page.prefixes))

    async def delete_objects(self, request: OssRequest) -> web.StreamResponse:
        """DeleteMultipleObjects."""
        self._store.bucket(request.bucket)
        body = await request.body()
        if request.expected_md5() is None:  # here the header is required
            raise OssError("InvalidDigest")
        quiet, keys = parse_delete(body)
        for key in keys:
            self._store.delete(request.bucket, key)
        if quiet:
            return empty()
        deleted = [("Deleted", [("Key", request.encoded(key))]) for key in keys]
        return xml("DeleteResult", [*request.encoding(), *deleted])

    async def list_uploads(self, request: OssRequest) -> web.StreamResponse:
        """ListMultipartUploads."""
        limit = request.number("max-uploads", default=1000, low=1, high=1000)
        after = (request.text("key-marker"), request.text("upload-id-marker"))
        prefix, delimiter = request.text("prefix"), request.text("delimiter")
        page = self._uploads.page(
            request.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
        facts: list[tuple[str, Value]] = [
            ("Bucket", request.bucket),
            *request.encoding(),
            ("KeyMarker", request.encoded(after[0])),
            ("UploadIdMarker", after[1]),
            ("NextKeyMarker", request.encoded(page.key_marker)),
            ("NextUploadIdMarker", page.id_marker),
            ("Delimiter", request.encoded(delimiter)),
            ("Prefix", request.encoded(prefix)),
            ("MaxUploads", limit),
            ("IsTruncated", page.truncated),
        ]
        facts += [
            (
                "Upload",
                [
                    ("Key", request.encoded(upload.key)),
                    ("UploadId", upload.id),
                    ("StorageClass", storage_class(upload.headers)),
                    ("Initiated", timestamp(upload.initiated)),
                ],
            )
            for upload in page.uploads
        ]
        return xml("ListMultipartUploadsResult", facts + _prefixes(request, page.prefixes))

    def _facts(self, bucket: BucketRecord) -> list[tuple[str, str]]:
        return [
            ("Name", bucket.name),
            ("CreationDate", timestamp(bucket.created)),
            ("Location", self._location),
            ("Region", self._location.removeprefix("oss-")),
            ("StorageClass", "Standard"),
            ("ExtranetEndpoint", f"{self._location}.aliyuncs.com"),
            ("IntranetEndpoint", f"{self._location}-internal.aliyuncs.com"),
        ]


def _continued(request: OssRequest) -> str:
    """Return the name after which a version 2 listing continues."""
    token = request.text("continuation-token")
    if not token:
        return request.text("start-after")
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise OssError("InvalidArgument", "The continuation token is not one of ours.") from error


def _continuation(request: OssRequest, page: ObjectPage) -> Children:
    found: list[tuple[str, str | int]] = [
        ("StartAfter", request.encoded(request.text("start-after"))),
        ("ContinuationToken", request.encoded(request.text("continuation-token"))),
        ("KeyCount", len(page.objects) + len(page.prefixes)),
    ]
    if page.truncated:
        token = base64.urlsafe_b64encode(page.last.encode()).decode()
        found.append(("NextContinuationToken", request.encoded(token)))
    return found


def _marker(request: OssRequest, page: ObjectPage) -> Children:
    found = [("Marker", request.encoded(request.text("marker")))]
    if page.truncated:
        found.append(("NextMarker", request.encoded(page.last)))
    return found


def _contents(request: OssRequest, record: ObjectRecord, with_owner: bool) -> Children:
    facts: list[tuple[str, Value]] = [
        ("Key", request.encoded(record.key)),
        ("LastModified", timestamp(record.mtime_ns // 10**9)),
        ("ETag", quoted(record.etag)),
        ("Type", record.kind),
        ("Size", record.size),
        ("StorageClass", storage_class(record.headers)),
    ]
    return [*facts, ("Owner", _OWNER)] if with_owner else facts


def _prefixes(request: OssRequest, prefixes: Iterable[str]) -> list[tuple[str, Value]]:
    return [("CommonPrefixes", [("Prefix", request.encoded(prefix))]) for prefix in prefixes]

"""Operations on the service and on buckets: make, describe, list, delete many, remove."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable

from aiohttp import web

from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.ledger import ObjectRecord
from qwenkit.sandbox.oss.request import OssRequest, empty, quoted, storage_class, xml
from qwenkit.sandbox.oss.store import BucketRecord, ObjectPage, ObjectStore
from qwenkit.sandbox.oss.uploads import Uploads
from qwenkit.sandbox.oss.xml import Children, Value, parse_delete, timestamp

_OWNER: Children = [("ID", "0000000000000000"), ("DisplayName", "0000000000000000")]


class Buckets:
    """Handlers of one store's buckets."""

    def __init__(self, store: ObjectStore, uploads: Uploads, *, region: str) -> None:
        self._store, self._uploads = store, uploads
        self._location = f"oss-{region}"

    async def service(self, call: OssRequest) -> web.StreamResponse:
        """ListBuckets, on one page."""
        prefix = call.text("prefix")
        buckets = [
            ("Bucket", self._facts(bucket))
            for bucket in self._store.buckets()
            if bucket.name.startswith(prefix)
        ]
        return xml(
            "ListAllMyBucketsResult",
            [("Owner", _OWNER), ("IsTruncated", False), ("Buckets", buckets)],
        )

    async def put(self, call: OssRequest) -> web.StreamResponse:
        """PutBucket; every bucket is private, and creating one's own again changes nothing."""
        if call.header("x-oss-acl") not in ("", "private"):
            raise OssError("NotImplemented", "The buckets of the sandbox's OSS are private.")
        await call.body()
        self._store.create_bucket(call.bucket)
        return empty(headers={"Location": f"/{call.bucket}"})

    async def delete(self, call: OssRequest) -> web.StreamResponse:
        """DeleteBucket."""
        self._store.delete_bucket(call.bucket)
        return empty(204)

    async def info(self, call: OssRequest) -> web.StreamResponse:
        """GetBucketInfo."""
        bucket = self._store.bucket(call.bucket)
        facts: list[tuple[str, Value]] = [
            *self._facts(bucket),
            ("Owner", _OWNER),
            ("AccessControlList", [("Grant", "private")]),
            ("DataRedundancyType", "LRS"),
            ("Comment", ""),
        ]
        return xml("BucketInfo", [("Bucket", facts)])

    async def location(self, call: OssRequest) -> web.StreamResponse:
        """GetBucketLocation."""
        self._store.bucket(call.bucket)
        return xml("LocationConstraint", self._location)

    async def list_objects(self, call: OssRequest) -> web.StreamResponse:
        """ListObjects or, with ``list-type=2``, ListObjectsV2."""
        version_2 = call.text("list-type") == "2"
        limit = call.number("max-keys", default=100, low=1, high=1000)
        after = _continued(call) if version_2 else call.text("marker")
        prefix, delimiter = call.text("prefix"), call.text("delimiter")
        page = await self._store.page(
            call.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
        facts: list[tuple[str, Value]] = [
            ("Name", call.bucket),
            ("Prefix", call.encoded(prefix)),
            ("MaxKeys", limit),
            ("Delimiter", call.encoded(delimiter)),
            ("IsTruncated", page.truncated),
            *call.encoding(),
            *(_continuation(call, page) if version_2 else _marker(call, page)),
        ]
        with_owner = not version_2 or call.text("fetch-owner") == "true"
        facts += [("Contents", _contents(call, item, with_owner)) for item in page.objects]
        return xml("ListBucketResult", facts + _prefixes(call, page.prefixes))

    async def delete_objects(self, call: OssRequest) -> web.StreamResponse:
        """DeleteMultipleObjects."""
        self._store.bucket(call.bucket)
        body = await call.body()
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        if call.expected_md5() != digest:
            raise OssError("InvalidDigest")
        quiet, keys = parse_delete(body)
        for key in keys:
            self._store.delete(call.bucket, key)
        if quiet:
            return empty()
        deleted = [("Deleted", [("Key", call.encoded(key))]) for key in keys]
        return xml("DeleteResult", [*call.encoding(), *deleted])

    async def list_uploads(self, call: OssRequest) -> web.StreamResponse:
        """ListMultipartUploads."""
        limit = call.number("max-uploads", default=1000, low=1, high=1000)
        after = (call.text("key-marker"), call.text("upload-id-marker"))
        prefix, delimiter = call.text("prefix"), call.text("delimiter")
        page = self._uploads.page(
            call.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
        facts: list[tuple[str, Value]] = [
            ("Bucket", call.bucket),
            *call.encoding(),
            ("KeyMarker", call.encoded(after[0])),
            ("UploadIdMarker", after[1]),
            ("NextKeyMarker", call.encoded(page.key_marker)),
            ("NextUploadIdMarker", page.id_marker),
            ("Delimiter", call.encoded(delimiter)),
            ("Prefix", call.encoded(prefix)),
            ("MaxUploads", limit),
            ("IsTruncated", page.truncated),
        ]
        facts += [
            (
                "Upload",
                [
                    ("Key", call.encoded(upload.key)),
                    ("UploadId", upload.id),
                    ("StorageClass", storage_class(upload.headers)),
                    ("Initiated", timestamp(upload.initiated)),
                ],
            )
            for upload in page.uploads
        ]
        return xml("ListMultipartUploadsResult", facts + _prefixes(call, page.prefixes))

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


def _continued(call: OssRequest) -> str:
    """Return the name behind which a version 2 listing goes on."""
    token = call.text("continuation-token")
    if not token:
        return call.text("start-after")
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise OssError("InvalidArgument", "The continuation token is not one of ours.") from error


def _continuation(call: OssRequest, page: ObjectPage) -> Children:
    found: list[tuple[str, str | int]] = [
        ("StartAfter", call.encoded(call.text("start-after"))),
        ("ContinuationToken", call.encoded(call.text("continuation-token"))),
        ("KeyCount", len(page.objects) + len(page.prefixes)),
    ]
    if page.truncated:
        token = base64.urlsafe_b64encode(page.last.encode()).decode()
        found.append(("NextContinuationToken", call.encoded(token)))
    return found


def _marker(call: OssRequest, page: ObjectPage) -> Children:
    found = [("Marker", call.encoded(call.text("marker")))]
    if page.truncated:
        found.append(("NextMarker", call.encoded(page.last)))
    return found


def _contents(call: OssRequest, record: ObjectRecord, with_owner: bool) -> Children:
    facts: list[tuple[str, Value]] = [
        ("Key", call.encoded(record.key)),
        ("LastModified", timestamp(record.mtime_ns // 10**9)),
        ("ETag", quoted(record.etag)),
        ("Type", record.kind),
        ("Size", record.size),
        ("StorageClass", storage_class(record.headers)),
    ]
    return [*facts, ("Owner", _OWNER)] if with_owner else facts


def _prefixes(call: OssRequest, prefixes: Iterable[str]) -> list[tuple[str, Value]]:
    return [("CommonPrefixes", [("Prefix", call.encoded(prefix))]) for prefix in prefixes]

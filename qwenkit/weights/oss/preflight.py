"""Whether a bucket can be used: it is there, the clock is right, and data may pass."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from uuid import uuid4

import oss2

from qwenkit.errors import Forbidden, QwenkitError, Rejected
from qwenkit.weights.oss.bucket import object_url
from qwenkit.weights.oss.errors import call_oss, get_if_exists


@dataclass(frozen=True)
class BucketStatus:
    """The facts for a preflight. ``skew_s`` is our clock minus the server's.

    ``read_only`` says why the key may read but not write, with the ``fix``; empty if it may.
    ``storage_class`` is empty if the key may use objects only.
    """

    name: str
    endpoint: str
    region: str
    storage_class: str
    skew_s: float
    read_only: str = ""
    fix: str = ""

    def __str__(self) -> str:
        kind = ", ".join(filter(None, (self.region, self.storage_class)))
        clock = f"this clock is {self.skew_s:+.1f} s off"
        return f"{self.name} at {self.endpoint} ({kind}); {clock}"


def check(bucket: oss2.Bucket, prefix: str) -> BucketStatus:
    """Ask for the bucket; write one small object below ``prefix``, read it and delete it.

    Public endpoints may tell of a bucket and yet refuse its data.

    Raises:
        Forbidden: the key is wrong, or may not even read.
        NotFound: there is no such bucket.
        Rejected: what is written to the bucket is archived at once.
    """
    region, kind = _place(bucket)
    key = f"{prefix}/.qwenkit-check-{uuid4().hex[:8]}"
    where = object_url(bucket, key)
    limit, fix = "", ""
    try:
        date = _write_and_read(bucket, key, where)
    except Forbidden as error:
        if error.context.get("code") != "AccessDenied" or not error.what.startswith("write"):
            raise
        read = partial(bucket.get_object, key)
        get_if_exists(bucket, f"read {where}", read)  # who may read is told that it is not there
        limit = f"the key may read but not write: {error.why}"
        fix = f"to serve what is there, this is enough; to upload, {error.fix}"
        date = ""
    return BucketStatus(
        bucket.bucket_name, bucket.endpoint, region, kind, _skew_s(date), limit, fix
    )


def _place(bucket: oss2.Bucket) -> tuple[str, str]:
    """Return region and storage class, as far as the key may know them."""
    name = bucket.bucket_name
    try:
        info = call_oss(bucket, f"bucket {name}", bucket.get_bucket_info)
    except Forbidden as error:
        if error.context.get("code") != "AccessDenied":
            raise
        return bucket.region or "", ""
    kind = str(info.storage_class)
    if "Archive" in kind:
        why = "its objects can be read only after each is restored, which no mount waits for"
        fix = "use a bucket of class Standard: that of a bucket cannot be changed"
        raise Rejected(f"bucket {name} is of storage class {kind}", why, fix)
    return str(info.location).removeprefix("oss-"), kind


def _write_and_read(bucket: oss2.Bucket, key: str, where: str) -> str:
    """Return the server's date. The object is gone afterwards, unless that is the error."""
    versions: dict[str, str] = {}
    remove = partial(bucket.delete_object, key, versions)
    try:
        made = call_oss(bucket, f"write {where}", partial(bucket.put_object, key, b"qwenkit"))
        versions |= {"versionId": made.versionid} if made.versionid else {}
        call_oss(bucket, f"read {where}", lambda: bucket.get_object(key).read())
    except BaseException:  # the object may be there although the answer did not arrive
        with suppress(QwenkitError):
            call_oss(bucket, where, remove)
        raise
    call_oss(bucket, f"delete {where}, an object of 7 bytes", remove)
    return str(made.headers.get("Date", ""))


def _skew_s(date: str) -> float:
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except ValueError:
        return 0.0

"""Whether a bucket can be used: it is there, the clock is right, and data may pass."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
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

    ``read_only`` says why the key may read but not write, empty if it may; ``fix`` goes with it.
    """

    name: str
    endpoint: str
    region: str
    storage_class: str = "class unknown"
    skew_s: float = 0.0
    read_only: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name} at {self.endpoint} ({self.region}, {self.storage_class}); "
            f"this clock is {self.skew_s:+.1f} s off"
        )


def check(bucket: oss2.Bucket, prefix: str) -> BucketStatus:
    """Ask for the bucket; write one small object below ``prefix``, read it and delete it.

    Public endpoints may tell of a bucket and yet refuse its data. A key for objects alone need not
    know the bucket.

    Raises:
        Forbidden: the key is wrong, or may not even read.
        NotFound: there is no such bucket.
        Rejected: what is written to the bucket is archived at once.
    """
    status = BucketStatus(bucket.bucket_name, bucket.endpoint, bucket.region or "region unknown")
    try:
        info = call_oss(bucket, f"bucket {status.name}", bucket.get_bucket_info)
    except Forbidden as error:
        if error.context.get("code") != "AccessDenied":
            raise
    else:
        region, kind = str(info.location).removeprefix("oss-"), str(info.storage_class)
        skew_s = _skew_s(info.headers.get("Date", ""))
        status = replace(status, region=region, storage_class=kind, skew_s=skew_s)
    if "Archive" in status.storage_class:
        why = "each of its objects must be restored before it can be read"
        fix = "use a bucket of class Standard: the class of a bucket cannot be changed"
        raise Rejected(f"bucket {status.name} is of class {status.storage_class}", why, fix)
    key = f"{prefix}/.qwenkit-check-{uuid4().hex[:8]}"
    try:
        _write_and_read(bucket, key)
    except Forbidden as error:
        if error.context.get("code") != "AccessDenied" or not error.what.startswith("write"):
            raise
        # A key that may read is told that there is no such object.
        get_if_exists(bucket, f"read {object_url(bucket, key)}", partial(bucket.get_object, key))
        why = f"the key may read but not write: {error.why}"
        fix = f"enough to serve what is there; to upload, {error.fix}"
        return replace(status, read_only=why, fix=fix)
    return status


def _write_and_read(bucket: oss2.Bucket, key: str) -> None:
    where = object_url(bucket, key)
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


def _skew_s(date: str) -> float:
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except ValueError:
        return 0.0

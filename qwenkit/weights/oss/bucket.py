"""Open and list a bucket; delete objects and unfinished uploads in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import oss2

from qwenkit.errors import Conflict, InvalidValue, NotFound, Rejected
from qwenkit.loopback import is_loopback
from qwenkit.parameters.oss_hosts import region_of, without_bucket
from qwenkit.weights.oss.errors import call_oss
from qwenkit.weights.oss.url import oss_url
from qwenkit.weights.watched_http import WatchedAdapter

if TYPE_CHECKING:
    from qwenkit.credentials import Credentials

# The first one also bounds each write of a body, so parts are sent in slices (SlicedBody).
TIMEOUT_S = (15.0, 60.0)
_CONNECTIONS = 32  # kept open; more than threads that use a bucket
_SLICE = 1000  # the most keys that one delete request takes


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing. ``modified`` is in seconds since 1970."""

    key: str
    size: int
    etag: str
    modified: int


def open_bucket(
    endpoint: str,
    bucket: str,
    credentials: Credentials,
    *,
    region: str = "",
    signature: str = "v4",
    cname: bool = False,
) -> oss2.Bucket:
    """Open a bucket; nothing is sent yet.

    The endpoint's default scheme is https unless it is this machine. ``region``, by default that
    in the endpoint's name, is for V4 signatures: new accounts (since March 2025) and new buckets
    (since September 2025) take no others. ``cname``: the endpoint is the bucket's own domain.

    Raises:
        InvalidValue: endpoint or bucket name is not valid, or no region is known for V4.
    """
    _hide_signatures()
    address = without_bucket(_full_address(endpoint), bucket)
    region = (region or region_of(address)) if signature == "v4" else ""
    if signature == "v4" and not region and not is_loopback(address):
        rule = f"is not set, and {endpoint} names no region; V4 signatures, which new accounts and "
        fix = "export OSS_REGION=, such as cn-hangzhou; an old account may --set oss_signature=v1"
        raise InvalidValue("oss_region", "", f"{rule}buckets need, name one", fix)
    provider = oss2.credentials.StaticCredentialsProvider(
        credentials.access_key_id.get_secret_value().strip(),
        credentials.access_key_secret.get_secret_value().strip(),
        credentials.session_token.get_secret_value().strip(),
    )
    try:
        return oss2.Bucket(
            oss2.ProviderAuthV4(provider) if region else oss2.ProviderAuth(provider),
            address,
            bucket,
            session=_session(address),
            connect_timeout=TIMEOUT_S,
            app_name="qwenkit",
            enable_crc=False,  # slow and optional; the transfer engine computes its own
            region=region or None,
            is_cname=cname and ".aliyuncs.com" not in address,  # the inner endpoint is none
        )
    except oss2.exceptions.ClientError as error:
        raise InvalidValue(
            "bucket or endpoint", f"{bucket} at {endpoint}", str(error.body)
        ) from error


def _full_address(endpoint: str) -> str:
    """Return the endpoint with its scheme."""
    if not endpoint.strip():
        raise InvalidValue(
            "oss_endpoint", endpoint, "must be a host", "export OSS_ENDPOINT, or run qwenkit doctor"
        )
    if "://" in endpoint:
        return endpoint.strip()
    return f"{'http' if is_loopback(endpoint) else 'https'}://{endpoint.strip()}"


def _session(address: str) -> oss2.Session:
    adapter = WatchedAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS)
    session = oss2.Session(adapter=adapter)
    session.session.trust_env = not is_loopback(address)
    session.session.auth = lambda request: request  # or ~/.netrc could replace the signature
    return session


def object_url(bucket: oss2.Bucket, key: str) -> str:
    """Return the ``oss://`` URL of an object or a folder."""
    return oss_url(bucket.bucket_name, key)


def list_objects(bucket: oss2.Bucket, prefix: str) -> Iterator[StoredObject]:
    """List the objects whose keys start with ``prefix``, in key order."""
    token = ""
    while True:
        query = partial(
            bucket.list_objects_v2, prefix=prefix, continuation_token=token, max_keys=1000
        )
        page = call_oss(bucket, f"list {object_url(bucket, prefix)}", query)
        for found in page.object_list:
            yield StoredObject(found.key, found.size, found.etag, found.last_modified)
        if not page.is_truncated:
            return
        token = page.next_continuation_token


def list_uploads(bucket: oss2.Bucket, prefix: str) -> dict[str, list[str]]:
    """Return the ids of unfinished multipart uploads below ``prefix``, by key."""
    found: dict[str, list[str]] = {}
    key, upload = "", ""
    while True:
        query = partial(
            bucket.list_multipart_uploads, prefix=prefix, key_marker=key, upload_id_marker=upload
        )
        page = call_oss(bucket, f"list uploads of {object_url(bucket, prefix)}", query)
        for entry in page.upload_list:
            found.setdefault(entry.key, []).append(entry.upload_id)
        if not page.is_truncated:
            return found
        key, upload = page.next_key_marker, page.next_upload_id_marker


def abort_upload(bucket: oss2.Bucket, key: str, upload_id: str) -> None:
    """Abort an unfinished upload, if it still exists."""
    what = f"abort an upload of {object_url(bucket, key)}"
    with suppress(NotFound, Rejected):  # gone, or never an upload's id
        call_oss(bucket, what, partial(bucket.abort_multipart_upload, key, upload_id))


def old_versions(bucket: oss2.Bucket, prefix: str) -> tuple[int, int]:
    """Count the replaced and deleted versions that a bucket with versioning keeps, and their bytes.

    Raises:
        Forbidden: the key may not read the bucket's versioning, or list versions.
    """
    if not _is_versioned(bucket):
        return 0, 0
    count = size = 0
    key, version = "", ""
    while True:
        query = partial(
            bucket.list_object_versions,
            prefix,
            key_marker=key,
            versionid_marker=version,
            max_keys=1000,
        )
        page = call_oss(bucket, f"list versions of {object_url(bucket, prefix)}", query)
        old = [one for one in page.versions if not one.is_latest]
        count, size = count + len(old), size + sum(one.size for one in old)
        if not page.is_truncated:
            return count, size
        key, version = page.next_key_marker, page.next_versionid_marker


def _is_versioned(bucket: oss2.Bucket) -> bool:
    """Return whether the bucket keeps versions, or did before that was suspended."""
    what = f"versioning of bucket {bucket.bucket_name}"
    try:
        return bool(call_oss(bucket, what, bucket.get_bucket_versioning).status)
    except Rejected as error:
        if error.context.get("code") == "NotImplemented":
            return False  # a server without versions, such as the sandbox's
        raise


def delete_keys(bucket: oss2.Bucket, keys: list[str]) -> None:
    """Delete objects by key.

    Raises:
        Conflict: the server kept some of them.
    """
    for start in range(0, len(keys), _SLICE):
        wanted = keys[start : start + _SLICE]
        answer = call_oss(
            bucket, f"delete {len(wanted)} objects", partial(bucket.batch_delete_objects, wanted)
        )
        gone = set(answer.deleted_keys)
        if kept := [key for key in wanted if key not in gone]:
            raise Conflict(
                f"{len(kept)} objects were not deleted",
                f"OSS did not confirm it; the first is {object_url(bucket, kept[0])}",
                "repeat the command; a retention policy of the bucket forbids it for a time",
            )


def _hide_signatures() -> None:
    """Stop oss2 from logging Authorization headers at DEBUG."""
    logger = logging.getLogger("oss2")
    if logger.getEffectiveLevel() < logging.WARNING:
        logger.setLevel(logging.WARNING)

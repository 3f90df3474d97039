"""Buckets and objects over ordinary files."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from qwenkit.errors import SandboxError
from qwenkit.sandbox.oss.body import Digest, digest_file
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.key_paths import BOOKKEEPING, KeyPaths, is_bucket_name
from qwenkit.sandbox.oss.ledger import Ledger, ObjectRecord
from qwenkit.sandbox.trees import is_plain, remove_tree

EtagKind = Literal["md5", "crc"]


@dataclass(frozen=True)
class BucketRecord:
    """One bucket. ``created`` is in seconds since the epoch."""

    name: str
    created: float


@dataclass(frozen=True)
class ObjectPage:
    """One page of a listing: objects and common prefixes, and the last name on it."""

    objects: list[ObjectRecord]
    prefixes: list[str]
    last: str
    truncated: bool


class OssStore:
    """The state of one OSS server. Used on the event loop's thread only."""

    def __init__(self, root: Path, *, etag: EtagKind = "md5") -> None:
        """Open the folder; remove what a killed server left half written.

        Raises:
            SandboxError: another server uses the folder, or it cannot be used.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            self.names = KeyPaths(root)
            self.names.prepare()
        except OSError as error:
            raise SandboxError(
                f"{root} cannot hold buckets",
                f"{error.filename}: {error.strerror}",
                "give --root a folder that this user can write",
            ) from error
        self.ledger = Ledger(self.names.bookkeeping / "oss.sqlite")
        self.with_md5 = etag == "md5"
        for leftover in (self.names.bookkeeping / "temporary").iterdir():
            if is_plain(leftover, stat.S_ISREG):
                leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the folder."""
        self.ledger.close()

    # --- buckets

    def create_bucket(self, name: str) -> None:
        """Make a bucket, unless it exists.

        Raises:
            OssError: InvalidBucketName.
        """
        if not is_bucket_name(name):
            raise OssError("InvalidBucketName", BucketName=name)
        if self.names.is_bucket(name):
            return
        # A bucket whose folder was removed by hand may have old records.
        self._forget_bucket(name)
        self.names.bucket(name).mkdir()
        self.ledger.save_bucket(name, time.time())

    def bucket(self, name: str) -> BucketRecord:
        """Return a bucket.

        Raises:
            OssError: InvalidBucketName or NoSuchBucket.
        """
        if not is_bucket_name(name):
            raise OssError("InvalidBucketName", BucketName=name)
        if not self.names.is_bucket(name):
            raise OssError("NoSuchBucket", BucketName=name)
        created = self.ledger.bucket_created(name)
        return BucketRecord(name, created or self.names.bucket(name).stat().st_mtime)

    def buckets(self) -> list[BucketRecord]:
        """Return all buckets by name."""
        names = sorted(name for name in os.listdir(self.names.root) if name != BOOKKEEPING)
        return [self.bucket(name) for name in names if self.names.is_bucket(name)]

    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket.

        Raises:
            OssError: NoSuchBucket or BucketNotEmpty.
        """
        self.bucket(name)
        taken = next(self.names.walk(name), None) or self.ledger.escaped_keys(name)
        if taken or self.ledger.uploads(name):
            raise OssError("BucketNotEmpty", BucketName=name)
        try:
            for folder, _, _ in os.walk(self.names.bucket(name), topdown=False):
                os.rmdir(folder)
        except OSError as error:  # a file that is not an object, such as a symbolic link
            raise OssError("BucketNotEmpty", BucketName=name) from error
        self._forget_bucket(name)

    def _forget_bucket(self, name: str) -> None:
        self.ledger.forget_bucket(name)
        remove_tree(self.names.bookkeeping / "escaped" / name)

    # --- objects

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yield a path for a body that is still arriving; remove what is left there."""
        path = self.names.bookkeeping / "temporary" / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def etag(self, digest: Digest) -> str:
        """Return the ETag of content that arrived in one piece."""
        return digest.md5.hex().upper() if self.with_md5 else f"{digest.crc:032X}"

    def exists(self, bucket: str, key: str) -> bool:
        """Return whether the object exists."""
        return self.names.existing(bucket, key) is not None

    async def find(self, bucket: str, key: str) -> tuple[Path, ObjectRecord]:
        """Return an object's file and its current record.

        Raises:
            OssError: NoSuchBucket or NoSuchKey.
        """
        self.bucket(bucket)
        # A file that grows while we read it is described as of the second reading.
        for attempt in range(3):
            existing = self.names.existing(bucket, key)
            if existing is None:
                break
            path, status = existing
            record = self.ledger.record(bucket, key)
            if record and (record.describes(status) or attempt == 2):
                return path, record
            await self._record_changed(record, bucket, key, path, status)
        self.ledger.forget(bucket, key)
        raise OssError("NoSuchKey", Key=key)

    async def _record_changed(
        self, old: ObjectRecord | None, bucket: str, key: str, path: Path, status: os.stat_result
    ) -> None:
        """Record a file that another program wrote or touched.

        Headers and ETag belong to content: they stay only if the content is the same.
        """
        try:
            digest = await asyncio.to_thread(digest_file, path, with_md5=self.with_md5)
        except FileNotFoundError:
            return
        new = self._record(bucket, key, path, status, digest, etag=self.etag(digest))
        if old and (old.size, old.crc) == (new.size, new.crc):
            new = replace(new, etag=old.etag, kind=old.kind, headers=old.headers)
        self.ledger.save(new)

    def commit(
        self,
        temporary: Path,
        bucket: str,
        key: str,
        *,
        digest: Digest,
        headers: Mapping[str, str],
        etag: str = "",
    ) -> ObjectRecord:
        """Make an arrived body the object, in one step. ``etag``: that of a multipart upload."""
        self.bucket(bucket)
        path = self.names.place(bucket, key)
        # The kernel's clock is coarse; a full-precision time distinguishes our write from the next.
        written = time.time_ns()
        os.utime(temporary, ns=(written, written))
        temporary.replace(path)
        kind = "Multipart" if etag else "Normal"
        record = self._record(
            bucket, key, path, path.lstat(), digest, etag=etag or self.etag(digest)
        )
        record = replace(record, kind=kind, headers=headers)
        self.ledger.save(record)
        if not record.escaped:
            self.names.escaped(bucket, key).unlink(missing_ok=True)
        return record

    def _record(
        self,
        bucket: str,
        key: str,
        path: Path,
        status: os.stat_result,
        digest: Digest,
        *,
        etag: str,
    ) -> ObjectRecord:
        """Return the record of a file with that status and content."""
        return ObjectRecord(
            bucket=bucket,
            key=key,
            escaped=self._is_escaped(path),
            size=digest.size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            etag=etag,
            crc=digest.crc,
        )

    def _is_escaped(self, path: Path) -> bool:
        return self.names.bookkeeping in path.parents

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object if it exists.

        Raises:
            OssError: NoSuchBucket.
        """
        self.bucket(bucket)
        while existing := self.names.existing(bucket, key):
            path = existing[0]
            path.unlink(missing_ok=True)
            if not self._is_escaped(path):
                self.names.prune(bucket, path)
        self.ledger.forget(bucket, key)

    def sizes(self, bucket: str) -> list[int]:
        """Return the size of every object of a bucket."""
        keys = heapq.merge(self.names.walk(bucket), self.ledger.escaped_keys(bucket))
        found = (self.names.existing(bucket, key) for key in keys)
        return [existing[1].st_size for existing in found if existing]

    async def page(
        self, bucket: str, *, prefix: str, delimiter: str, after: str, limit: int
    ) -> ObjectPage:
        """List up to ``limit`` objects and common prefixes after the name ``after``.

        Raises:
            OssError: NoSuchBucket.
        """
        self.bucket(bucket)
        escaped = self.ledger.escaped_keys(bucket)
        names = await asyncio.to_thread(
            self._names_on_page, bucket, escaped, prefix, delimiter, after, limit
        )
        objects, prefixes = [], []
        for name, is_prefix in names[:limit]:
            if is_prefix:
                prefixes.append(name)
                continue
            with contextlib.suppress(OssError):  # deleted since its name was read
                objects.append((await self.find(bucket, name))[1])
        last = names[:limit][-1][0] if names else ""
        return ObjectPage(objects, prefixes, last, truncated=len(names) > limit)

    def _names_on_page(
        self, bucket: str, escaped: list[str], prefix: str, delimiter: str, after: str, limit: int
    ) -> list[tuple[str, bool]]:
        others = (key for key in escaped if key.startswith(prefix) and key > after)
        keys = heapq.merge(self.names.walk(bucket, prefix, after), others)
        return list(
            islice(grouped(keys, prefix=prefix, delimiter=delimiter, after=after), limit + 1)
        )


def grouped(
    keys: Iterator[str] | list[str], *, prefix: str, delimiter: str, after: str
) -> Iterator[tuple[str, bool]]:
    """Fold ascending keys into common prefixes; yields each name once, and whether it is a prefix.

    A common prefix that ended the page before (``after``) is not repeated.
    """
    last = ""
    for key in keys:
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key if end < 0 else key[: end + len(delimiter)]
        is_prefix = end >= 0
        if name == last or (is_prefix and name == after):
            continue
        last = name
        yield name, is_prefix

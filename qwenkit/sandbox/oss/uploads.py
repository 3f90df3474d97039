"""Multipart uploads: from the first part to the object."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from weakref import WeakValueDictionary

from qwenkit.sandbox.oss.body import Digest, combine, concatenate
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.layout import WHOLE, PartSlot, UploadLayout
from qwenkit.sandbox.oss.ledger import ObjectRecord, PartRecord, UploadRecord
from qwenkit.sandbox.oss.store import OssStore
from qwenkit.sandbox.trees import remove_tree

MIN_PART_BYTES = 100 * 1024
MAX_PART_NUMBER = 10000


@dataclass(frozen=True)
class UploadsPage:
    """One page of unfinished uploads, with the markers of the next page."""

    uploads: list[UploadRecord]
    prefixes: list[str]
    key_marker: str
    id_marker: str
    truncated: bool


class Uploads:
    """The unfinished uploads of one store. Used on the event loop's thread only."""

    def __init__(self, store: OssStore) -> None:
        self._store = store
        self._ledger = store.ledger
        # Completing takes time: parts and aborts that come meanwhile must wait.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._layouts: dict[str, UploadLayout] = {}
        self._completing: set[asyncio.Task[ObjectRecord]] = set()

    async def drain(self) -> None:
        """Wait for completions that have begun."""
        await asyncio.gather(*self._completing, return_exceptions=True)

    def start(self, bucket: str, key: str, headers: Mapping[str, str]) -> UploadRecord:
        """Begin an upload; an object of that key stays as it is.

        Raises:
            OssError: NoSuchBucket.
        """
        self._store.bucket(bucket)
        upload = UploadRecord(secrets.token_hex(16).upper(), bucket, key, time.time(), headers)
        self._folder(upload).mkdir()
        (self._folder(upload) / WHOLE).touch()
        self._ledger.save_upload(upload)
        return upload

    def get(self, bucket: str, key: str, upload_id: str) -> UploadRecord:
        """Return an upload.

        Raises:
            OssError: NoSuchBucket or NoSuchUpload.
        """
        self._store.bucket(bucket)
        upload = self._ledger.upload(upload_id)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise OssError("NoSuchUpload", UploadId=upload_id)
        return upload

    def of(self, bucket: str) -> list[UploadRecord]:
        """Return a bucket's unfinished uploads."""
        return self._ledger.uploads(bucket)

    def parts(self, upload: UploadRecord) -> dict[int, PartRecord]:
        """Return the parts that arrived, by number, ascending."""
        folder = self._folder(upload)
        found = self._ledger.parts(upload.id)
        return {number: part for number, part in found.items() if (folder / part.file).exists()}

    def slot(
        self, upload: UploadRecord, number: int, length: int | None
    ) -> contextlib.AbstractContextManager[PartSlot]:
        """Return the place for a part that is about to arrive."""
        return self._layout(upload).slot(number, length)

    async def keep(
        self, upload: UploadRecord, number: int, slot: PartSlot, *, digest: Digest, etag: str
    ) -> None:
        """Record a part that arrived in its slot; it replaces an earlier one of its number.

        Raises:
            OssError: NoSuchUpload.
        """
        async with self._lock(upload):
            self.get(upload.bucket, upload.key, upload.id)
            old = self._ledger.parts(upload.id).get(number)
            modified = time.time()
            self._ledger.save_part(
                upload.id,
                PartRecord(number, slot.name, slot.start, digest.size, modified, etag, digest.crc),
            )
            if old and old.file != WHOLE:
                (self._folder(upload) / old.file).unlink(missing_ok=True)

    async def complete(
        self, upload: UploadRecord, wanted: Sequence[tuple[int, str]] | None, *, overwrite: bool
    ) -> ObjectRecord:
        """Make the object of the wanted parts, of all if None; continues if the client leaves.

        Raises:
            OssError: EntityTooSmall, FileAlreadyExists, InvalidPart, InvalidPartOrder or
                NoSuchUpload.
        """
        task = asyncio.create_task(self._complete(upload, wanted, overwrite=overwrite))
        self._completing.add(task)
        task.add_done_callback(self._completing.discard)
        return await asyncio.shield(task)

    async def _complete(
        self, upload: UploadRecord, wanted: Sequence[tuple[int, str]] | None, *, overwrite: bool
    ) -> ObjectRecord:
        async with self._lock(upload):
            self.get(upload.bucket, upload.key, upload.id)
            parts = _choose(self.parts(upload), wanted, upload)
            with self._store.temporary() as copy:
                source = self._folder(upload) / WHOLE
                if not self._layout(upload).is_whole(parts):
                    slices = [(source.parent / part.file, part.start, part.size) for part in parts]
                    await asyncio.to_thread(concatenate, slices, copy)
                    source = copy
                # No await here: the shared file is renamed before another part can begin.
                return self._finish(upload, source, parts, overwrite=overwrite)

    def _finish(
        self, upload: UploadRecord, source: Path, parts: Sequence[PartRecord], *, overwrite: bool
    ) -> ObjectRecord:
        if not overwrite and self._store.exists(upload.bucket, upload.key):
            raise OssError("FileAlreadyExists", Key=upload.key)
        digest = _whole(parts)
        os.truncate(source, digest.size)
        record = self._store.commit(
            source,
            upload.bucket,
            upload.key,
            digest=digest,
            headers=upload.headers,
            etag=_whole_etag(parts),
        )
        self._remove(upload)
        return record

    async def abort(self, upload: UploadRecord) -> None:
        """Remove an upload.

        Raises:
            OssError: NoSuchUpload.
        """
        async with self._lock(upload):
            self.get(upload.bucket, upload.key, upload.id)
            self._remove(upload)

    def page(
        self, bucket: str, *, prefix: str, delimiter: str, after: tuple[str, str], limit: int
    ) -> UploadsPage:
        """List unfinished uploads after the marker ``after`` (key, upload id).

        Raises:
            OssError: NoSuchBucket.
        """
        self._store.bucket(bucket)
        uploads: list[UploadRecord] = []
        prefixes: list[str] = []
        key_marker, id_marker = after
        for upload in self._ledger.uploads(bucket):
            if not upload.key.startswith(prefix) or not _is_after(upload, after):
                continue
            end = upload.key.find(delimiter, len(prefix)) if delimiter else -1
            common = upload.key[: end + len(delimiter)] if end >= 0 else ""
            if common and (common == after[0] or common in prefixes):
                continue
            if len(uploads) + len(prefixes) == limit:
                return UploadsPage(uploads, prefixes, key_marker, id_marker, truncated=True)
            if common:
                prefixes.append(common)
                key_marker, id_marker = common, ""
            else:
                uploads.append(upload)
                key_marker, id_marker = upload.key, upload.id
        return UploadsPage(uploads, prefixes, "", "", truncated=False)

    def _layout(self, upload: UploadRecord) -> UploadLayout:
        if upload.id not in self._layouts:
            parts = self._ledger.parts(upload.id).values()
            self._layouts[upload.id] = UploadLayout.of(self._folder(upload), parts)
        return self._layouts[upload.id]

    def _remove(self, upload: UploadRecord) -> None:
        self._layouts.pop(upload.id, None)
        self._ledger.forget_upload(upload.id)
        remove_tree(self._folder(upload))

    def _folder(self, upload: UploadRecord) -> Path:
        return self._store.names.bookkeeping / "uploads" / upload.id

    def _lock(self, upload: UploadRecord) -> asyncio.Lock:
        return self._locks.setdefault(upload.id, asyncio.Lock())


def _choose(
    parts: Mapping[int, PartRecord], wanted: Sequence[tuple[int, str]] | None, upload: UploadRecord
) -> list[PartRecord]:
    if wanted is None:
        wanted = [(part.number, part.etag) for part in parts.values()]
    numbers = [number for number, _ in wanted]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise OssError("InvalidPartOrder", UploadId=upload.id)
    chosen = []
    for number, etag in wanted:
        part = parts.get(number)
        if part is None or part.etag != etag.upper():
            raise OssError("InvalidPart", UploadId=upload.id, PartNumber=str(number), ETag=etag)
        chosen.append(part)
    if not chosen:
        raise OssError("InvalidPart", UploadId=upload.id)
    for part in chosen[:-1]:
        if part.size < MIN_PART_BYTES:
            raise OssError(
                "EntityTooSmall",
                MinSizeAllowed=str(MIN_PART_BYTES),
                ProposedSize=str(part.size),
                PartNumber=str(part.number),
                ETag=part.etag,
            )
    return chosen


def _whole(parts: Sequence[PartRecord]) -> Digest:
    size, crc = 0, 0
    for part in parts:
        size, crc = size + part.size, combine(crc, part.crc, part.size)
    return Digest(size, crc)


def _whole_etag(parts: Sequence[PartRecord]) -> str:
    digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest().upper()}-{len(parts)}"


def _is_after(upload: UploadRecord, after: tuple[str, str]) -> bool:
    key, upload_id = after
    if not upload_id:
        return upload.key > key
    return (upload.key, upload.id) > (key, upload_id)

"""Upload one file as one object: skip it, put it in one request, or send it in parts.

An object is compared by its size, its CRC-64 as the server computed it, and the sha256 of the
stream that it was created from. An ETag is only ever compared with an ETag.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from qwenkit.errors import Conflict, TransferError
from qwenkit.weights.hub.listing import SourceFile
from qwenkit.weights.hub.source_stream import digest
from qwenkit.weights.oss.manifest import META_CRC64, META_RUN, META_SHA256, StoredFile
from qwenkit.weights.oss.part_upload import PartUpload
from qwenkit.weights.oss.upload_context import (
    ContentMismatch,
    NoSuchUpload,
    TargetObject,
    UploadContext,
)
from qwenkit.weights.parts import crc64, md5_header
from qwenkit.weights.report import Action, FileReport

_ATTEMPTS = 3


@dataclass(frozen=True)
class UploadedObject:
    """An object that is in the bucket, complete and verified."""

    stored: StoredFile
    action: Action

    def report(self, prefix: str) -> FileReport:
        """Return the object as the upload's report lists it."""
        file = self.stored
        return FileReport(f"{prefix}/{file.path}", file.size, file.sha256, file.crc64, self.action)


class ObjectUpload:
    """The upload of one file."""

    def __init__(self, context: UploadContext, file: SourceFile) -> None:
        self._context, self._file = context, file
        self._target = TargetObject(context, file)
        self._key = self._target.key

    def run(self) -> UploadedObject:
        """Upload the object, unless it is already in the bucket.

        Raises:
            Conflict: there is an object that is not ours.
            TransferError: the bytes of the source or of the object are not the expected ones.
        """
        with self._context.meter.file(self._file.path):
            done = None
            if self._key in self._context.present:
                done = self._unchanged() or self._stored()
            return done or self._send()

    def _unchanged(self) -> UploadedObject | None:
        """Return the object if manifest and listing agree on it; this needs no request."""
        file = self._file
        found, known = self._context.present[self._key], self._context.ours.get(self._key)
        if not known or file != known.as_listed():
            return None
        if not known.etag or (found.size, found.etag) != (known.size, known.etag):
            return None
        self._context.meter.keep(file.path, file.size)
        return UploadedObject(known, "skipped")

    def _stored(self) -> UploadedObject | None:
        """Return the object if it is equal to the file; refuse to replace one that is not ours."""
        head = self._target.head()
        if head is None:
            return None
        ours = self._key in self._context.ours or META_RUN in head.headers
        if not ours and not self._context.replace:
            raise Conflict(
                f"{self._target.url} exists and was not uploaded by qwenkit",
                "it is not changed, since others may read it",
                "choose another prefix, or repeat with --replace if it may be overwritten",
            )
        same = self._same(head)
        if same:
            self._context.meter.keep(self._file.path, self._file.size)
            # An earlier run may have ended between completing it and deleting its checkpoint.
            self._context.checkpoints.delete(self._key)
        return same

    def _same(self, head: Any) -> UploadedObject | None:
        """Compare by the labelled sha256; without a label, by reading the source."""
        file, known = self._file, self._context.ours.get(self._key)
        if head.content_length != file.size or head.server_crc is None:
            return None
        if known and known.crc64 != head.server_crc:
            return None
        if head.headers.get(META_CRC64, str(head.server_crc)) != str(head.server_crc):
            return None
        label = head.headers.get(META_SHA256) or (known.sha256 if known else "")
        if file.sha256 and label:
            same = label == file.sha256
            return _uploaded(file, head.server_crc, head.etag, "skipped") if same else None
        sha256, crc = self._digest()
        if crc != head.server_crc:
            return None
        return _uploaded(self._target.hashed(sha256), crc, head.etag, "skipped")

    def _digest(self) -> tuple[str, int]:
        size = min(self._file.size, self._context.part_size)
        with self._context.buffer(size) as view, self._context.stream(self._file) as stream:
            return digest(stream, self._file.size, view)

    def _send(self) -> UploadedObject:
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._context.meter.restart(self._file.path)
            try:
                if self._file.size <= self._context.part_size:
                    return self._put()
                return self._send_parts(resume=attempt == 0)
            except NoSuchUpload as error:
                last: TransferError = error
                self._context.checkpoints.delete(self._key)
                if done := self._completed_elsewhere(error.crc64):
                    return done
            except ContentMismatch as error:
                last = error
                self._context.checkpoints.delete(self._key)
        why = f"{last.why}; tried {_ATTEMPTS} times from the start"
        raise TransferError(last.what, why, last.fix) from last

    def _put(self) -> UploadedObject:
        with self._context.buffer(self._file.size) as view:
            with self._context.stream(self._file) as stream:
                stream.fill(view)
            file, crc = self._target.hashed(stream.sha256), crc64(view)
            headers = self._target.headers(file.sha256, crc) | md5_header(view)
            put = partial(self._context.bucket.put_object, self._key, headers=headers)
            answer = self._target.send(self._target.url, put, view, crc)
            return _uploaded(file, crc, answer.etag, "uploaded")

    def _send_parts(self, *, resume: bool) -> UploadedObject:
        file, crc, etag = PartUpload(self._target, resume=resume).run()
        self._context.checkpoints.delete(self._key)
        action: Action = "resumed" if self._context.meter.kept(self._file.path) else "uploaded"
        return _uploaded(file, crc, etag, action)

    def _completed_elsewhere(self, crc: int | None) -> UploadedObject | None:
        """Return the object if another program completed the upload, and with the same bytes."""
        head = self._target.head()
        if head is None:
            return None
        if crc is None:
            return self._same(head)
        if (head.content_length, head.server_crc) != (self._file.size, crc):
            return None
        sha256 = self._file.sha256 or self._digest()[0]
        return _uploaded(self._target.hashed(sha256), crc, head.etag, "uploaded")


def _uploaded(file: SourceFile, crc: int, etag: str, action: Action) -> UploadedObject:
    return UploadedObject(StoredFile(file.path, file.size, file.sha256, crc, etag), action)

"""One file becomes one object: skipped, put at once, or sent in parts.

What an object is believed by: its size, its CRC-64 as the server computed it, and the sha256 of
the stream it was made from. An ETag is only ever compared with an ETag.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from qwenkit.errors import Conflict, TransferError
from qwenkit.weights.hub.listing import RemoteFile
from qwenkit.weights.hub.source_stream import digest
from qwenkit.weights.oss.part_upload import PartUpload
from qwenkit.weights.parts import crc64
from qwenkit.weights.report import Action
from qwenkit.weights.target import META_CRC64, META_RUN, META_SHA256, Gone, Lane, Target, Wrong

_ATTEMPTS = 3


@dataclass(frozen=True)
class Sent:
    """An object that is in the bucket, whole and proven."""

    file: RemoteFile
    crc64: int
    etag: str
    action: Action


class ObjectUpload:
    """The upload of one file."""

    def __init__(self, lane: Lane, file: RemoteFile) -> None:
        self._lane, self._file = lane, file
        self._target = Target(lane, file)

    def run(self) -> Sent:
        """Bring the object into the bucket.

        Raises:
            Conflict: an object that is not ours lies there.
            TransferError: bytes did not arrive as they were sent, or the source's were wrong.
        """
        self._lane.meter.start_file(self._file.path)
        sent = None
        if self._target.key in self._lane.present:
            sent = self._listed() or self._there()
        sent = sent or self._send()
        self._lane.meter.finish_file(self._file.path)
        return sent

    def _listed(self) -> Sent | None:
        """Return the object if manifest and listing prove it: no request a file."""
        file, key = self._file, self._target.key
        found, known = self._lane.present[key], self._lane.ours.get(key)
        if not known or (file.size, file.sha256) != (known.size, known.sha256):
            return None
        if not known.etag or (found.size, found.etag) != (known.size, known.etag):
            return None
        self._lane.meter.skip(file.size)
        return Sent(file, known.crc64, known.etag, "skipped")

    def _there(self) -> Sent | None:
        """Return the object if it is what it should be; refuse to touch a stranger's."""
        head = self._target.head()
        if head is None:
            return None
        ours = self._target.key in self._lane.ours or META_RUN in head.headers
        if not ours and not self._lane.replace:
            raise Conflict(
                f"{self._target.what} exists and was not uploaded by qwenkit",
                "it is not changed, since others may read it",
                "choose another prefix, or repeat with --replace if it may be overwritten",
            )
        sent = self._same(head)
        if sent:
            self._lane.meter.skip(self._file.size)
            # A run that completed it may have ended before it could say so.
            self._lane.saver.forget(self._target.key)
        return sent

    def _same(self, head: Any) -> Sent | None:
        """Compare by the labelled sha256; without a label, by reading the source."""
        file, known = self._file, self._lane.ours.get(self._target.key)
        if head.content_length != file.size or head.server_crc is None:
            return None
        if known and known.crc64 != head.server_crc:
            return None
        if head.headers.get(META_CRC64, str(head.server_crc)) != str(head.server_crc):
            return None
        label = head.headers.get(META_SHA256) or (known.sha256 if known else "")
        if file.sha256 and label:
            same = label == file.sha256
            return Sent(file, head.server_crc, head.etag, "skipped") if same else None
        sha256, crc = self._digest()
        if crc != head.server_crc:
            return None
        return Sent(self._target.hashed(sha256), crc, head.etag, "skipped")

    def _digest(self) -> tuple[str, int]:
        size = min(self._file.size, self._lane.part_size)
        with self._lane.buffer(size) as view, self._lane.stream(self._file) as stream:
            return digest(stream, self._file.size, view)

    def _send(self) -> Sent:
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._lane.meter.retry()
                self._target.tally.undo()
            try:
                if self._file.size <= self._lane.part_size:
                    return self._put()
                return self._send_parts(resume=attempt == 0)
            except Gone as error:
                # Somebody finished or threw away the upload: maybe the object is there now.
                last: TransferError = error
                self._lane.saver.forget(self._target.key)
                if sent := self._finished(error.crc64):
                    return sent
            except Wrong as error:
                last = error
                self._lane.saver.forget(self._target.key)
        raise TransferError(last.what, f"tried {_ATTEMPTS} times from the start") from last

    def _put(self) -> Sent:
        with self._lane.buffer(self._file.size) as view:
            with self._lane.stream(self._file) as stream:
                stream.fill(view)
            file, crc = self._target.hashed(stream.sha256), crc64(view)
            headers = self._target.headers(file.sha256, crc)
            put = partial(self._lane.bucket.put_object, self._target.key, headers=headers)
            answer = self._target.send(self._target.what, put, view, crc)
            return Sent(file, crc, answer.etag, "uploaded")

    def _send_parts(self, *, resume: bool) -> Sent:
        file, crc, etag = PartUpload(self._target, resume=resume).run()
        self._lane.saver.forget(self._target.key)
        return Sent(file, crc, etag, "resumed" if self._target.tally.kept else "uploaded")

    def _finished(self, crc: int | None) -> Sent | None:
        """Return the object if an upload that is gone had been completed after all."""
        head = self._target.head()
        if head is None:
            return None
        if crc is None:
            return self._same(head)
        if (head.content_length, head.server_crc) != (self._file.size, crc):
            return None
        sha256 = self._file.sha256 or self._digest()[0]
        return Sent(self._target.hashed(sha256), crc, head.etag, "uploaded")

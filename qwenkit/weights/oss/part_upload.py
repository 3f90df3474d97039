"""Send a large object in parts, several at once; parts that the server has are kept.

The source is read from its start even if parts are there already: their CRC is compared with the
source's bytes, even if another machine sent them, and the sha256 needs every byte.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import oss2

from qwenkit.errors import NotFound
from qwenkit.weights.checkpoint import Checkpoint
from qwenkit.weights.hub.listing import SourceFile
from qwenkit.weights.hub.source_stream import SourceStream
from qwenkit.weights.oss.bucket import abort_upload, delete_keys
from qwenkit.weights.oss.errors import require_crc
from qwenkit.weights.oss.manifest import META_SHA256
from qwenkit.weights.oss.resume import find_upload
from qwenkit.weights.oss.upload_context import ALONE, ContentMismatch, NoSuchUpload, TargetObject
from qwenkit.weights.parts import Part, PartLayout, combine, crc64, md5_header


class PartUpload:
    """One attempt to upload one object in parts."""

    def __init__(self, target: TargetObject, *, resume: bool) -> None:
        self._target, self._context = target, target.context
        self._checkpoint, self._present = self._begin(resume=resume)
        self._parts: dict[int, Part] = {}
        self._error: BaseException | None = None

    def run(self) -> tuple[SourceFile, int, str]:
        """Send all parts and complete; return the hashed file, its CRC-64 and its ETag.

        Raises:
            NoSuchUpload: the upload no longer exists on the server.
            ContentMismatch: the source's bytes, or the finished object, are not the expected ones.
        """
        sha256 = self._send_all()
        try:
            file = self._target.hashed(sha256)
        except ContentMismatch:
            abort_upload(self._context.bucket, self._target.key, self._checkpoint.upload_id)
            raise
        whole = combine((self._parts[n].crc64, self._parts[n].size) for n in sorted(self._parts))
        return file, whole, self._complete(whole)

    def _begin(self, *, resume: bool) -> tuple[Checkpoint, dict[int, Part]]:
        context, target = self._context, self._target
        layout = PartLayout.cut(target.file.size, context.part_size)
        fresh = Checkpoint("", layout.size, target.file.sha256, layout.part_size)
        found = None
        if resume:
            saved = context.checkpoints.load(target.key)
            candidates = context.uploads.get(target.key, [])
            found = find_upload(context.bucket, target.key, fresh, saved, candidates)
        if found is None:
            context.announcement.write(context.policy)
            # The finished object's metadata is fixed here.
            labels = target.headers(target.file.sha256)
            begin = partial(context.bucket.init_multipart_upload, target.key, headers=labels)
            fresh.upload_id = target.call(target.url, begin).upload_id
            found = fresh, {}
        context.checkpoints.save(target.key, found[0])
        return found

    def _send_all(self) -> str:
        layout = PartLayout(self._target.file.size, self._checkpoint.part_size)
        futures: list[Future[None]] = []
        try:
            with self._context.stream(self._target.file) as stream:
                for number in range(1, layout.count + 1):
                    if self._error:
                        break
                    futures += self._next(stream, number, layout.length(number))
        finally:
            wait(futures)
        if self._error:
            raise self._error
        return stream.sha256

    def _next(self, stream: SourceStream, number: int, length: int) -> list[Future[None]]:
        """Read one part; keep it if the server has it, else let a thread send it."""
        context = self._context
        buffer = context.buffers.take(self._checkpoint.part_size, context.stop)
        handed_over = False
        try:
            view = memoryview(buffer)[:length]
            stream.fill(view)
            if self._keep(self._present.get(number), view):
                return []
            future = context.senders.submit(self._send, number, buffer, view)
            handed_over = True
            return [future]
        finally:
            if not handed_over:
                context.buffers.give(buffer)

    def _keep(self, present: Part | None, view: memoryview) -> bool:
        if present is None or present.size != len(view) or present.crc64 != crc64(view):
            return False
        self._parts[present.number] = present
        self._context.meter.keep(self._target.file.path, present.size)
        return True

    def _send(self, number: int, buffer: bytearray, view: memoryview) -> None:
        """Send one part in a sender's thread; the first failure ends the object."""
        try:
            if not self._error:
                self._parts[number] = self._sent(number, view)
        except NotFound as error:
            gone = error.context.get("code") == "NoSuchUpload"
            self._error = self._error or (NoSuchUpload() if gone else error)
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._context.buffers.give(buffer)

    def _sent(self, number: int, view: memoryview) -> Part:
        target, checkpoint = self._target, self._checkpoint
        crc = crc64(view)
        put = partial(self._context.bucket.upload_part, target.key, checkpoint.upload_id, number)
        answer = target.send(f"{target.url} part {number}", put, view, crc)
        part = Part(number, answer.etag, crc, len(view))
        checkpoint.parts[number] = part
        self._context.checkpoints.save(target.key, checkpoint)
        return part

    def _complete(self, whole: int) -> str:
        bucket, target = self._context.bucket, self._target
        order = [oss2.models.PartInfo(n, self._parts[n].etag) for n in sorted(self._parts)]
        headers = md5_header(oss2.xml_utils.to_complete_upload_request(order))

        def complete() -> Any:
            upload_id = self._checkpoint.upload_id
            answer = bucket.complete_multipart_upload(target.key, upload_id, order, headers)
            answer.resp.read()  # oss2 does not, and the connection would not be reused
            return answer

        try:
            answer = target.call(f"complete {target.url}", complete)
        except NotFound as error:
            if error.context.get("code") != "NoSuchUpload":
                raise
            raise NoSuchUpload(whole) from error
        self._check_whole(answer.crc, whole)
        return str(answer.etag)

    def _check_whole(self, stated: int | None, whole: int) -> None:
        """Compare the finished object with what was sent, and delete one that differs.

        The answer to HEAD decides: the answer to Complete may have been changed on its way, which
        is no reason to send the parts again.
        """
        target = self._target
        head = target.head()
        if head is None:
            raise ContentMismatch(
                f"{target.url} vanished after it was completed", "HEAD answers 404", ALONE
            )
        equal = head.content_length == target.file.size and head.server_crc in (None, whole)
        # Another machine may have begun the upload, for another file.
        labelled = head.headers.get(META_SHA256, "") in ("", target.file.sha256)
        if not (equal and labelled):
            delete_keys(self._context.bucket, [target.key])
            raise ContentMismatch(
                f"{target.url} is not what was sent",
                f"{head.content_length} bytes with CRC-64 {head.server_crc} instead of "
                f"{target.file.size} with {whole}",
                ALONE,
            )
        require_crc(target.url, stated)
        require_crc(target.url, head.server_crc)

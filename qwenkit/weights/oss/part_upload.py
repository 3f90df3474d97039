"""A large object: streamed in parts, several on their way at once, resumed part by part.

The source is read from its start even when parts are there already: that proves them by their
CRC, whoever sent them, and gives the sha256 of the whole.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import oss2

from qwenkit.errors import NotFound
from qwenkit.weights.checkpoint import Checkpoint
from qwenkit.weights.hub.listing import RemoteFile
from qwenkit.weights.hub.source_stream import SourceStream
from qwenkit.weights.oss.bucket import abort_upload, delete_keys
from qwenkit.weights.oss.multipart import find_upload
from qwenkit.weights.parts import Part, Plan, combine, crc64, plan
from qwenkit.weights.target import META_SHA256, Gone, Target, Wrong, require_crc


class PartUpload:
    """One attempt at one object."""

    def __init__(self, target: Target, *, resume: bool) -> None:
        self._target, self._lane = target, target.lane
        self._checkpoint, self._there = self._begin(resume=resume)
        self._parts: dict[int, Part] = {}
        self._ended: BaseException | None = None

    def run(self) -> tuple[RemoteFile, int, str]:
        """Send all parts and complete; return the hashed file, its CRC-64 and its ETag.

        Raises:
            Gone: the server does not know the upload any more.
            Wrong: the source's bytes, or the finished object, are not what they should be.
        """
        sha256 = self._send_all()
        try:
            file = self._target.hashed(sha256)
        except Wrong:
            abort_upload(self._lane.bucket, self._target.key, self._checkpoint.upload_id)
            raise
        whole = combine((self._parts[n].crc64, self._parts[n].size) for n in sorted(self._parts))
        return file, whole, self._complete(whole)

    def _begin(self, *, resume: bool) -> tuple[Checkpoint, dict[int, Part]]:
        lane, target = self._lane, self._target
        layout = plan(target.file.size, lane.part_size)
        fresh = Checkpoint("", layout.size, target.file.sha256, layout.part_size)
        found = None
        if resume:
            saved = lane.checkpoints.load(target.key)
            candidates = lane.uploads.get(target.key, [])
            found = find_upload(lane.bucket, target.key, fresh, saved, candidates)
        if found is None:
            # The finished object's metadata is fixed here.
            labels = target.headers(target.file.sha256)
            begin = partial(lane.bucket.init_multipart_upload, target.key, headers=labels)
            fresh.upload_id = lane.ask(target.what, begin).upload_id
            found = fresh, {}
        lane.saver.save(target.key, found[0])
        return found

    def _send_all(self) -> str:
        layout = Plan(self._target.file.size, self._checkpoint.part_size)
        futures: list[Future[None]] = []
        try:
            with self._lane.stream(self._target.file) as stream:
                for number in range(1, layout.count + 1):
                    if self._ended:
                        break
                    futures += self._next(stream, number, layout.length(number))
        finally:
            wait(futures)
        if self._ended:
            raise self._ended
        return stream.sha256

    def _next(self, stream: SourceStream, number: int, length: int) -> list[Future[None]]:
        """Read one part; keep it if it is there, else have it sent."""
        lane = self._lane
        buffer = lane.buffers.take(self._checkpoint.part_size, lane.stop)
        handed_over = False
        try:
            view = memoryview(buffer)[:length]
            stream.fill(view)
            if self._keep(self._there.get(number), view):
                return []
            future = lane.senders.submit(self._send, number, buffer, view)
            handed_over = True
            return [future]
        finally:
            if not handed_over:
                lane.buffers.give(buffer)

    def _keep(self, there: Part | None, view: memoryview) -> bool:
        if there is None or there.size != len(view) or there.crc64 != crc64(view):
            return False
        self._parts[there.number] = there
        self._target.tally.keep(there.size)
        return True

    def _send(self, number: int, buffer: bytearray, view: memoryview) -> None:
        """Send one part in a sender's thread; the first failure ends the object."""
        try:
            if not self._ended:
                self._parts[number] = self._sent(number, view)
        except NotFound as error:
            gone = error.context.get("code") == "NoSuchUpload"
            self._ended = self._ended or (Gone() if gone else error)
        except BaseException as error:
            self._ended = self._ended or error
        finally:
            self._lane.buffers.give(buffer)

    def _sent(self, number: int, view: memoryview) -> Part:
        target, checkpoint = self._target, self._checkpoint
        crc = crc64(view)
        put = partial(self._lane.bucket.upload_part, target.key, checkpoint.upload_id, number)
        answer = target.send(f"{target.what} part {number}", put, view, crc)
        part = Part(number, answer.etag, crc, len(view))
        checkpoint.parts[number] = part
        self._lane.saver.save(target.key, checkpoint)
        return part

    def _complete(self, whole: int) -> str:
        bucket, key = self._lane.bucket, self._target.key
        order = [oss2.models.PartInfo(n, self._parts[n].etag) for n in sorted(self._parts)]

        def complete() -> Any:
            answer = bucket.complete_multipart_upload(key, self._checkpoint.upload_id, order)
            answer.resp.read()  # oss2 leaves it, and the connection would not be used again
            return answer

        try:
            answer = self._lane.ask(f"complete {self._target.what}", complete)
        except NotFound as error:
            if error.context.get("code") != "NoSuchUpload":
                raise
            raise Gone(whole) from error
        self._check_whole(answer.crc, whole)
        return str(answer.etag)

    def _check_whole(self, stated: int | None, whole: int) -> None:
        """Hold the finished object against what was sent; one that differs does not stay.

        What the object is asked for now decides: the answer to Complete may have been changed on
        its way, and no part is sent again for that.
        """
        target = self._target
        head = target.head()
        if head is None:
            raise Wrong(f"{target.what} vanished after it was completed")
        equal = head.content_length == target.file.size and head.server_crc in (None, whole)
        # An upload begun elsewhere may have been begun for another file.
        labelled = head.headers.get(META_SHA256, "") in ("", target.file.sha256)
        if not (equal and labelled):
            delete_keys(self._lane.bucket, [target.key])
            raise Wrong(
                f"{target.what} is not what was sent: {head.content_length} bytes with CRC-64 "
                f"{head.server_crc} instead of {target.file.size} with {whole}"
            )
        require_crc(target.what, stated)
        require_crc(target.what, head.server_crc)

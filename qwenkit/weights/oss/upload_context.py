"""What all objects of one upload share, and how one of them is labelled, sent and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import oss2

from qwenkit.errors import TransferError
from qwenkit.weights.checkpoint import Checkpoints
from qwenkit.weights.hub.listing import Repository, SourceFile
from qwenkit.weights.hub.source_stream import SourceStream
from qwenkit.weights.oss.announcement import Announcement
from qwenkit.weights.oss.bucket import StoredObject, object_url
from qwenkit.weights.oss.errors import call_oss, check_crc, get_if_exists
from qwenkit.weights.oss.manifest import META_CRC64, META_SHA256, StoredFile, owned_by
from qwenkit.weights.parts import SMALL, Buffers, SlicedBody
from qwenkit.weights.progress import Meter
from qwenkit.weights.retry import RetryPolicy, Stop

ALONE = "let one upload at a time write to a prefix, then repeat it"


@dataclass(frozen=True)
class UploadContext:
    """What all objects of one upload share. ``present``, ``uploads`` and ``ours`` are by key."""

    bucket: oss2.Bucket
    repository: Repository
    prefix: str
    run: str
    replace: bool
    part_size: int
    policy: RetryPolicy
    meter: Meter
    buffers: Buffers
    senders: ThreadPoolExecutor
    checkpoints: Checkpoints
    announcement: Announcement
    present: Mapping[str, StoredObject]  # the objects that the bucket lists below the prefix
    uploads: Mapping[str, list[str]]  # the ids of unfinished multipart uploads
    ours: Mapping[str, StoredFile]  # the files that our manifest of an earlier upload lists

    @contextmanager
    def buffer(self, size: int) -> Iterator[memoryview]:
        """Lend a buffer; a small one is allocated, so it waits for no part."""
        if size <= SMALL:
            yield memoryview(bytearray(size))
            return
        buffer = self.buffers.take(size, self.stop)
        try:
            yield memoryview(buffer)[:size]
        finally:
            self.buffers.give(buffer)

    def stream(self, file: SourceFile) -> SourceStream:
        """Open a file of the source."""
        return SourceStream(self.repository, file, self.policy)

    @property
    def stop(self) -> Stop:
        """The signal that ends the upload early."""
        return self.policy.stop


class TargetObject:
    """The object to upload one file to."""

    def __init__(self, context: UploadContext, file: SourceFile) -> None:
        self.context, self.file = context, file
        self.key = f"{context.prefix}/{file.path}"
        self.url = object_url(context.bucket, self.key)

    def call(self, what: str, action: Callable[[], Any]) -> Any:
        """Send a request with this upload's retries."""
        return call_oss(self.context.bucket, what, action, self.context.policy)

    def head(self) -> Any | None:
        """Return the server's answer to HEAD, None if the object does not exist."""
        bucket = self.context.bucket
        get = partial(bucket.head_object, self.key)
        return get_if_exists(bucket, self.url, get, self.context.policy)

    def headers(self, sha256: str, crc: int | None = None) -> dict[str, str]:
        """Return the metadata that marks the object as ours, with the hashes known so far."""
        labels = owned_by(self.context.run)
        if sha256:
            labels[META_SHA256] = sha256
        if crc is not None:
            labels[META_CRC64] = str(crc)
        return labels

    def send(self, what: str, put: Callable[[Any], Any], view: memoryview, crc: int) -> Any:
        """Send bytes, in a new body each time, until the server states their CRC.

        Raises:
            TransferError: the server states no CRC, or every attempt gets another one.
        """

        def attempt() -> Any:
            counted: list[int] = []

            def count(bytes_sent: int) -> None:
                counted.append(bytes_sent)
                self.context.meter.send(self.file.path, bytes_sent)

            try:
                # requests sends a body of length 0 in chunks unless it is plain bytes.
                answer = put(SlicedBody(view, self.context.stop, count) if len(view) else b"")
                check_crc(what, answer.crc, crc)
            except BaseException:
                self.context.meter.send(self.file.path, -sum(counted))
                raise
            return answer

        return self.call(what, attempt)

    def hashed(self, sha256: str) -> SourceFile:
        """Return the file with the hash of the bytes that were read.

        Raises:
            ContentMismatch: the source lists another hash.
        """
        file = self.file
        if file.sha256 not in ("", sha256):
            raise ContentMismatch(
                f"{file.path}: the source's bytes are not those of its listing",
                f"they have sha256 {sha256}, it says {file.sha256}",
                "repeat the upload; if it fails again, the source is damaged: choose another one",
            )
        return SourceFile(file.path, file.size, sha256)


class NoSuchUpload(TransferError):
    """The upload id does not exist. ``crc64`` is that of the whole, if all of it was sent."""

    def __init__(self, crc64: int | None = None) -> None:
        super().__init__(
            "the multipart upload does not exist any more",
            "another program completed or aborted it",
            ALONE,
        )
        self.crc64 = crc64


class ContentMismatch(TransferError):
    """The bytes that were read or stored are not the expected ones; starting again may help."""

"""What all objects of one upload share, and one of them on its way: named, asked after, sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import oss2

from qwenkit.errors import NotFound, TransferError
from qwenkit.weights.checkpoint import Checkpoints, Saver
from qwenkit.weights.hub.listing import RemoteFile, Repository
from qwenkit.weights.hub.source_stream import SourceStream
from qwenkit.weights.manifest import StoredFile
from qwenkit.weights.oss.bucket import StoredObject, object_url
from qwenkit.weights.oss.errors import CrcMismatch, ask
from qwenkit.weights.parts import SMALL, Body, Buffers
from qwenkit.weights.progress import Meter, Tally
from qwenkit.weights.retry import Patience, Result, Stop

META_RUN = "x-oss-meta-qwenkit-run"
META_SHA256 = "x-oss-meta-qwenkit-sha256"
META_CRC64 = "x-oss-meta-qwenkit-crc64"


@dataclass(frozen=True)
class Lane:
    """The tools and the knowledge of one upload."""

    bucket: oss2.Bucket
    repository: Repository
    prefix: str
    run: str
    replace: bool
    part_size: int
    patience: Patience
    meter: Meter
    buffers: Buffers
    senders: ThreadPoolExecutor
    checkpoints: Checkpoints
    saver: Saver
    present: Mapping[str, StoredObject]  # what the bucket lists below the prefix, by key
    uploads: Mapping[str, list[str]]  # unfinished multipart uploads, by key
    ours: Mapping[str, StoredFile]  # what our manifest says lies there, by key

    def key(self, path: str) -> str:
        """Return the key that a file of the source gets."""
        return f"{self.prefix}/{path}"

    def ask(self, what: str, action: Callable[[], Result]) -> Result:
        """Send a request with this upload's patience."""
        return ask(self.bucket, what, action, self.patience)

    @contextmanager
    def buffer(self, size: int) -> Iterator[memoryview]:
        """Lend a buffer; a small one is made for the occasion and waits for no part."""
        if size <= SMALL:
            yield memoryview(bytearray(size))
            return
        buffer = self.buffers.take(size, self.stop)
        try:
            yield memoryview(buffer)[:size]
        finally:
            self.buffers.give(buffer)

    def stream(self, file: RemoteFile) -> SourceStream:
        """Open a file of the source."""
        return SourceStream(self.repository, file, self.patience)

    @property
    def stop(self) -> Stop:
        """Whether the work should end."""
        return self.patience.stop


class Target:
    """The object that one file becomes."""

    def __init__(self, lane: Lane, file: RemoteFile) -> None:
        self.lane, self.file = lane, file
        self.key = lane.key(file.path)
        self.what = object_url(lane.bucket, self.key)
        self.tally = Tally(lane.meter)

    def head(self) -> Any | None:
        """Return what the server says of the object, None if it does not exist."""
        try:
            return self.lane.ask(self.what, partial(self.lane.bucket.head_object, self.key))
        except NotFound as error:
            if error.context.get("code") == "NoSuchBucket":
                raise
            return None

    def headers(self, sha256: str, crc: int | None = None) -> dict[str, str]:
        """Return the metadata that marks the object as ours, with the hashes known so far."""
        labels = {META_RUN: self.lane.run}
        if sha256:
            labels[META_SHA256] = sha256
        if crc is not None:
            labels[META_CRC64] = str(crc)
        return labels

    def send(self, what: str, put: Callable[[Any], Any], view: memoryview, crc: int) -> Any:
        """Send bytes, with a body built anew each time, until the server states their CRC.

        Raises:
            TransferError: it states none, or keeps stating another.
        """

        def attempt() -> Any:
            counted: list[int] = []

            def count(bytes_sent: int) -> None:
                counted.append(bytes_sent)
                self.tally.send(bytes_sent)

            try:
                # requests sends a body of length 0 in chunks unless it is plain bytes.
                answer = put(Body(view, self.lane.stop, count) if len(view) else b"")
                check_crc(what, answer.crc, crc)
            except BaseException:
                self.tally.send(-sum(counted))
                raise
            return answer

        return self.lane.ask(what, attempt)

    def hashed(self, sha256: str) -> RemoteFile:
        """Return the file with the hash of what was read; refuse one that is not listed so.

        Raises:
            Wrong: the source's bytes are not those of its listing.
        """
        file = self.file
        if file.sha256 not in ("", sha256):
            raise Wrong(
                f"{file.path}: the source's bytes have sha256 {sha256}, "
                f"its listing says {file.sha256}"
            )
        return RemoteFile(file.path, file.size, sha256)


def require_crc(what: str, stated: int | None) -> None:
    """Refuse an answer without a CRC-64."""
    if stated is None:
        raise TransferError(
            f"{what}: the server's answer has no CRC-64",
            "without x-oss-hash-crc64ecma nothing proves what arrived",
            "use an OSS endpoint; some proxies and S3 gateways drop the header",
        )


def check_crc(what: str, stated: int | None, crc: int) -> None:
    """Refuse an answer whose CRC-64 is not that of what was sent."""
    require_crc(what, stated)
    if stated != crc:
        raise CrcMismatch(
            f"{what}: the server holds other bytes than were sent",
            f"its CRC-64 is {stated}, ours is {crc}",
            "something between here and the server changes bytes: a proxy, faulty memory",
        )


class Gone(TransferError):
    """The upload id means nothing any more. ``crc64``: of the whole, if all of it was sent."""

    def __init__(self, crc64: int | None = None) -> None:
        super().__init__("the upload was ended by somebody else")
        self.crc64 = crc64


class Wrong(TransferError):
    """What was read or stored is not what it should be; worth a fresh start."""

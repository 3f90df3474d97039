"""Read a file of a source once from start to end, even if the connection breaks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack

from qwenkit.errors import TransferError, Unreachable
from qwenkit.weights.hub.listing import ByteReader, Repository, SourceFile
from qwenkit.weights.parts import crc64
from qwenkit.weights.retry import LONGEST_PAUSE_S, RetryPolicy, asked_s

_CHUNK = 1 << 20
_PROGRESS = 1 << 20  # bytes of one answer that show that the source is not just dripping
_PATIENCE_S = 120.0  # of attempts without progress


class SourceStream(ExitStack):
    """Fills buffers in order and hashes the bytes; reopens a broken stream at its position."""

    def __init__(self, repository: Repository, file: SourceFile, policy: RetryPolicy) -> None:
        super().__init__()
        self._repository, self._file, self._policy = repository, file, policy
        self._sha256 = hashlib.sha256()
        self._position = 0
        self._failures, self._opened_at, self._failing_since = 0, 0, 0.0
        self._reader: ByteReader | None = None

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far."""
        return self._sha256.hexdigest()

    def skip(self, data: memoryview) -> None:
        """Count the file's next bytes, which are here already, before any is read."""
        self._sha256.update(data)
        self._position += len(data)

    def fill(self, buffer: memoryview) -> None:
        """Fill the whole buffer with the next bytes.

        Raises:
            TransferError: the source ends early, or sends other bytes than requested.
            Unreachable: the source stopped answering.
        """
        filled = 0
        while filled < len(buffer):
            self._policy.stop.check()
            piece = buffer[filled : filled + _CHUNK]
            count = self._read(piece)
            self._sha256.update(piece[:count])
            filled += count
            self._position += count

    def _read(self, piece: memoryview) -> int:
        while True:
            try:
                if self._reader is None:
                    self._opened_at = self._position
                    self._reader = self.enter_context(
                        self._repository.open(self._file, self._position)
                    )
                if count := self._reader.readinto(piece):
                    return count
                raise self._truncated()
            except (Unreachable, TransferError) as error:
                self._reopen_after(error)

    def _reopen_after(self, error: Unreachable | TransferError) -> None:
        if isinstance(error, TransferError) and "status" in error.context:
            raise error  # the hub said no
        now = time.monotonic()
        if not self._failures or self._position - self._opened_at >= _PROGRESS:
            self._failures, self._failing_since = 0, now
        self._failures += 1
        attempts = self._policy.attempts
        if not isinstance(error, Unreachable):
            attempts = min(4, attempts)  # a wrong answer is rarely temporary
        elif error.context.get("slow"):
            attempts = min(3, attempts)
        late = now - self._failing_since > _PATIENCE_S
        if self._failures >= attempts or late or asked_s(error) > LONGEST_PAUSE_S:
            raise error
        self._failing_since += asked_s(error)
        self._reader = None
        # The exception tells the source that the file was not read to its end.
        self.__exit__(type(error), error, None)
        self._policy.on_retry()
        self._policy.pause(self._failures, error)

    def _truncated(self) -> TransferError:
        return TransferError(
            f"{self._file.path}: the source ended early",
            f"after {self._position} of the {self._file.size} bytes that it listed",
            "if it persists, the file has changed since it was listed: start again",
        )


def digest(
    stream: SourceStream,
    size: int,
    buffer: memoryview,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> tuple[str, int]:
    """Read a whole file; return its sha256 and CRC-64."""
    crc = 0
    for start in range(0, size, len(buffer) or 1):
        piece = buffer[: min(len(buffer), size - start)]
        stream.fill(piece)
        crc = crc64(piece, crc)
        on_bytes(len(piece))
    return stream.sha256, crc

"""The progress of a transfer, as numbers and as one line."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_WINDOW_S = 10.0


@dataclass(frozen=True)
class Progress:
    """The state of a transfer at one moment. ``eta_s`` is None until a rate is known."""

    files_done: int
    files: int
    bytes_done: int
    bytes: int
    rate_bps: float
    eta_s: float | None
    retries: int
    current: str


def format_progress(progress: Progress) -> str:
    """Return one line: files, bytes, rate, time left, retries."""
    share = 100 * progress.bytes_done / progress.bytes if progress.bytes else 100.0
    line = (
        f"{progress.files_done}/{progress.files} files  "
        f"{format_bytes(progress.bytes_done)} of {format_bytes(progress.bytes)} ({share:.0f} %)  "
        f"{format_bytes(progress.rate_bps)}/s"
    )
    if progress.eta_s is not None:
        line += f"  {format_seconds(progress.eta_s)} left"
    if progress.retries:
        line += f"  {progress.retries} retries"
    return f"{line}  {progress.current}".rstrip()


def format_bytes(count: float) -> str:
    """Return a size with a decimal unit, as hubs and OSS bills do.

    >>> format_bytes(9_128_000_000)
    '9.1 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def format_seconds(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if needed."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Meter:
    """Thread-safe counters; the rate is that of the last ten seconds."""

    def __init__(self, files: int, total: int) -> None:
        self._lock = threading.Lock()
        self._files, self._total = files, total
        self._files_done = 0
        self.sent = self.skipped = self.retries = 0
        self._repeated = 0  # bytes that arrived, but had to be sent again
        self._open: dict[str, tuple[int, int]] = {}  # bytes sent and kept of each file in progress
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    @contextmanager
    def file(self, path: str) -> Iterator[None]:
        """Count a file as in progress, then as done; one that fails stays in progress."""
        with self._lock:
            self._open[path] = (0, 0)
        yield
        with self._lock:
            self._files_done += 1
            del self._open[path]

    def send(self, path: str, count: int) -> None:
        """Count bytes of a file that were sent; negative for those of a request that failed."""
        with self._lock:
            sent, kept = self._open[path]
            self._open[path] = (sent + count, kept)
            self.sent += count

    def keep(self, path: str, count: int) -> None:
        """Count bytes of a file that were already in the bucket."""
        with self._lock:
            sent, kept = self._open[path]
            self._open[path] = (sent, kept + count)
            self.skipped += count

    def kept(self, path: str) -> int:
        """Return how many bytes of a file in progress were already in the bucket."""
        return self._open[path][1]

    def restart(self, path: str) -> None:
        """Start a file again: its bytes stay counted as sent, but not as done."""
        with self._lock:
            sent, kept = self._open[path]
            self._open[path] = (0, 0)
            self._repeated += sent
            self.skipped -= kept
            self.retries += 1

    def retry(self) -> None:
        """Count a request sent again."""
        with self._lock:
            self.retries += 1

    def read(self) -> Progress:
        """Return the current state."""
        with self._lock:
            now, sent = time.monotonic(), self.sent
            done = sent - self._repeated + self.skipped
            current = next(iter(self._open), "")
        self._seen.append((now, sent))
        while len(self._seen) > 2 and self._seen[1][0] < now - _WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = max(0.0, (sent - before) / (now - since)) if now > since else 0.0
        return Progress(
            files_done=self._files_done,
            files=self._files,
            bytes_done=done,
            bytes=self._total,
            rate_bps=rate,
            eta_s=(self._total - done) / rate if rate else None,
            retries=self.retries,
            current=current,
        )

"""What has a container written since its start, and when?"""

from __future__ import annotations

import time
from datetime import UTC, datetime

_MAX_BYTES = 2**20


class ContainerLog:
    """The lines of one run of a container, each with its time."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str]] = []
        self._size = 0

    def write(self, text: str) -> None:
        """Add lines; a full log is dropped, as the kubelet rotates one at 10 MiB."""
        if self._size >= _MAX_BYTES:
            self._lines, self._size = [], 0
        now = time.time_ns()
        self._lines += ((now, line) for line in text.rstrip("\n").split("\n"))
        self._size += len(text)

    def text(self, *, timestamps: bool = False) -> str:
        """Return the whole log, with ``timestamps`` as the kubelet writes them before each line."""
        return "".join(
            f"{_nanoseconds(written) if timestamps else ''}{line}\n"
            for written, line in self._lines
        )


def _nanoseconds(moment: int) -> str:
    seconds, rest = divmod(moment, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z "

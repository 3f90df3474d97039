"""What time is it in the sandbox? Its seconds may run faster than the wall clock's."""

from __future__ import annotations

import asyncio
import time

from qwenkit.sandbox.kube.objects import parse_timestamp, utc_now


class Clock:
    """Seconds since the clock was made, ``scale`` of them in one real second."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self._start = time.monotonic()
        self._epoch_ns = time.time_ns()

    def now(self) -> float:
        """Return the seconds of sandbox time that have passed."""
        return (time.monotonic() - self._start) * self.scale

    def unix_ns(self) -> int:
        """Return the sandbox's time as nanoseconds of the epoch."""
        return self._epoch_ns + int(self.now() * 1e9)

    def real(self, seconds: float) -> float:
        """Return how many real seconds ``seconds`` of sandbox time take."""
        return seconds / self.scale

    def moment(self, timestamp: str) -> float:
        """Return the time on this clock at which an API timestamp was written, negative if past."""
        age = (utc_now() - parse_timestamp(timestamp)).total_seconds()
        return self.now() - max(0.0, age) * self.scale


def loop_time() -> float:
    """Return the running event loop's time in real seconds, the clock of its timers."""
    return asyncio.get_running_loop().time()

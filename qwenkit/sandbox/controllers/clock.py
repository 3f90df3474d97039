"""What time is it in the sandbox? Its seconds may run faster than the wall clock's."""

from __future__ import annotations

import asyncio
import time

from qwenkit.sandbox.kube.objects import parse_timestamp, utc_now


class Clock:
    """Seconds since the clock was made, ``scale`` of them in one real second."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self._start, self._before = time.monotonic(), 0.0
        self._epoch_ns = time.time_ns()
        self._changed = asyncio.Event()

    def now(self) -> float:
        """Return the seconds of sandbox time that have passed."""
        return self._before + (time.monotonic() - self._start) * self.scale

    def rescale(self, scale: float) -> None:
        """Run at another speed from now on, also for those who sleep by this clock."""
        self._before, self._start = self.now(), time.monotonic()
        self.scale = scale
        self._changed.set()
        self._changed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Sleep until ``seconds`` of sandbox time have passed."""
        while True:
            begun, scale, changed = loop_time(), self.scale, self._changed
            try:
                async with asyncio.timeout(max(0.0, seconds / scale)):
                    await changed.wait()
            except TimeoutError:
                return
            seconds -= (loop_time() - begun) * scale

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

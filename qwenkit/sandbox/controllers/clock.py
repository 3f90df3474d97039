"""The sandbox's time: seconds that may run faster than the wall's."""

from __future__ import annotations

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
        """Return this clock's moment as nanoseconds of the epoch, as if it had begun on time."""
        return self._epoch_ns + int(self.now() * 1e9)

    def real(self, seconds: float) -> float:
        """Return how many real seconds ``seconds`` of sandbox time take."""
        return seconds / self.scale

    def moment(self, timestamp: str) -> float:
        """Return when, on this clock, an API timestamp was written; past ones are negative."""
        age = (utc_now() - parse_timestamp(timestamp)).total_seconds()
        return self.now() - max(0.0, age) * self.scale

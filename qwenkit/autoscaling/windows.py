"""How the autoscaler averages the load: windows of one bucket a second.

Times are seconds as floats or integers; a bucket is a whole second. Values of the same second
add up, because several activators and the scrape report into the same bucket. ``MaxWindow`` is
the sliding maximum behind scale-down-delay.

Source: Knative Serving ``pkg/autoscaler/aggregation`` (``bucketing.go`` and ``max/``), restated.
"""

from __future__ import annotations

import math

_MIN_SMOOTHING = 0.2
_LEFT_OUT = 1e-4  # a full window's weights add up to at least 1 - this
# Go's exponential on amd64 misses the nearest double at these window sizes, by one unit each.
_GO_MISSES = {24: -1, 25: -1, 31: -1, 34: 1, 35: 1}


def round6(value: float) -> float:
    """Round to 6 decimals, half away from zero (Python's ``round`` is half to even)."""
    scaled = value * 1e6
    whole = float(math.trunc(scaled))
    if abs(scaled - whole) >= 0.5:
        whole += math.copysign(1.0, scaled)
    return whole / 1e6


class LinearWindow:
    """The mean of the last ``window_s`` seconds; a young window divides by its age."""

    __slots__ = ("_first", "_last", "_ring", "_size", "_total")

    def __init__(self, window_s: float) -> None:
        self._size = math.ceil(window_s)
        self._ring = [0.0] * self._size
        self._total = 0.0
        self._first = 0
        self._last: int | None = None

    def record(self, now: float, value: float) -> None:
        """Add a value to its second; one that is older than the window is ignored."""
        second, last = math.floor(now), self._last
        if second != last:
            if last is None or second - last >= self._size:
                self._ring = [0.0] * self._size
                self._total = 0.0
                self._first = self._last = second
            elif second > last:
                ring, size = self._ring, self._size
                for skipped in range(last + 1, second + 1):
                    place = skipped % size
                    self._total -= ring[place]
                    ring[place] = 0.0
                self._last = second
            elif second + self._size <= last:
                return
            elif second < self._first:
                self._first = second
        self._ring[second % self._size] += value
        self._total += value

    def average(self, now: float) -> float:
        """Return the mean at ``now``; seconds after the last record do not count as zeros."""
        last = self._last
        if last is None:
            return 0.0
        missing = math.floor(now) - last
        total, buckets = self._total, self._size
        if missing > 0:
            if missing >= self._size:
                return 0.0
            # One by one, as the original does: a sum first would round differently.
            for second in range(last + 1, last + missing + 1):
                total -= self._ring[second % self._size]
            buckets -= missing
        return round6(total / min(last - self._first + 1, buckets))

    def empty(self, now: float) -> bool:
        """Return whether nothing was recorded for longer than the window."""
        return self._last is None or math.floor(now) - self._last > self._size


def _smoothing(size: int) -> float:
    """Return the newest second's weight, bit for bit: at a boundary the last bit decides."""
    decay = math.exp(1 / size * math.log(_LEFT_OUT)) + _GO_MISSES.get(size, 0) * 2**-53
    return max(1 - decay, _MIN_SMOOTHING)


def _power(base: float, exponent: int) -> float:
    """Raise to a power by squaring, as Go does; the C library's last bits differ."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


class WeightedWindow(LinearWindow):
    """The exponentially weighted mean: the newest second counts most.

    It is neither rounded nor renormalised and ignores the window's age: the first second of a load
    counts only the smoothing coefficient (20 % on a 60 s window).
    """

    __slots__ = ("_smoothing",)

    def __init__(self, window_s: float) -> None:
        super().__init__(window_s)
        self._smoothing = _smoothing(self._size)

    def average(self, now: float) -> float:
        """Return the weighted mean at ``now``; missing trailing seconds count as zeros."""
        last = self._last
        if last is None or self.empty(now):
            return 0.0
        missing = max(0, math.floor(now) - last)
        decay = 1 - self._smoothing
        weight = self._smoothing * _power(decay, missing)
        result = 0.0
        for second in range(last, last - (self._size - missing), -1):
            result += self._ring[second % self._size] * weight
            weight *= decay
        return result


class MaxWindow:
    """The greatest value of the last ``delay_s`` seconds, in slots of one decision (2 s)."""

    SLOT_S = 2

    __slots__ = ("_entries", "_slots")

    def __init__(self, delay_s: float) -> None:
        self._slots = math.ceil(delay_s / self.SLOT_S)
        self._entries: list[tuple[int, int]] = []  # (slot, value), values strictly falling

    def record(self, now: float, value: int) -> int:
        """Add a value and return the greatest that is still inside the delay."""
        slot = math.floor(now) // self.SLOT_S
        entries = self._entries
        while entries and entries[-1][1] <= value:
            entries.pop()
        while entries and entries[0][0] <= slot - self._slots:
            entries.pop(0)
        if not entries or entries[-1][0] != slot:
            entries.append((slot, value))
        return entries[0][1]

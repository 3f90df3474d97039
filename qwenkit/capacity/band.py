"""A modelled figure with its uncertainty, and how both are written.

Nothing else formats modelled figures: digits that the band does not allow are never shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwenkit.capacity.step_time import StepTime

MEASURE = "`qwenkit calibrate --name mine` measures your card, `gpu: card:mine` uses what it found"


@dataclass(frozen=True, slots=True)
class Band:
    """A modelled value, and between which values it is expected.

    >>> Band.around(0.0744, 0.4).text("s")
    'about 70 ms (40 to 100)'
    >>> Band(2, 2, 3).text()
    'about 2 (2 to 3)'
    """

    low: float
    value: float
    high: float

    @classmethod
    def around(cls, value: float, error: float) -> Band:
        """Return a band of ± ``error``, a share: 0.4 is 40 %."""
        return cls(value * (1 - error), value, value * (1 + error))

    @classmethod
    def rate(cls, value: float, error: float) -> Band:
        """Return the band of what is done in a second, whose time is ± ``error``."""
        return cls(value / (1 + error), value, value / (1 - error))

    @classmethod
    def over(cls, value: float, *edges: float) -> Band:
        """Return the band of a figure that was computed at the edges too."""
        return cls(min(value, *edges), value, max(value, *edges))

    def text(self, unit: str = "") -> str:
        """Return value and band, rounded to the digits that the band allows.

        Seconds below 1 are written in ms.
        """
        if unit == "s" and self.high < 1:
            return Band(self.low * 1e3, self.value * 1e3, self.high * 1e3).text("ms")
        after = f" {unit}" if unit else ""
        if not math.isfinite(self.high):
            return f"at least {Band(self.low, self.low, self.low).text(unit)}"
        all_three = (self.low, self.value, self.high)
        counts = all(float(each).is_integer() for each in all_three)
        if self.low == self.high:
            return f"{self.value:,.0f}{after}" if counts else f"{self.value:.3g}{after}"
        step = _place((self.high - self.low) / 4)  # a half width of 1.4 keeps two digits
        step = min(step, 0) if counts else step
        low, value, high = (_rounded(each, step) for each in all_three)
        return f"about {value}{after} ({low} to {high})" if low != high else f"{value}{after}"


def _rounded(value: float, step: int) -> str:
    """Write a number with so many decimals, but with one to three digits."""
    first = _place(float(f"{value:.3g}"))
    digits = min(max(step, first), first + 2)
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def _place(value: float) -> int:
    """Return which decimal the first digit is; that of 20 is -1."""
    return -math.floor(math.log10(value)) if value > 0 else 0


def basis(time: StepTime) -> str:
    """Say what modelled times stand on, and what to do where nobody has measured it."""
    if time.gpu.error is not None:
        return f"speeds were measured on {time.gpu.name}"
    if time.measured:
        return f"speeds are modelled from {time.gpu.name}'s datasheet; such kernels were measured"
    return (
        f"speeds are modelled and unmeasured: no figures of {time.kernel} on {time.gpu.name} are "
        f"known here, so the bands are wide. {MEASURE}"
    )

"""A modelled figure with its uncertainty, and how both are written: here and nowhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwenkit.capacity.step_time import StepTime


@dataclass(frozen=True, slots=True)
class Band:
    """A modelled value, and between which values it is expected."""

    low: float
    value: float
    high: float

    @classmethod
    def around(cls, value: float, error: float) -> Band:
        """Return a band of ± ``error``, a share: 0.4 is 40 %."""
        return cls(value * (1 - error), value, value * (1 + error))

    @classmethod
    def over(cls, value: float, *edges: float) -> Band:
        """Return the band of a figure that was computed at the edges too."""
        return cls(min((value, *edges)), value, max((value, *edges)))

    def times(self, factor: float) -> Band:
        """Return the same in another unit."""
        return Band(self.low * factor, self.value * factor, self.high * factor)

    def text(self, unit: str = "") -> str:
        """Return value and band with the digits that the band allows; ms for less than a second.

        >>> Band.around(0.0744, 0.4).text("s")
        'about 70 ms (40 to 100)'
        """
        if unit == "s" and self.high < 1:
            return self.times(1e3).text("ms")
        if not math.isfinite(self.high):
            return f"at least {Band(self.low, self.low, self.low).text(unit)}"
        half = (self.high - self.low) / 2
        digits = 3 if half < 0.03 * self.value else 2 if half < 0.3 * self.value else 1
        if not half and float(self.value).is_integer():
            digits = 12  # a count, of which the model is sure
        low, value, high = (_short(each, digits) for each in (self.low, self.value, self.high))
        sure = low == high or half < 0.01 * self.value
        about, band = ("", "") if sure else ("about ", f" ({low} to {high})")
        return f"{about}{value} {unit}".rstrip() + band


def _short(value: float, digits: int) -> str:
    """Write a number with so many digits; one that begins with 1 has one more."""
    digits += digits == 1 and f"{value:e}"[0] == "1"
    return f"{float(f'{value:.{digits}g}'):,.12g}"


def basis(time: StepTime) -> str:
    """Say what modelled times stand on, and what to do where nobody has measured it."""
    if time.gpu.error is not None:
        return f"measured on {time.gpu.name}"
    if time.measured:
        return (
            f"modelled from the datasheet of {time.gpu.name} and {time.kernel}'s times on such GPUs"
        )
    experts = " with a mixture of experts" if time.model.expert_share else ""
    return (
        f"modelled and unmeasured: no times of {time.kernel}{experts} on {time.gpu.name} are known "
        "here, so the bands are wide; qwenkit calibrate --name mine measures it, "
        "gpu=card:mine uses that"
    )

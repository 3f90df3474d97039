"""A modelled figure with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass


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

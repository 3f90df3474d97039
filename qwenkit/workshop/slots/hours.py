"""Class hours: when GPUs may be held, every day by the instructor's clock."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.errors import InvalidValue

_DAY_S = 86_400


def seconds_of_day(text: str) -> int:
    """Read ``HH:MM``.

    Raises:
        InvalidValue: it is no time of day.
    """
    hours, colon, minutes = text.strip().partition(":")
    if colon and hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2:
        found = int(hours) * 3600 + int(minutes) * 60
        if int(minutes) < 60 and found <= _DAY_S:
            return found
    raise InvalidValue("time", text, "must be a time of day such as 09:00")


@dataclass(frozen=True)
class ClassHours:
    """From ``opens_s`` to ``closes_s`` of each day, in seconds, and ``warm_s`` before.

    The clock is ``utc_offset_s`` ahead of UTC. While a participant holds a slot, their Service has
    ``min_scale`` replicas, so that the first request of the day meets a server that runs.
    """

    opens_s: int
    closes_s: int
    utc_offset_s: int = 0
    warm_s: int = 0
    min_scale: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.opens_s < self.closes_s <= _DAY_S:
            raise InvalidValue("hours", (self.opens_s, self.closes_s), "must begin before they end")

    def __str__(self) -> str:
        begin, end = (
            f"{at // 3600:02d}:{at // 60 % 60:02d}" for at in (self.opens_s, self.closes_s)
        )
        return f"{begin} to {end}, GPUs {self.warm_s // 60} minutes before"

    def is_open(self, now: float) -> bool:
        """Return whether it is class time, or so little before it that servers start."""
        at = (now + self.utc_offset_s) % _DAY_S
        early = self.opens_s - self.warm_s
        return early <= at < self.closes_s or (early < 0 and at >= early + _DAY_S)

    def closes_at(self, now: float) -> float:
        """Return when class ends next."""
        at = (now + self.utc_offset_s) % _DAY_S
        return now + (self.closes_s - at) % _DAY_S

    def closed_last(self, now: float) -> float:
        """Return when class ended last."""
        return self.closes_at(now) - _DAY_S

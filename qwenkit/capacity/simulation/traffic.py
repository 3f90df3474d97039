"""When requests arrive: at given times (open loop), or after the last answer (closed loop).

All random functions take a seed: the same call returns the same requests.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from qwenkit.errors import InvalidValue

MAX_REQUESTS = 5_000_000
_MOST_CLIENTS = 100_000
MOST_TOKENS = 10_000_000  # of a request


def _are_counts(*tokens: int) -> bool:
    return min(tokens) >= 1 and max(tokens) <= MOST_TOKENS


class Arrival(NamedTuple):
    """One request: its time in seconds, and its prompt and output tokens."""

    at: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts: means, and the spread as a coefficient of variation (0: all equal)."""

    prompt_tokens: int = 256
    output_tokens: int = 128
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens"):
            if not _are_counts(getattr(self, name)):
                raise InvalidValue(name, getattr(self, name), f"1 to {MOST_TOKENS:,}")
        if not 0 <= self.spread < 10:
            raise InvalidValue("spread", self.spread, "0 to 10")

    def draw(self, at: float, rng: Random) -> Arrival:
        """Return a request of log-normal lengths."""
        if not self.spread:
            return Arrival(at, self.prompt_tokens, self.output_tokens)
        sigma = math.sqrt(math.log1p(self.spread**2))
        prompt, output = (
            min(MOST_TOKENS, max(1, round(mean * rng.lognormvariate(-sigma * sigma / 2, sigma))))
            for mean in (self.prompt_tokens, self.output_tokens)
        )
        return Arrival(at, prompt, output)


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests at given times, whether or not earlier ones were answered."""

    arrivals: tuple[Arrival, ...]

    def __post_init__(self) -> None:
        if not self.arrivals:
            raise InvalidValue("traffic", "no requests", "at least one request")
        last = 0.0
        for at, prompt, output in self.arrivals:
            if not last <= at < math.inf or not _are_counts(prompt, output):
                rule = f"times of at least 0 in rising order, token counts of 1 to {MOST_TOKENS:,}"
                raise InvalidValue("arrival", (at, prompt, output), rule)
            last = at

    @property
    def end_s(self) -> float:
        """The time of the last request."""
        return self.arrivals[-1].at

    @property
    def lengths(self) -> Lengths:
        """The mean lengths of the requests."""
        _, prompts, outputs = zip(*self.arrivals, strict=True)
        count = len(self.arrivals)
        return Lengths(max(1, round(sum(prompts) / count)), max(1, round(sum(outputs) / count)))


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Clients that send their next request when the last one is answered.

    ``schedule`` lists (from second, clients); a client that leaves gets its last answer first.

    >>> from qwenkit.capacity.simulation.traffic import ClosedLoop
    >>> ClosedLoop(((0, 1), (60, 5), (150, 0))).end_s
    150
    """

    schedule: tuple[tuple[float, int], ...]
    lengths: Lengths = Lengths()

    def __post_init__(self) -> None:
        if not self.schedule:
            raise InvalidValue("schedule", (), "at least one (from second, clients)")
        times = [at for at, _ in self.schedule]
        if times != sorted(times) or not 0 <= times[0] <= times[-1] < math.inf:
            raise InvalidValue("schedule", times, "seconds of at least 0 in rising order")
        for at, clients in self.schedule:
            if not 0 <= clients <= _MOST_CLIENTS:
                rule = f"at least 0, at most {_MOST_CLIENTS:,}"
                raise InvalidValue("clients", clients, rule, f"schedule at {at:g} s")

    def clients(self, at: float) -> int:
        """Return the scheduled number of clients at a time."""
        place = bisect_right(self.schedule, at, key=lambda entry: entry[0])
        return self.schedule[place - 1][1] if place else 0

    def turn(self, client: int, at: float) -> float:
        """Return when a client, counted from 0, may send at ``at`` or later; infinite if never."""
        if self.clients(at) > client:
            return at
        later = (start for start, _ in self.schedule if start > at)
        return next((start for start in later if self.clients(start) > client), math.inf)

    @property
    def end_s(self) -> float:
        """The time of the last change of the number of clients."""
        return self.schedule[-1][0]


Traffic = OpenLoop | ClosedLoop


def poisson(
    rate_per_s: float, duration_s: float, *, lengths: Lengths | None = None, seed: int = 0
) -> OpenLoop:
    """Return Poisson arrivals at a constant mean rate."""
    return varying(lambda _: rate_per_s, rate_per_s, duration_s, lengths=lengths, seed=seed)


def bursts(
    rate_per_s: float,
    burst_per_s: float,
    duration_s: float,
    *,
    every_s: float = 300.0,
    burst_s: float = 30.0,
    lengths: Lengths | None = None,
    seed: int = 0,
) -> OpenLoop:
    """Return Poisson arrivals with a burst of ``burst_s`` at the end of every ``every_s``.

    >>> from qwenkit import bursts
    >>> hour = bursts(0.02, 0.5, 3600, every_s=900, burst_s=60)
    >>> len(hour.arrivals) > 100
    True
    """
    _positive(every_s=every_s, burst_s=burst_s)
    for name, value in (("rate_per_s", rate_per_s), ("burst_per_s", burst_per_s)):
        if not 0 <= value < math.inf:
            raise InvalidValue(name, value, "finite, at least 0")

    def rate(at: float) -> float:
        return burst_per_s if at % every_s >= every_s - burst_s else rate_per_s

    most = max(rate_per_s, burst_per_s)
    return varying(rate, most, duration_s, lengths=lengths, seed=seed)


def varying(
    rate: Callable[[float], float],
    most_per_s: float,
    duration_s: float,
    *,
    lengths: Lengths | None = None,
    seed: int = 0,
) -> OpenLoop:
    """Return Poisson arrivals whose rate varies in time, by thinning.

    Raises:
        InvalidValue: no positive rate or duration, a rate outside 0 to ``most_per_s``, or not
            one random arrival.
    """
    check_size(most_per_s, duration_s)
    rng, lengths = Random(seed), lengths or Lengths()
    found: list[Arrival] = []
    at = rng.expovariate(most_per_s)
    while at < duration_s:
        now = rate(at)
        if not 0 <= now <= most_per_s:
            raise InvalidValue("rate", now, f"0 to {most_per_s:g} requests a second")
        if rng.random() * most_per_s < now:
            found.append(lengths.draw(at, rng))
        at += rng.expovariate(most_per_s)
    return OpenLoop(tuple(found))


def check_size(rate_per_s: float, duration_s: float) -> None:
    """Raise ``InvalidValue`` for a rate or a duration that is not positive, or for too many."""
    _positive(rate_per_s=rate_per_s, duration_s=duration_s)
    if rate_per_s * duration_s > MAX_REQUESTS:
        raise InvalidValue("rate_per_s", rate_per_s, f"at most {MAX_REQUESTS:,} requests in all")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InvalidValue(name, value, "more than 0, finite")

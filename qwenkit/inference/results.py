"""What a load test measured: every request, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from qwenkit.capacity.result import nearest_rank


@dataclass(frozen=True)
class LoadRequest:
    """One request; times are seconds since the load began.

    ``why`` is the kind of a failure: ``http 503``, ``timeout``, ``no connection``, ``cut``,
    ``unfinished`` ...
    """

    start_s: float
    end_s: float
    outcome: Literal["ok", "failed"]
    why: str
    first_s: float | None
    last_s: float
    tokens: int

    @property
    def latency_s(self) -> float:
        """Seconds from sending to the end."""
        return self.end_s - self.start_s

    @property
    def ttft_s(self) -> float | None:
        """Seconds from sending to the first token; None if none came."""
        return None if self.first_s is None else self.first_s - self.start_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds a token after the first; None for answers of one."""
        if self.first_s is None or self.tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.tokens - 1)


@dataclass(frozen=True)
class LoadProgress:
    """A load in progress: seconds, number of running requests, finished requests."""

    seconds: float
    running: int
    requests: tuple[LoadRequest, ...]

    def __str__(self) -> str:
        failed = sum(request.outcome == "failed" for request in self.requests)
        return (
            f"{self.seconds:6.1f} s  {len(self.requests)} requests, {failed} failed, "
            f"{self.running} running"
        )


@dataclass(frozen=True, repr=False)
class LoadResult:
    """All requests in the order of their start; ``seconds`` includes the wait for the last ones.

    ``began`` is the load's start on this machine's ``time.monotonic()``.
    """

    clients: int
    requests: tuple[LoadRequest, ...]
    seconds: float
    began: float

    def summary(self) -> dict[str, Any]:
        """Return counts, errors by kind, percentiles and rates, JSON-ready."""
        good = [request for request in self.requests if request.outcome == "ok"]
        failed = Counter(r.why for r in self.requests if r.outcome == "failed")
        busy = max((r.end_s for r in good), default=0.0)
        tokens = sum(request.tokens for request in good)
        return {
            "clients": self.clients,
            "seconds": round(self.seconds, 3),
            "requests": len(self.requests),
            "ok": len(good),
            "errors": dict(failed),
            "ttft_s": percentiles(r.ttft_s for r in good),
            "tpot_s": percentiles(r.tpot_s for r in good),
            "latency_s": percentiles(r.latency_s for r in good),
            "tokens": tokens,
            "tokens_per_second": round(tokens / busy, 3) if busy else 0.0,
            "requests_per_second": round(len(good) / busy, 3) if busy else 0.0,
        }

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.summary().items())

    __repr__ = __str__


def percentiles(values: Iterable[float | None]) -> dict[str, float]:
    """Return p50, p95 and p99 by nearest rank; empty without values."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {}
    return {f"p{rank}": round(nearest_rank(known, rank), 4) for rank in (50, 95, 99)}

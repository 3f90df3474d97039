"""Raise the load step by step until the server gives no more: where is the knee?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qwenkit.inference.results import LoadResult
from qwenkit.language import Shown

# Of the growth of the load, the least that throughput must grow by.
_WORTH = 0.5


@dataclass(frozen=True)
class SweepStep:
    """One load of a sweep: its level (clients, or requests a second), and what came of it."""

    level: float
    requests_per_second: float
    tokens_per_second: float
    ttft_p95_s: float
    tpot_p50_s: float
    failed: int

    def __str__(self) -> str:
        return (
            f"{self.level:8g} {self.requests_per_second:11.2f} {self.tokens_per_second:10.1f} "
            f"{self.ttft_p95_s:10.3f} {self.tpot_p50_s:10.4f} {self.failed:7}"
        )


@dataclass(frozen=True, repr=False)
class Sweep(Shown):
    """The steps of a sweep. ``knee`` is the last level that was worth it, None if none was."""

    unit: str
    steps: tuple[SweepStep, ...]
    knee: float | None
    why: str

    def __str__(self) -> str:
        head = f"{self.unit:>8}  requests/s   tokens/s  TTFT p95 s TPOT p50 s  failed"
        return "\n".join([head, *map(str, self.steps), self.why])


def sweep(unit: str, levels: Iterable[float], run: Callable[[float], LoadResult]) -> Sweep:
    """Run a load at each level, in rising order, until the knee is passed or requests fail.

    Past the knee, throughput (successful requests a second) grows by less than half as much as
    the load: more load only waits longer.
    """
    steps: list[SweepStep] = []
    for level in levels:
        result = run(level)
        steps.append(_step(level, result))
        if result.ended_early or steps[-1].failed:
            why = result.ended_early or f"{steps[-1].failed} requests failed"
            why = f"{why}, at {level:g} {unit}"
            return Sweep(unit, tuple(steps), steps[-2].level if steps[1:] else None, why)
        if not steps[1:]:
            continue
        before, after = steps[-2:]
        grown = after.requests_per_second / before.requests_per_second - 1
        if grown < _WORTH * (after.level / before.level - 1):
            why = f"the knee is at {before.level:g} {unit}: {after.level:g} gave {grown:+.0%}"
            return Sweep(unit, tuple(steps), before.level, f"{why} requests a second")
    why = f"no knee up to {steps[-1].level:g} {unit}: the server can do more"
    return Sweep(unit, tuple(steps), steps[-1].level, why)


def doubled(first: float) -> Iterator[float]:
    """Yield the levels of a sweep: the first, and up to a thousand times as much."""
    return (first * 2**n for n in range(11))


def _step(level: float, result: LoadResult) -> SweepStep:
    figures = result.summary()
    return SweepStep(
        level,
        figures["requests_per_second"],
        figures["tokens_per_second"],
        figures["ttft_s"].get("p95", 0.0),
        figures["tpot_s"].get("p50", 0.0),
        figures["failed"] + figures["cancelled"],
    )

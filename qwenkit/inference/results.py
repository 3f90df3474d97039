"""What a load measured: every request, a state while it runs, and a summary.

TTFT, TPOT, ITL and goodput are those of ``vllm bench serve`` (vLLM 0.32, ``benchmarks/serve.py``),
with four differences: times count from when a request was *due*, so that a slow server cannot hide
by delaying later requests; the first token is the first text, where vLLM takes the role before it;
latency is to the end of the answer, not to its last token; and percentiles are nearest ranks of
successful requests, where vLLM interpolates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from qwenkit.capacity.simulation.clock import clock_note
from qwenkit.capacity.simulation.result import nearest_rank
from qwenkit.capacity.simulation.traffic import ClosedLoop, Traffic
from qwenkit.language import Shown

Outcome = Literal["ok", "failed", "cancelled"]
_TIMES = {
    "TTFT": "ttft_s",
    "TPOT": "tpot_s",
    "ITL": "itl_s",
    "latency": "latency_s",
    "schedule delay": "schedule_delay_s",
}


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One request; times are seconds since the load began.

    ``scheduled_s`` is when it was due and ``sent_s`` when it was sent; ``first_byte_s`` is the
    start of the answer, ``first_s`` and ``last_s`` its first and last token (``last_s`` is
    ``end_s`` if none came), ``token_s`` the time of every piece of text, reasoning included (empty
    for requests after the first three million pieces of a load).
    ``status`` is HTTP's, 0 without an answer. ``why`` is empty, or the kind of the failure:
    ``http 503``, ``timeout``, ``no connection``, ``cut``, ``stopped`` ... Token counts are the
    server's ``usage``; ``pod`` and ``revision`` are empty where the gateway does not tell.
    """

    number: int
    scheduled_s: float
    sent_s: float
    first_byte_s: float | None
    first_s: float | None
    last_s: float
    end_s: float
    token_s: Sequence[float]
    status: int
    outcome: Outcome
    why: str
    prompt_tokens: int
    tokens: int
    reasoning_tokens: int = 0
    pod: str = ""
    revision: str = ""

    @property
    def latency_s(self) -> float:
        """Seconds from when the request was due to the end of the answer (E2EL)."""
        return self.end_s - self.scheduled_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token: seconds from when the request was due; None if none came."""
        return None if self.first_s is None else self.first_s - self.scheduled_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first, in seconds; None for answers of one."""
        if self.first_s is None or self.tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.tokens - 1)

    @property
    def itl_s(self) -> Iterator[float]:
        """Inter-token latencies: seconds between pieces of text, each of one or more tokens."""
        return (later - earlier for earlier, later in pairwise(self.token_s))

    def meets(self, *, ttft_s: float | None = None, tpot_s: float | None = None) -> bool:
        """Return whether it succeeded within the limits; an answer of one token has TPOT 0."""
        fast = ttft_s is None or (self.ttft_s is not None and self.ttft_s <= ttft_s)
        return self.outcome == "ok" and fast and (tpot_s is None or (self.tpot_s or 0.0) <= tpot_s)


@dataclass(frozen=True)
class LoadProgress:
    """A load at one moment: counts so far, and the requests that ended in the last 10 seconds.

    ``seconds`` since the load began; ``tokens`` counts those of running requests too.
    """

    seconds: float
    sent: int
    running: int
    ok: int
    failed: int
    cancelled: int
    tokens: int
    errors: Mapping[str, int]
    recent: tuple[LoadRequest, ...]
    clock: float = 1.0


@dataclass(frozen=True, repr=False)
class LoadResult(Shown):
    """All requests in the order of their sending; ``seconds`` includes the wait for the last ones.

    ``began`` is the load's start on this machine's ``time.monotonic()``. ``clock`` is how much
    faster than the modelled GPU the server runs, 1 unless the gateway says so. ``causes`` explains
    each kind of failure by an example; ``ended_early`` says why it ended before its time, if so.
    """

    requests: tuple[LoadRequest, ...]
    seconds: float
    began: float
    clock: float = 1.0
    traffic: Traffic | None = None
    causes: Mapping[str, str] = field(default_factory=dict)
    ended_early: str = ""

    def summary(
        self, *, ttft_slo_s: float | None = None, tpot_slo_s: float | None = None
    ) -> dict[str, Any]:
        """Return counts, errors by kind, percentiles and rates, JSON-ready.

        With an objective also ``goodput``: requests a second that met it, and their share of all
        that were sent. After failures also ``causes``, and ``ended_early`` if it did.
        """
        outcomes = Counter(request.outcome for request in self.requests)
        good = [request for request in self.requests if request.outcome == "ok"]
        tokens = sum(request.tokens for request in good)
        figures: dict[str, Any] = {
            "clients": max_clients(self.traffic),
            "seconds": round(self.seconds, 3),
            "requests": len(self.requests),
            "ok": outcomes["ok"],
            "failed": outcomes["failed"],
            "cancelled": outcomes["cancelled"],
            "errors": dict(Counter(r.why for r in self.requests if r.outcome == "failed")),
            "ttft_s": percentiles(r.ttft_s for r in good),
            "tpot_s": percentiles(r.tpot_s for r in good),
            "itl_s": percentiles(gap for r in good for gap in r.itl_s),
            "latency_s": percentiles(r.latency_s for r in good),
            "tokens": tokens,
            "tokens_per_second": self._rate(tokens),
            "requests_per_second": self._rate(len(good)),
            "served_by": dict(Counter(r.pod for r in good if r.pod)),
            "schedule_delay_s": percentiles(r.sent_s - r.scheduled_s for r in self.requests),
            "clock": self.clock,
        }
        if ttft_slo_s is not None or tpot_slo_s is not None:
            met = sum(r.meets(ttft_s=ttft_slo_s, tpot_s=tpot_slo_s) for r in self.requests)
            share = round(met / len(self.requests), 4) if self.requests else 0.0
            figures["goodput"] = {"requests_per_second": self._rate(met), "share": share}
        if self.causes:
            figures["causes"] = dict(self.causes)
        if self.ended_early:
            figures["ended_early"] = self.ended_early
        return figures

    def _rate(self, count: int) -> float:
        return round(count / self.seconds, 3) if self.seconds else 0.0

    def __str__(self) -> str:
        return as_text(self.summary())


def as_text(figures: Mapping[str, Any]) -> str:
    """Return a load's summary as lines for people."""
    lines = [
        "{requests} requests in {seconds:.1f} s: {ok} ok, {failed} failed, {cancelled} cancelled",
        "{requests_per_second:.2f} answers and {tokens_per_second:.1f} tokens a second",
        "seconds               p50      p95      p99",
    ]
    lines = [line.format(**figures) for line in lines]
    for name, key in _TIMES.items():
        if values := figures[key].values():
            lines.append(f"{name:16}" + "".join(f"{each:9.4f}" for each in values))
    if good := figures.get("goodput"):
        rate, share = good["requests_per_second"], good["share"]
        lines.append(f"goodput: {rate:.2f} requests a second, {share:.1%} of all, met the limits")
    lines += [f"answered by {pod}: {count}" for pod, count in figures["served_by"].items()]
    for kind, count in figures["errors"].items():
        lines.append(f"{count} × {kind}: {figures.get('causes', {}).get(kind, '')}")
    lines += filter(None, [figures.get("ended_early"), clock_note(figures["clock"])])
    return "\n".join(lines)


def max_clients(traffic: Traffic | None) -> int | None:
    """Return the most clients of a closed loop, None for any other traffic."""
    if not isinstance(traffic, ClosedLoop):
        return None
    return max(clients for _, clients in traffic.schedule)


def percentiles(values: Iterable[float | None]) -> dict[str, float]:
    """Return p50, p95 and p99 by nearest rank; empty without values."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {}
    return {f"p{rank}": round(nearest_rank(known, rank), 4) for rank in (50, 95, 99)}

"""What the requests of a load tell of a server's speed: decode steps, prompts, a closed loop.

Names and meaning are those of a file of measured points (``capacity.calibration.points``). Of a
stand-in with a clock, the times are the modelled GPU's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

from qwenkit.inference.results import LoadRequest

Figures = dict[str, Any]
_LEAST = 8  # steps, to tell how long one takes


def figures_of(requests: Sequence[LoadRequest], clock: float, way_s: float = 0.0) -> Figures:
    """Return what a load tells; ``way_s`` is what a request takes on its way there and back."""
    good = [one for one in requests if one.outcome == "ok"]
    return {
        "decode": list(_decode_steps(good, clock)),
        "prefill_s": dict(_prompts_alone(good, clock, way_s)),
        "closed": list(_closed_loop(requests, clock, way_s)),
    }


def _decode_steps(requests: Sequence[LoadRequest], clock: float) -> Iterator[Figures]:
    """Yield the median time of a step for each number of streams, while no prompt is read."""
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for begin, end, streams in _undisturbed(requests):
        for one in streams:
            times = one.token_s
            first, last = bisect_left(times, begin), bisect_right(times, end) - 1
            after = bisect_right(times, times[first]) - 1  # a busy network brings them in lumps
            each = (one.tokens - 1) / (len(times) - 1)  # tokens of a piece of text
            if last - after >= _LEAST:
                step_s = (times[last] - times[after]) / (each * (last - after))
                context = one.prompt_tokens + each * (after + last) / 2
                found[len(streams)].append((step_s, context))
    for batch, steps in sorted(found.items()):
        step_s, context = map(median, zip(*steps, strict=True))
        context, step_s = round(context, 1), round(step_s * clock, 7)
        yield {"batch": batch, "context_tokens": context, "tpot_s": step_s}


def _undisturbed(
    requests: Sequence[LoadRequest],
) -> Iterator[tuple[float, float, list[LoadRequest]]]:
    """Yield from when to when the same streams decode, and no prompt is read."""
    events = []
    for number, one in enumerate(requests):
        if one.first_s is not None and len(one.token_s) > _LEAST:
            events += [(one.sent_s, 0, number), (one.first_s, 1, number), (one.last_s, 2, number)]
    reading, streams, since = 0, set[int](), 0.0
    for at, what, number in sorted(events):
        if streams and not reading and at > since:
            yield since, at, [requests[each] for each in streams]
        reading += (1, -1, 0)[what]
        streams ^= {number} if what else set()
        since = at


def _prompts_alone(
    requests: Sequence[LoadRequest], clock: float, way_s: float
) -> Iterator[tuple[str, float]]:
    """Yield the median TTFT of prompts that had the server to themselves; lengths by doublings."""
    found = defaultdict(list)
    begins, ends = sorted(r.sent_s for r in requests), sorted(r.end_s for r in requests)
    for one in requests:
        first_s = one.end_s if one.first_s is None else one.first_s
        if bisect_left(begins, first_s) - bisect_right(ends, one.sent_s) == 1:
            found[one.prompt_tokens.bit_length()].append((one.prompt_tokens, first_s - one.sent_s))
    for group in found.values():
        tokens, seconds = map(median, zip(*group, strict=True))
        yield str(round(tokens)), round(max(seconds - way_s, seconds / 10) * clock, 6)


def _closed_loop(requests: Sequence[LoadRequest], clock: float, way_s: float) -> Iterator[Figures]:
    """Yield the figures of a closed loop up to its last request; nothing of an open loop.

    Latencies leave out each client's first request where more than two a client ended.
    """
    ends, until = sorted(r.end_s for r in requests), max((r.sent_s for r in requests), default=0)
    at_once = [n - bisect_right(ends, one.sent_s) for n, one in enumerate(requests, 1)]
    clients = max(at_once, default=0)
    ended = [r for r in requests if r.outcome == "ok" and r.first_s and r.end_s <= until]
    if not ended or median(at_once[clients - 1 :]) < clients:
        return
    several = len(ended) > 2 * clients
    counted = [one for one in ended if not several or one.number >= clients]
    firsts = [(one.first_s or 0.0) - one.sent_s for one in counted]
    tokens = sum(
        bisect_right(one.token_s, until) * one.tokens / max(1, len(one.token_s)) for one in requests
    )
    yield {
        "clients": clients,
        "prompt_tokens": round(median(one.prompt_tokens for one in ended)),
        "answer_tokens": round(median(one.tokens for one in ended)),
        "seconds": round(until * clock, 3),
        "finished": len(ended),
        "tokens_per_s": round(tokens / until / clock, 2),
        "ttft_p50_s": round((median(firsts) - way_s) * clock, 6),
        "latency_mean_s": round((fmean(r.end_s - r.sent_s for r in counted) - way_s) * clock, 6),
    }

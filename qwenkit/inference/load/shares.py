"""One load by several workers: what each is told, what it sends, what it says at its end.

The plan is one for all. An open loop's requests are dealt out, so that together they are the very
requests that one machine would send; the clients of a closed loop are divided. All begin at the
same moment by the clocks of their machines. Every time of one request is of one clock; between
workers they are as exact as these clocks agree: with NTP some milliseconds, and a worker that
begins more than half a second late refuses.
"""

from __future__ import annotations

import json
import time
import zlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from pydantic import TypeAdapter

from qwenkit.capacity.simulation.traffic import ClosedLoop, OpenLoop, Traffic
from qwenkit.errors import InvalidValue, QwenkitError, WaitTimeout
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadRequest, LoadResult, max_clients
from qwenkit.untrusted.parsing import parse_json

T = TypeVar("T")

_WORD, _MOST_WORDS = 2**16, 15  # an argument may have 128 KiB, an object of Kubernetes 1.5 MiB
_LATE_S = 0.5
_STEP_S = 1e-5  # of the times of tokens
_BATCH = 200
# A node keeps the last 10 MiB of a log or less, the sandbox 1 MiB.
_MOST_WITH_TOKENS = 700_000
_MOST_UNPACKED = 2**26
_TIMES = ("scheduled_s", "sent_s", "first_byte_s", "first_s", "last_s", "end_s")
_ODD = (KeyError, QwenkitError, TypeError, ValueError, zlib.error)


@dataclass(frozen=True)
class LoadPlan:
    """A load by ``workers``, which begins ``at`` a moment of ``time.time()``.

    ``request`` are the arguments of ``start_load`` beside traffic and seed.
    """

    traffic: Traffic
    model: str
    timeout_s: float
    workers: int
    at: float = 0.0
    seed: int = 0
    request: dict[str, Any] = field(default_factory=dict)

    def share(self, index: int) -> Traffic:
        """Return what one worker sends.

        Raises:
            InvalidValue: there is no such worker, or nothing for it to send.
        """
        most = max_clients(self.traffic)
        least = len(self.traffic.arrivals) if isinstance(self.traffic, OpenLoop) else most or 0
        if not 0 < self.workers <= least:
            rule = f"must be from 1 to {least}: each needs a client, or a request"
            raise InvalidValue("workers", self.workers, rule)
        if not 0 <= index < self.workers:
            raise InvalidValue("JOB_COMPLETION_INDEX", index, f"must be 0 to {self.workers - 1}")
        if isinstance(self.traffic, OpenLoop):
            return OpenLoop(self.traffic.arrivals[index :: self.workers])
        parts = ((at, divmod(count, self.workers)) for at, count in self.traffic.schedule)
        schedule = tuple((at, whole + (index < rest)) for at, (whole, rest) in parts)
        return ClosedLoop(schedule, self.traffic.lengths)

    def words(self) -> list[str]:
        """Return the plan as arguments of a command.

        Raises:
            InvalidValue: it is too long for them.
        """
        plan = self
        if isinstance(self.traffic, OpenLoop):  # to the microsecond, which packs well
            rounded = (one._replace(at=round(one.at, 6)) for one in self.traffic.arrivals)
            plan = replace(self, traffic=OpenLoop(tuple(rounded)))
        packed = _packed(_PLAN, plan)
        if len(packed) > _WORD * _MOST_WORDS:
            rule = "is too long for one Job"
            raise InvalidValue("plan", f"{len(packed):,} bytes", rule, "send fewer requests")
        return [packed[at : at + _WORD] for at in range(0, len(packed), _WORD)]

    @classmethod
    def of(cls, words: Sequence[str]) -> LoadPlan:
        """Read the arguments of ``words``.

        Raises:
            InvalidValue: they are no plan.
        """
        try:
            return _unpacked(_PLAN, "".join(words))
        except _ODD as error:
            rule = f"cannot be read: {str(error)[:100]}; another version of qwenkit made it"
            raise InvalidValue("plan", "".join(words)[:20], rule) from None


_PLAN, _RESULT = TypeAdapter(LoadPlan), TypeAdapter(LoadResult)


def run_share(plan: LoadPlan, index: int, server: Server) -> Iterator[str]:
    """Wait for the plan's moment and send a worker's share; yield the lines of its log.

    Raises:
        InvalidValue: there is no such worker.
        WaitTimeout: the moment has passed.
    """
    traffic = plan.share(index)
    left = plan.at - time.time()
    if left < -_LATE_S:
        raise WaitTimeout(
            f"worker {index} is {-left:.1f} s late",
            "its pod was not running when the load began",
            "give the pods more time with --start-in",
        )
    time.sleep(max(0.0, left))
    result = start_load(server, traffic, seed=plan.seed + index, **plan.request).result()
    began = time.time() - (time.monotonic() - result.began)
    told = replace(result, began=began, traffic=None)
    count, sent = len(result.requests), 0
    for at in range(0, max(1, count), _BATCH):
        whole = sent < _MOST_WITH_TOKENS
        some = tuple(_told(one, tokens=whole) for one in result.requests[at : at + _BATCH])
        packed = _packed(_RESULT, replace(told, requests=some))
        yield json.dumps({"worker": index, "requests": count, "load": packed})
        sent += len(packed)


def merged(plan: LoadPlan, logs: Sequence[str]) -> LoadResult:
    """Return the whole load from the workers' logs, on the plan's time axis.

    Raises:
        QwenkitError: a log is incomplete.
    """
    shares = dict(map(_read, logs))
    if set(shares) != set(range(plan.workers)):
        raise _incomplete(f"{len(shares)} of {plan.workers} workers have a log")
    told = shares.values()
    requests = [_placed(one, share.began - plan.at) for share in told for one in share.requests]
    requests.sort(key=lambda one: (one.scheduled_s, one.sent_s))
    return LoadResult(
        requests=tuple(replace(one, number=number) for number, one in enumerate(requests)),
        seconds=max(one.began - plan.at + one.seconds for one in told),
        began=time.monotonic() - time.time() + plan.at,
        clock=max(one.clock for one in told),
        traffic=plan.traffic,
        causes={kind: why for one in told for kind, why in one.causes.items()},
        ended_early="; ".join(dict.fromkeys(filter(None, (one.ended_early for one in told)))),
    )


def _read(log: str) -> tuple[int, LoadResult]:
    """Return a worker's index and its load, whose ``began`` is on ``time.time()``."""
    parts: list[LoadResult] = []
    try:
        for line in log.splitlines():
            answer = parse_json(line) if line.startswith("{") else {}
            if "load" in answer:
                index, count = int(answer["worker"]), int(answer["requests"])
                parts.append(_unpacked(_RESULT, answer["load"]))
        requests = tuple(one for part in parts for one in part.requests)
        if not parts or len(requests) != count:
            raise ValueError(f"requests are missing, it has {len(requests)}")
    except _ODD as error:
        raise _incomplete(f"{type(error).__name__}: {str(error)[:100]}") from None
    return index, replace(parts[-1], requests=requests)


def _incomplete(why: str) -> QwenkitError:
    fix = "the image may hold another version of qwenkit; if the log was cut: more workers"
    return QwenkitError("a worker's log cannot be read", why, fix)


def _told(one: LoadRequest, *, tokens: bool) -> LoadRequest:
    """Return a record as it is told: each token's time as steps since the one before."""
    at = [round(token / _STEP_S) for token in one.token_s] if tokens else []
    steps = [later - earlier for earlier, later in pairwise([0, *at])]
    return _moved(one, lambda time_s: round(time_s, 6), steps)


def _placed(one: LoadRequest, by: float) -> LoadRequest:
    """Return a record that was told, on an axis that begins ``by`` seconds earlier."""
    times = array("d", (step * _STEP_S + by for step in accumulate(one.token_s)))
    return _moved(one, lambda time_s: time_s + by, times)


def _moved(
    one: LoadRequest, move: Callable[[float], float], token_s: Sequence[float]
) -> LoadRequest:
    times = ((name, getattr(one, name)) for name in _TIMES)
    moved: dict[str, Any] = {name: move(time_s) for name, time_s in times if time_s is not None}
    return replace(one, token_s=token_s, **moved)


def _packed(kind: TypeAdapter[T], value: T) -> str:
    return b64encode(zlib.compress(kind.dump_json(value), 9)).decode()


def _unpacked(kind: TypeAdapter[T], text: str) -> T:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(b64decode(text, validate=True), _MOST_UNPACKED)
    if not unpacking.eof:
        raise ValueError("it is cut, or too long")
    return kind.validate_json(data)

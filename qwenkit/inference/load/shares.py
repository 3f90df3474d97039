"""One load by several workers: what each is told, what it sends, what it says at its end.

The plan is one for all. An open loop's requests are dealt out, so that together they are the very
requests that one machine would send; the clients of a closed loop are divided. All begin at the
same moment by the clocks of their machines. Every time of one request is of one clock; between
workers they are as exact as these clocks agree: with NTP some milliseconds, and a worker that
begins more than half a second late refuses.
"""

from __future__ import annotations

import binascii
import json
import time
import zlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import accumulate
from typing import Any

from qwenkit.capacity.traffic import Arrival, ClosedLoop, Lengths, OpenLoop, Traffic
from qwenkit.errors import InvalidValue, QwenkitError, WaitTimeout
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadRequest, LoadResult, max_clients
from qwenkit.untrusted.parsing import parse_json

_WORD, _MOST_WORDS = 2**16, 15  # an argument may have 128 KiB, an object of Kubernetes 1.5 MiB
_LATE_S = 0.5
_STEP_S = 1e-5  # of the times in a record
_BATCH = 200
# A node keeps the last 10 MiB of a log or less, the sandbox 1 MiB.
_MOST_WITH_TOKENS = 700_000
_MOST_UNPACKED = 2**26
_FIELDS = [one.name for one in fields(LoadRequest)]
_TOKENS = _FIELDS.index("token_s")
_PLAIN = ("model", "timeout_s", "workers", "at", "seed", "request")
# What a worker says at its end; times in seconds, ``began`` on ``time.time()``.
_TOLD: dict[str, Callable[[Any], Any]] = {
    **{"index": int, "requests": int, "began": float, "seconds": float, "clock": float},
    **{"ended_early": str, "causes": dict},
}
_ODD = (AttributeError, IndexError, KeyError, TypeError, ValueError, binascii.Error, zlib.error)


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
        traffic = self.traffic
        if isinstance(traffic, OpenLoop):
            told: dict[str, Any] = {
                "arrivals": [(round(a.at, 6), *a[1:]) for a in traffic.arrivals]
            }
        else:
            told = {"schedule": traffic.schedule, "lengths": astuple(traffic.lengths)}
        told |= {name: getattr(self, name) for name in _PLAIN}
        packed = _packed(told)
        if len(packed) > _WORD * _MOST_WORDS:
            count = len(told.get("arrivals", ()))
            raise InvalidValue("requests", count, "are too many for one Job", "fewer seconds")
        return [packed[at : at + _WORD] for at in range(0, len(packed), _WORD)]

    @classmethod
    def of(cls, words: Sequence[str]) -> LoadPlan:
        """Read the arguments of ``words``.

        Raises:
            InvalidValue: they are no plan.
        """
        try:
            told = _unpacked("".join(words))
            plain = {name: told[name] for name in _PLAIN}
            if "arrivals" in told:
                traffic: Traffic = OpenLoop(tuple(Arrival(*one) for one in told["arrivals"]))
            else:
                schedule = tuple((float(at), int(count)) for at, count in told["schedule"])
                traffic = ClosedLoop(schedule, Lengths(*told["lengths"]))
            return cls(traffic, **plain)
        except _ODD as error:
            rule = f"cannot be read: {str(error)[:100]}; another version of qwenkit made it"
            raise InvalidValue("plan", "".join(words)[:20], rule) from None


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
    ahead = time.monotonic() - result.began
    sent = 0
    for at in range(0, len(result.requests), _BATCH):
        whole = sent < _MOST_WITH_TOKENS
        some = [_row(one, tokens=whole) for one in result.requests[at : at + _BATCH]]
        line = json.dumps({"records": _packed(some)})
        sent += len(line)
        yield line
    told = {"index": index, "began": time.time() - ahead, "requests": len(result.requests)}
    told |= {name: getattr(result, name) for name in ("seconds", "clock", "ended_early")}
    yield json.dumps({"load": told | {"causes": dict(result.causes)}})


def merged(plan: LoadPlan, logs: Sequence[str]) -> LoadResult:
    """Return the whole load from the workers' logs, on the plan's time axis.

    Raises:
        QwenkitError: a log is incomplete.
    """
    began = time.monotonic() - time.time() + plan.at
    shares = [_read(log) for log in logs]
    told = [one for one, _ in shares]
    if {one["index"] for one in told} != set(range(plan.workers)):
        raise _incomplete(f"{len(told)} of {plan.workers} workers have a log")
    requests = [_moved(one, share["began"] - plan.at) for share, some in shares for one in some]
    requests.sort(key=lambda one: (one.scheduled_s, one.sent_s))
    return LoadResult(
        requests=tuple(replace(one, number=number) for number, one in enumerate(requests)),
        seconds=max(one["began"] - plan.at + one["seconds"] for one in told),
        began=began,
        clock=max(one["clock"] for one in told),
        traffic=plan.traffic,
        causes={kind: why for one in told for kind, why in one["causes"].items()},
        ended_early="; ".join(dict.fromkeys(filter(None, (one["ended_early"] for one in told)))),
    )


def _read(log: str) -> tuple[dict[str, Any], list[LoadRequest]]:
    told, requests = dict[str, Any](), list[LoadRequest]()
    try:
        for line in log.splitlines():
            if line.startswith("{"):
                answer = parse_json(line)
                told = answer.get("load") or told
                rows = _unpacked(answer["records"]) if "records" in answer else []
                requests += map(_request, rows)
        told = {name: kind(told[name]) for name, kind in _TOLD.items()}
        if told["requests"] != len(requests):
            raise ValueError(f"it has {len(requests)} of {told['requests']} requests")
    except _ODD as error:
        raise _incomplete(f"{type(error).__name__}: {str(error)[:100]}") from None
    return told, requests


def _incomplete(why: str) -> QwenkitError:
    fix = "the image may hold another version of qwenkit; if the log was cut: more workers"
    return QwenkitError("a worker's log cannot be read", why, fix)


def _row(one: LoadRequest, *, tokens: bool) -> list[Any]:
    """Return a record's fields; its tokens' times as steps since the one before."""
    row = [getattr(one, name) for name in _FIELDS]
    steps = [round(at / _STEP_S) for at in one.token_s] if tokens else []
    row[_TOKENS] = [b - a for a, b in zip([0, *steps], steps, strict=False)]
    return [round(value, 6) if isinstance(value, float) else value for value in row]


def _request(row: list[Any]) -> LoadRequest:
    steps = row[_TOKENS]
    times = array("d", (step * _STEP_S for step in accumulate(steps)))
    values = [*row[:_TOKENS], times, *row[_TOKENS + 1 :]]
    return LoadRequest(**dict(zip(_FIELDS, values, strict=True)))


def _moved(one: LoadRequest, by: float) -> LoadRequest:
    """Return a record on an axis that begins ``by`` seconds earlier."""
    names = ("scheduled_s", "sent_s", "first_byte_s", "first_s", "last_s", "end_s")
    values = {name: getattr(one, name) for name in names}
    moved = {name: value + by for name, value in values.items() if value is not None}
    return replace(one, token_s=array("d", (at + by for at in one.token_s)), **moved)


def _packed(value: Any) -> str:
    return b64encode(zlib.compress(json.dumps(value).encode(), 9)).decode()


def _unpacked(text: str) -> Any:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(b64decode(text, validate=True), _MOST_UNPACKED)
    if not unpacking.eof:
        raise ValueError("it is cut, or too long")
    return parse_json(data)

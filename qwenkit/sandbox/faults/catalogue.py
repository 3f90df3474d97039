"""What can go wrong on demand: every fault's name, what one sees of it, and how it is ordered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from qwenkit.errors import InvalidValue

MODEL_FOLDER = "Qwen-7B-Chat-Int8"


@dataclass(frozen=True)
class Kind:
    """One thing that can go wrong.

    Args:
        sees: what one sees of it, a sentence.
        on: the requests that it meets unless ``--on`` says otherwise.
        seconds: the default of ``--seconds``; 0: it takes none.
        for_s: the default of ``--for`` of a state that is not counted; 0: it is counted.
        lasting: whether it stays for a count or a time; if not, it happens at once, and once.
    """

    sees: str
    on: str = ""
    seconds: float = 0
    for_s: float = 0
    lasting: bool = True


WRITES = "PUT,POST,PATCH"
BODIES = "PutObject,UploadPart"
SHARDS = "*.safetensors"
SENDS = f"{BODIES},CompleteMultipartUpload"

FAULTS: Mapping[str, Mapping[str, Kind]] = {
    "api": {
        "429": Kind("HTTP 429 with Retry-After: kubectl waits a second and asks again, silently."),
        "500": Kind("HTTP 500, `etcdserver: request timed out`: the command fails, a retry helps."),
        "503": Kind("HTTP 503: `the server is currently unable to handle the request`."),
        "409": Kind(
            "HTTP 409 on a write: `the object has been modified`; apply the newest again.",
            on=WRITES,
        ),
        "drop-watches": Kind(
            "Every open watch breaks off: `kubectl get -w` ends, controllers list again.",
            lasting=False,
        ),
        "restart": Kind(
            "All connections break and nobody listens for so many seconds; then the same address "
            "answers again. Pods and the autoscaler go on meanwhile.",
            seconds=5,
            lasting=False,
        ),
    },
    "oss": {
        "reset": Kind(
            "The connection breaks in the middle of a body: that part is sent again.", on=BODIES
        ),
        "lost-answer": Kind(
            "The work is done and the answer is lost. The repeated CompleteMultipartUpload gets "
            "NoSuchUpload, although the object is there.",
            on=SENDS,
        ),
        "no-answer": Kind(
            "The connection closes without an answer: the request is repeated.", on=SENDS
        ),
        "stall": Kind(
            "Nothing comes for so many seconds: a stalled progress line.", on=SENDS, seconds=30
        ),
        "500": Kind("500 InternalError: the upload waits a little and repeats."),
        "503": Kind("503 ServiceUnavailable: the upload waits a little and repeats."),
        "wrong-crc": Kind("OSS states another CRC-64: the bytes are sent again.", on=SENDS),
        "missing-crc": Kind(
            "OSS states no CRC-64: the upload refuses to call it complete.", on=SENDS
        ),
        "changed-byte": Kind(
            "A byte changes on the way: the CRC-64 differs, it is sent again.", on=BODIES
        ),
        "clock-skew": Kind(
            "403 RequestTimeTooSkewed: the message says by how many seconds the clock is off.",
            seconds=4000,
        ),
        "expired-token": Kind("403 SecurityTokenExpired: get new temporary keys, then repeat."),
        "access-denied": Kind("403 AccessDenied: the key lacks a right on the bucket."),
        "lost-upload": Kind(
            "Somebody aborts the multipart upload: NoSuchUpload, it begins anew.", on="UploadPart"
        ),
        "restart": Kind("Nobody listens for so many seconds.", seconds=5, lasting=False),
    },
    "hub": {
        "reset": Kind("The download breaks in the middle: it goes on from that byte.", on=SHARDS),
        "truncated": Kind("The file ends too early: it goes on from that byte.", on=SHARDS),
        "wrong-range": Kind(
            "Another range comes than was asked for: refused, asked again.", on=SHARDS
        ),
        "changed-byte": Kind(
            "A byte changes on the way: the sha256 differs, nothing is kept.", on=SHARDS
        ),
        "stall": Kind(
            "Nothing comes for so many seconds: a stalled progress line.", on=SHARDS, seconds=30
        ),
        "500": Kind("HTTP 500: the download waits a little and repeats.", on="*"),
        "503": Kind("HTTP 503: the download waits a little and repeats.", on="*"),
        "restart": Kind("Nobody listens for so many seconds.", seconds=5, lasting=False),
    },
    "pod": {
        "oom": Kind(
            "The container is killed, OOMKilled, exit code 137, and starts again: RESTARTS counts, "
            "its streams break off, new requests wait until it is ready.",
            lasting=False,
        ),
        "delete": Kind(
            "The pod is gone at once, as with its node: its streams break off, and the "
            "ReplicaSet makes another.",
            lasting=False,
        ),
    },
    "gpu": {
        "lost": Kind(
            "The node's allocatable nvidia.com/gpu drops (capacity stays), idle GPUs first. New "
            "pods stay Pending: Insufficient nvidia.com/gpu; a pod on a lost GPU crashes until it "
            "is deleted or the GPU is back.",
            for_s=60,
        ),
    },
    "mount": {
        "slow": Kind(
            "New pods wait in ContainerCreating; after two minutes of the node's time the event "
            "FailedMount says DeadlineExceeded.",
            seconds=150,
        ),
    },
    "weights": {
        "broken-header": Kind(
            "The header of a safetensors file is garbage: the next pod to start crashes and names "
            "it, and so does qwenkit verify.",
            lasting=False,
        ),
        "zero-tensor": Kind(
            "A tensor is all zeros: pods start and answer nonsense; qwenkit verify names the file.",
            lasting=False,
        ),
        "missing-shard": Kind(
            "A safetensors file is gone: the next pod to start crashes; qwenkit verify names it.",
            lasting=False,
        ),
        "lfs-pointer": Kind(
            "A Git LFS pointer stands in for a file, as after a clone without git lfs pull.",
            lasting=False,
        ),
    },
}


@dataclass(frozen=True)
class Order:
    """A fault as somebody wants it. Times and seconds are bounds: the first that is met ends it."""

    where: str
    what: str
    on: str = ""
    times: int = 0
    """0: once, unless ``for_s`` is given; then as often as it likes."""
    for_s: float = 0
    seconds: float = 0
    count: int = 1
    name: str = ""
    namespace: str = "default"
    prefix: str = MODEL_FOLDER

    @property
    def kind(self) -> Kind:
        """What the catalogue says of it."""
        return FAULTS[self.where][self.what]

    @property
    def bounds(self) -> tuple[float, float]:
        """How often and for how many seconds."""
        if not self.kind.lasting:
            return 1, math.inf
        return self.times or (math.inf if self.for_s else 1), self.for_s or math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``parse`` reads it."""
        return asdict(self)


def parse(raw: Mapping[str, Any]) -> Order:
    """Return a checked order with its kind's defaults.

    Raises:
        InvalidValue: names the field and the rule.
    """
    _types(raw)
    order = Order(**raw)
    kind = FAULTS.get(order.where, {}).get(order.what)
    if kind is None:
        known = FAULTS.get(order.where, FAULTS)
        raise InvalidValue("fault", order.what, f"is none of {', '.join(known)}", _LIST)
    if not kind.lasting and (order.times or order.for_s or order.on):
        rule = f"{order.where} {order.what} happens at once, and once"
        raise InvalidValue("fault", order.what, rule, "leave out --on, --times and --for")
    if order.seconds and not kind.seconds:
        rule = f"{order.where} {order.what} takes no --seconds"
        raise InvalidValue("seconds", order.seconds, rule, "--for says how long it stays")
    if order.times and kind.for_s:
        rule = f"{order.where} {order.what} is a state that lasts, not an event to count"
        raise InvalidValue("times", order.times, rule, "--for says how long it stays")
    return replace(
        order,
        on=order.on or kind.on,
        seconds=order.seconds or kind.seconds,
        for_s=order.for_s or kind.for_s,
    )


_LIST = "qwenkit sandbox fault list"
_MOST = 1e6


def _types(raw: Mapping[str, Any]) -> None:
    wanted = {field.name: field.type for field in fields(Order)}
    for name, value in raw.items():
        if name not in wanted:
            raise InvalidValue(name, value, "an order has no such field", _LIST)
        if wanted[name] == "str":
            if not isinstance(value, str):
                raise InvalidValue(name, value, "must be a text")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidValue(name, value, "must be a number")
        elif not 0 <= value <= _MOST or (wanted[name] == "int" and value != int(value)):
            raise InvalidValue(name, value, f"must lie between 0 and {_MOST:.0f}")
    for name in ("where", "what"):
        if name not in raw:
            raise InvalidValue(name, None, "an order must say it", _LIST)

"""Every fault that can be injected: its name, its visible effect, and its options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qwenkit.errors import InvalidValue

MODEL_FOLDER = "Qwen-7B-Chat-Int8"
_LIST = "qwenkit sandbox fault list"
_MOST = 1_000_000
# Options whose default is that of the kind.
_WITH_DEFAULTS = ("on", "seconds", "for_s")


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    Args:
        sees: its visible effect, a sentence.
        on: the requests that it affects, the default of ``--on``.
        seconds: the default of ``--seconds``; 0: the fault has no such option.
        for_s: the default of ``--for`` if the fault is a state; 0: it is an event to count.
        lasting: whether it lasts for a count or a time; if not, it happens once, at once.
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

FAULTS: Mapping[str, Mapping[str, FaultKind]] = {
    "api": {
        "429": FaultKind("HTTP 429 with Retry-After: kubectl waits a second and repeats."),
        "500": FaultKind("HTTP 500, `etcdserver: request timed out`: a retry helps."),
        "503": FaultKind("HTTP 503: `the server is currently unable to handle the request`."),
        "409": FaultKind(
            "HTTP 409 on a write: `the object has been modified`; apply the newest again.",
            on=WRITES,
        ),
        "drop-watches": FaultKind(
            "Every open watch breaks off: `kubectl get -w` ends, controllers list again.",
            lasting=False,
        ),
        "restart": FaultKind(
            "All connections break and nothing listens for --seconds; then the same address "
            "answers again. Pods and the autoscaler continue meanwhile.",
            seconds=5,
            lasting=False,
        ),
    },
    "oss": {
        "reset": FaultKind(
            "The connection breaks in the middle of a body: that part is sent again.", on=BODIES
        ),
        "lost-answer": FaultKind(
            "The work is done and the answer is lost. The repeated CompleteMultipartUpload gets "
            "NoSuchUpload, although the object is there.",
            on=SENDS,
        ),
        "no-answer": FaultKind(
            "The connection closes without an answer: the request is repeated.", on=SENDS
        ),
        "stall": FaultKind(
            "No bytes arrive for --seconds: a stalled progress line.", on=SENDS, seconds=30
        ),
        "500": FaultKind("500 InternalError: the upload waits a little and repeats."),
        "503": FaultKind("503 ServiceUnavailable: the upload waits a little and repeats."),
        "wrong-crc": FaultKind("OSS states another CRC-64: the bytes are sent again.", on=SENDS),
        "missing-crc": FaultKind(
            "OSS states no CRC-64: the upload refuses to call it complete.", on=SENDS
        ),
        "changed-byte": FaultKind(
            "A byte changes on the way: the CRC-64 differs, it is sent again.", on=BODIES
        ),
        "clock-skew": FaultKind(
            "403 RequestTimeTooSkewed: the message says by how many seconds the clock is off.",
            seconds=4000,
        ),
        "expired-token": FaultKind("403 SecurityTokenExpired: get new temporary keys."),
        "public-endpoint": FaultKind(
            "403 PublicEndpointForbidden on data, as new accounts get it by public endpoints.",
            on=f"{BODIES},GetObject,InitiateMultipartUpload",
        ),
        "access-denied": FaultKind("403 AccessDenied: the key lacks a right on the bucket."),
        "lost-upload": FaultKind(
            "The multipart upload is aborted: NoSuchUpload, it starts again.",
            on="UploadPart",
        ),
        "restart": FaultKind("Nothing listens for --seconds.", seconds=5, lasting=False),
    },
    "hub": {
        "reset": FaultKind("The download breaks in the middle: it resumes there.", on=SHARDS),
        "truncated": FaultKind("The file ends too early: the download resumes there.", on=SHARDS),
        "wrong-range": FaultKind(
            "Another range arrives than the requested one: it is requested again.", on=SHARDS
        ),
        "changed-byte": FaultKind(
            "A byte changes on the way: the sha256 differs, nothing is kept.", on=SHARDS
        ),
        "stall": FaultKind(
            "No bytes arrive for --seconds: a stalled progress line.", on=SHARDS, seconds=30
        ),
        "500": FaultKind("HTTP 500: the download waits a little and repeats.", on="*"),
        "503": FaultKind("HTTP 503: the download waits a little and repeats.", on="*"),
        "restart": FaultKind("Nothing listens for --seconds.", seconds=5, lasting=False),
    },
    "gateway": {
        "503": FaultKind("HTTP 503, `no healthy upstream`, as Envoy says it without a pod."),
        "restart": FaultKind(
            "All connections to the gateway break, with the streams on them, and nothing listens "
            "for --seconds. The pods do not notice.",
            seconds=5,
            lasting=False,
        ),
    },
    "pod": {
        "oom": FaultKind(
            "The container is killed, OOMKilled, exit code 137, and starts again: RESTARTS counts, "
            "its streams break off, new requests wait until it is ready.",
            lasting=False,
        ),
        "delete": FaultKind(
            "The pod vanishes at once, as with its node: its streams break off, and the "
            "ReplicaSet makes another.",
            lasting=False,
        ),
        "slow": FaultKind(
            "Each answer of the pods whose names begin with NAME begins --seconds later; their "
            "probes do not notice. With a revision as NAME, that revision alone is slow.",
            seconds=5,
            for_s=60,
        ),
    },
    "gpu": {
        "lost": FaultKind(
            "The node's allocatable nvidia.com/gpu drops (capacity stays), idle GPUs first. New "
            "pods stay Pending: Insufficient nvidia.com/gpu; a pod on a lost GPU crashes until it "
            "is deleted or the GPU is back.",
            for_s=60,
        ),
    },
    "mount": {
        "slow": FaultKind(
            "New pods wait in ContainerCreating; after two minutes of the node's time the event "
            "FailedMount says DeadlineExceeded.",
            seconds=150,
        ),
    },
    "weights": {
        "broken-header": FaultKind(
            "The header of a safetensors file is garbage: the next pod to start crashes and names "
            "it, and so does qwenkit verify.",
            lasting=False,
        ),
        "zero-tensor": FaultKind(
            "A tensor is all zeros: pods start and answer nonsense; qwenkit verify names the file.",
            lasting=False,
        ),
        "missing-shard": FaultKind(
            "A safetensors file is missing: the next pod crashes; qwenkit verify names it.",
            lasting=False,
        ),
        "lfs-pointer": FaultKind(
            "A Git LFS pointer replaces a file, as after a clone without git lfs pull.",
            lasting=False,
        ),
    },
}


class FaultSpec(BaseModel):
    """A fault to inject. ``times`` and ``for_s`` are bounds: the first one reached ends it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    where: str
    what: str
    on: str = ""
    times: int = Field(0, ge=0, le=_MOST)
    """0: once, or without a bound if ``for_s`` is given."""
    for_s: float = Field(0, ge=0, le=_MOST)
    seconds: float = Field(0, ge=0, le=_MOST)
    count: int = Field(1, ge=0, le=_MOST)
    name: str = ""
    namespace: str = "default"
    prefix: str = MODEL_FOLDER

    @property
    def kind(self) -> FaultKind:
        """Its entry in the catalogue."""
        return FAULTS[self.where][self.what]

    @property
    def bounds(self) -> tuple[float, float]:
        """How often it may hit, and for how many seconds."""
        if not self.kind.lasting:
            return 1, math.inf
        return self.times or (math.inf if self.for_s else 1), self.for_s or math.inf


def parse(raw: Mapping[str, Any]) -> FaultSpec:
    """Return a valid fault with the defaults of its kind.

    Raises:
        InvalidValue: a field is unknown, missing or out of range.
    """
    try:
        spec = FaultSpec.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidValue(name, first["input"], first["msg"], _LIST) from error
    kind = FAULTS.get(spec.where, {}).get(spec.what)
    if kind is None:
        known = FAULTS.get(spec.where, FAULTS)
        raise InvalidValue("fault", spec.what, f"is none of {', '.join(known)}", _LIST)
    if not kind.lasting and (spec.times or spec.for_s or spec.on):
        rule = f"{spec.where} {spec.what} happens at once, and once"
        raise InvalidValue("fault", spec.what, rule, "leave out --on, --times and --for")
    if spec.seconds and not kind.seconds:
        rule = f"{spec.where} {spec.what} takes no --seconds"
        raise InvalidValue("seconds", spec.seconds, rule, "--for sets how long it stays")
    if spec.times and kind.for_s:
        rule = f"{spec.where} {spec.what} is a state that lasts, not an event to count"
        raise InvalidValue("times", spec.times, rule, "--for sets how long it stays")
    defaults = {name: getattr(spec, name) or getattr(kind, name) for name in _WITH_DEFAULTS}
    return spec.model_copy(update=defaults)

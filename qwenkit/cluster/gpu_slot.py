"""A participant's GPU slot of a workshop: the wish that he writes, and what he is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from qwenkit.cluster.kinds import Kind
from qwenkit.language import shown

LEASE = Kind("coordination.k8s.io/v1", "Lease")
GPU_SLOT = "gpu-slot"  # the Lease that a participant writes: how long he wants a slot
GPUS = "qwenkit.dev/gpus"  # its annotation: how many GPUs
TOLD = "workshop"  # the ConfigMap that the keeper writes for a participant
TOLD_KEY = "slot"  # its entry, JSON of a GpuSlot


@dataclass(frozen=True, repr=False)
class GpuSlot:
    """What a participant is told; times are Unix seconds, None where there is none to tell.

    ``closed`` says why nobody gets a GPU now: ``frozen``, ``hours``, ``budget`` or ``ended``.
    """

    slot: Literal["none", "waiting", "granted"] = "none"
    gpus: int = 0
    until: float | None = None
    position: int | None = None
    expected_at: float | None = None
    note: str = ""
    closed: str = ""
    ends_at: float | None = None

    @property
    def frozen(self) -> bool:
        """Whether the instructor has stopped all slots for now."""
        return self.closed == "frozen"

    def to_data(self) -> dict[str, str]:
        """Return the ConfigMap's data."""
        return {TOLD_KEY: json.dumps(asdict(self) | {"frozen": self.frozen}, ensure_ascii=False)}

    @classmethod
    def of(cls, config_map: Mapping[str, Any] | None) -> GpuSlot:
        """Read the ConfigMap; a slot of nothing if it is not there or not written yet."""
        text = ((config_map or {}).get("data") or {}).get(TOLD_KEY) or "{}"
        known = json.loads(text)
        return cls(**{key: known[key] for key in cls.__dataclass_fields__ if key in known})

    def __str__(self) -> str:
        if self.slot == "granted":
            return f"you hold {self.gpus} GPU until {_clock(self.until)}"
        if self.closed:
            return f"no GPUs now: {_CLOSED.get(self.closed, self.closed)}"
        if self.slot == "waiting":
            if self.expected_at is None:
                return f"waiting for a GPU: number {self.position}"
            at = _clock(self.expected_at)
            return f"waiting for a GPU: number {self.position}, expected at {at}"
        return "you hold no GPU: qwenkit workshop ask"

    __repr__ = shown


_CLOSED = {
    "frozen": "the instructor has stopped all of them for a moment",
    "hours": "it is outside class hours",
    "budget": "the workshop's budget is used up",
    "ended": "the day has ended",
}


def _clock(unix_s: float | None) -> str:
    return f"{datetime.fromtimestamp(unix_s or 0.0):%H:%M}"

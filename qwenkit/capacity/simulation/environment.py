"""The cluster in which a simulated revision runs, and the revision's state at the start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from qwenkit.capacity.catalogue import QWEN_7B_INT8
from qwenkit.capacity.loading import estimate_start, weights_seconds
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.errors import InvalidValue

_MOST_PODS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The cluster of a simulated revision, and the revision's state at second 0.

    Args:
        gpus: the number of pods that get a GPU, or all that they need; None for no limit.
        startup_s: a pod's cold start, if a GPU is free; by default as of the course's model.
        drain_s: the least time that a removed pod keeps its GPU.
        timeout_s: the revision's ``timeoutSeconds``.
        response_start_timeout_s: its ``responseStartTimeoutSeconds``.
        initial_ready: pods that are ready at second 0; None for min-scale,
            as far as there are GPUs.
        active_for_s: how long these have been Active without traffic; None for 10 minutes if
            min-scale keeps them, else 0.
        price_per_gpu_hour: in any currency.
    """

    gpus: int | None = None
    startup_s: float = estimate_start(weights_seconds(QWEN_7B_INT8.weights_bytes)).seconds.value
    drain_s: float = 30.0
    timeout_s: float = 600.0
    response_start_timeout_s: float = 600.0
    initial_ready: int | None = None
    active_for_s: float | None = None
    price_per_gpu_hour: float = 1.0

    @classmethod
    def of(cls, server: VllmServer, startup_s: float | None = None, **known: Any) -> Environment:
        """Return the cluster of a server, its cold start estimated unless it is known."""
        if startup_s is None:
            size = server.model.weights_bytes * server.gpus
            read = weights_seconds(size, readers=server.gpus)
            startup_s = estimate_start(read).seconds.value / server.clock
        return cls(startup_s=startup_s, **known)

    def __post_init__(self) -> None:
        for name in ("startup_s", "drain_s", "active_for_s", "price_per_gpu_hour"):
            if not 0 <= (getattr(self, name) or 0.0) < math.inf:
                raise InvalidValue(name, getattr(self, name), "finite, at least 0")
        for name in ("timeout_s", "response_start_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidValue(name, getattr(self, name), "finite, more than 0")
        if self.gpus is not None and self.gpus < 1:
            raise InvalidValue("gpus", self.gpus, "at least 1, or None for no limit")
        if self.initial_ready is not None and not 0 <= self.initial_ready <= _MOST_PODS:
            raise InvalidValue("initial_ready", self.initial_ready, f"from 0 to {_MOST_PODS:,}")

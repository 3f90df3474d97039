"""Which faults were injected, what they affected, and which are still active."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from qwenkit.sandbox.faults import api, effects, hub, oss, weights
from qwenkit.sandbox.faults.catalogue import FaultSpec
from qwenkit.sandbox.faults.cluster import ClusterFaults
from qwenkit.sandbox.faults.injector import Budget, Effect, FaultRule, Injector, Matches
from qwenkit.sandbox.http import Listening


@dataclass(frozen=True)
class FaultyServer:
    """A server that listens, and the faults that its requests pass."""

    injector: Injector
    listening: Listening


@dataclass(frozen=True)
class InjectedFault:
    """A fault that was injected; ``target`` is what it affects."""

    spec: FaultSpec
    budget: Budget
    target: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: the spec, its hits so far, and what is left."""
        left_s = self.budget.ends - time.monotonic()
        return self.spec.model_dump() | {
            "sees": self.spec.kind.sees,
            "met": self.target,
            "hits": self.budget.hits,
            "of": None if math.isinf(self.budget.times) else self.budget.times,
            "left_s": None if math.isinf(left_s) else max(0, round(left_s)),
            "active": not self.budget.spent,
        }


class FaultRegistry:
    """Injects faults and keeps a list of them.

    Args:
        servers: the servers by their names in the catalogue.
        cluster: the faults of the node.
        bucket: the folder of the bucket that holds the weights.
        abort: aborts a multipart upload: bucket, key, upload id.
    """

    def __init__(
        self,
        servers: Mapping[str, FaultyServer],
        cluster: ClusterFaults,
        bucket: Path,
        abort: oss.Abort,
    ) -> None:
        self._servers, self._cluster, self._bucket, self._abort = servers, cluster, bucket, abort
        self._injected: list[InjectedFault] = []
        self._restarts: set[asyncio.Task[None]] = set()

    def inject(self, spec: FaultSpec) -> InjectedFault:
        """Inject a fault.

        Raises:
            InvalidValue: there are no such requests.
            NotFound: there is no such pod or file.
        """
        times, for_s = spec.bounds
        budget = Budget(times, time.monotonic() + for_s)
        if spec.where == "weights":
            budget.use()
            target = weights.damage(spec, self._bucket)
        elif server := self._servers.get(spec.where):
            target = self._inject_into(server, spec, budget)
        else:
            target = self._cluster.inject(spec, budget)
            if not math.isinf(for_s):
                asyncio.get_running_loop().call_later(for_s + 0.05, self._cluster.update_gpus)
        fault = InjectedFault(spec, budget, target)
        self._injected.append(fault)
        return fault

    def injected(self) -> list[InjectedFault]:
        """Return the faults since the last ``clear``, the oldest first."""
        return list(self._injected)

    def clear(self) -> int:
        """End all active faults without repairing what they broke; return their number."""
        active = [one for one in self._injected if not one.budget.spent]
        for one in active:
            one.budget.ends = 0
        for server in self._servers.values():
            server.injector.rules.clear()
        self._cluster.update_gpus()
        self._injected.clear()
        return len(active)

    def close(self) -> None:
        """Cancel restarts that are under way."""
        for task in self._restarts:
            task.cancel()

    def _inject_into(self, server: FaultyServer, spec: FaultSpec, budget: Budget) -> str:
        if spec.what == "restart":
            budget.use()
            task = asyncio.create_task(server.listening.restart(spec.seconds))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)
            return server.listening.url
        if spec.what == "drop-watches":
            budget.use()
            dropped = server.injector.drop(api.watches)
            return f"{dropped} watch{'' if dropped == 1 else 'es'}"
        matches, effect = self._rule(spec)
        server.injector.rules.append(FaultRule(matches, effect, budget))
        return spec.on or "every request"

    def _rule(self, spec: FaultSpec) -> tuple[Matches, Effect]:
        if spec.where == "oss":
            return oss.matches(spec.on), oss.effect(spec, self._abort)
        if spec.where == "hub":
            return hub.matches(spec.on), hub.effect(spec)
        if spec.where == "gateway":
            return api.matches(spec.on), effects.answer(_no_upstream)
        return api.matches(spec.on), api.effect(spec)


def _no_upstream(_request: web.Request) -> web.Response:
    return web.Response(status=503, text="no healthy upstream")

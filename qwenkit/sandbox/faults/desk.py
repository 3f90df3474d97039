"""Where faults are ordered: one list of what was ordered, what it met, and what is left of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenkit.sandbox.faults import api, hub, oss, weights
from qwenkit.sandbox.faults.catalogue import Order
from qwenkit.sandbox.faults.cluster import ClusterFaults
from qwenkit.sandbox.faults.injector import Allowance, Effect, Injector, Rule, Wants
from qwenkit.sandbox.http import Listening


@dataclass(frozen=True)
class Front:
    """A server that listens, and the faults in front of it."""

    injector: Injector
    listening: Listening


@dataclass(frozen=True)
class Taken:
    """A fault that was ordered."""

    order: Order
    allowance: Allowance
    met: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values: the order, its hits so far, and what is left."""
        left_s = self.allowance.ends - time.monotonic()
        return self.order.to_dict() | {
            "sees": self.order.kind.sees,
            "met": self.met,
            "hits": self.allowance.hits,
            "of": None if math.isinf(self.allowance.times) else self.allowance.times,
            "left_s": None if math.isinf(left_s) else max(0, round(left_s)),
            "active": not self.allowance.over,
        }


class Desk:
    """Takes orders for faults.

    Args:
        fronts: the servers by their names in the catalogue.
        cluster: what can go wrong on the node.
        bucket: the folder of the bucket that holds the weights.
        abort: ends a multipart upload: bucket, key, upload id.
    """

    def __init__(
        self,
        fronts: Mapping[str, Front],
        cluster: ClusterFaults,
        bucket: Path,
        abort: oss.Abort,
    ) -> None:
        self._fronts, self._cluster, self._bucket, self._abort = fronts, cluster, bucket, abort
        self._taken: list[Taken] = []
        self._restarts: set[asyncio.Task[None]] = set()

    def take(self, order: Order) -> Taken:
        """Make it go wrong.

        Raises:
            InvalidValue: the order is for requests that there are not.
            NotFound: there is no such pod or file.
        """
        times, for_s = order.bounds
        allowance = Allowance(times, time.monotonic() + for_s)
        if order.where == "weights":
            allowance.use()
            taken = Taken(order, allowance, weights.damage(order, self._bucket))
        elif front := self._fronts.get(order.where):
            taken = Taken(order, allowance, self._meet(order, front, allowance))
        else:
            taken = Taken(order, allowance, self._cluster.strike(order, allowance))
            if not math.isinf(for_s):
                asyncio.get_running_loop().call_later(for_s + 0.05, self._cluster.settle)
        self._taken.append(taken)
        return taken

    def taken(self) -> list[Taken]:
        """Return what was ordered since the last ``clear``, the oldest first."""
        return list(self._taken)

    def clear(self) -> int:
        """End what is active, but not mend what is broken; return how many that were."""
        active = [one for one in self._taken if not one.allowance.over]
        for one in active:
            one.allowance.ends = 0
        for front in self._fronts.values():
            front.injector.rules.clear()
        self._cluster.settle()
        self._taken.clear()
        return len(active)

    def close(self) -> None:
        """Let no restart outlive the sandbox."""
        for task in self._restarts:
            task.cancel()

    def _meet(self, order: Order, front: Front, allowance: Allowance) -> str:
        if order.what == "restart":
            allowance.use()
            task = asyncio.create_task(front.listening.restart(order.seconds))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)
            return front.listening.url
        if order.what == "drop-watches":
            allowance.use()
            dropped = front.injector.drop(api.watches)
            return f"{dropped} watch{'' if dropped == 1 else 'es'}"
        wants, effect = self._rule(order)
        front.injector.rules.append(Rule(wants, effect, allowance))
        return order.on or "every request"

    def _rule(self, order: Order) -> tuple[Wants, Effect]:
        if order.where == "oss":
            return oss.wants(order.on), oss.effect(order, self._abort)
        if order.where == "hub":
            return hub.wants(order.on), hub.effect(order)
        return api.wants(order.on), api.effect(order)

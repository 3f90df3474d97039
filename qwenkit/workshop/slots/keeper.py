"""The keeper of GPU slots: every few seconds one look, one decision, and what follows from it.

Any number of keepers may run. A Lease says which of them works; should two of them do so, then
each writes the state only as an answer to what it has read. What a keeper could not do, the next
look finds undone.
"""

from __future__ import annotations

import logging
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from qwenkit.cluster.api.retries import within
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gpu_slot import TOLD, GpuSlot
from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    LEASE,
    REPLICA_SET,
    RESOURCE_QUOTA,
    Obj,
    moment,
    name_of,
)
from qwenkit.errors import Conflict, NotFound, QwenkitError
from qwenkit.workshop.description import read
from qwenkit.workshop.names import KEEPER, QUOTA, WORKSHOP_LABEL
from qwenkit.workshop.slots.policy import Allotment, decide
from qwenkit.workshop.slots.room import Look, Room
from qwenkit.workshop.slots.state import Slots
from qwenkit.workshop.slots.warm import set_min_scale

log = logging.getLogger("qwenkit.workshop")

EVERY_S = 4.0  # with the board open, both ask the API server about twice a second
_SOON_S = 0.5  # after pods were deleted: what they hold is free, and no longer counted, sooner
_LEAD_S, _RENEW_S = 30.0, 10.0  # how long a keeper that is silent leads, and how often it says so
_WRITE_S = 10.0  # the ledger is written this often while it is only time that passes
_AGAIN_S = 60.0  # the clock, the workshop's size and what was told are read again so often
_ABOUT_S = 30.0  # a told time that moves by less is not told again


class Keeper:
    """Keeps the slots of a workshop; ``turn`` is one pass, ``run`` goes on until it is stopped."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.identity = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._told: dict[str, GpuSlot] = {}
        self._warned: set[str] = set()
        self._raised: set[str] = set()  # whose quota grew, which admission may not know yet
        self._total = 0
        self._read_at = self._seen_at = self._renewed_at = 0.0
        self._ahead_s, self._asked_at = 0.0, -_AGAIN_S

    def run(
        self,
        stopped: Callable[[float], bool],
        on_pass: Callable[[Allotment | None], None] = lambda _made: None,
    ) -> None:
        """Take turns until ``stopped``, which waits for the seconds that it gets.

        It also ends when the workshop is gone.
        """
        try:
            while True:
                began, pause_s = time.monotonic(), EVERY_S
                try:
                    made = self.turn()
                    if made is None:
                        pause_s = _RENEW_S
                    elif made.drain:
                        pause_s = _SOON_S
                    on_pass(made)
                except QwenkitError as error:
                    self._warn(error)
                    if isinstance(error, NotFound) and self.room.is_gone():
                        return
                if stopped(max(pause_s - (time.monotonic() - began), 0.0)):
                    return
        finally:
            self.close()

    def close(self) -> None:
        """Let another keeper work at once, as far as the cluster can be told."""
        if self._renewed_at:
            self._renewed_at = 0.0
            with suppress(QwenkitError), within(_LEAD_S):
                self.room.cluster.change(LEASE, KEEPER, self._released)

    def _released(self, lease: Obj) -> dict[str, object] | None:
        mine = (lease.get("spec") or {}).get("holderIdentity") == self.identity
        return {"spec": {"holderIdentity": None, "renewTime": None}} if mine else None

    def turn(self) -> Allotment | None:
        """Look, decide, and do what follows; None if another keeper works.

        Raises:
            QwenkitError: the cluster does not answer, or the state cannot be read.
        """
        now = self._now()
        if not self._leads(now):
            self._read_at = self._seen_at = 0.0
            return None
        if now - self._read_at >= _AGAIN_S:
            self._total = read(self.room.cluster, self.room.name).gpu_slots
            self._told, self._read_at = self._as_told(), now
            self._warned.clear()
        look = self.room.look()
        made: list[Allotment] = []

        def decided(slots: Slots) -> Slots | None:
            if now <= slots.seen_at < now + _AGAIN_S:  # another keeper has looked since
                return None
            # What this keeper saw last is later than what it wrote last.
            seen_at = max(slots.seen_at, self._seen_at)
            seen = replace(slots, total=self._total, seen_at=seen_at)
            asks = [ask for ask, _ in look.asks.values()]
            pods = [pod for pod, _ in look.pods.values()]
            made[:] = [decide(now, seen, look.quotas.keys(), asks, pods)]
            after = made[0].slots
            same = replace(after, seen_at=slots.seen_at) == slots
            return None if same and now - slots.seen_at < _WRITE_S else after

        self.room.edit(decided)
        if not made:
            return None
        self._seen_at = now
        self._obey(look, made[0])
        return made[0]

    def _obey(self, look: Look, made: Allotment) -> None:
        """Bring the cluster to what was decided; what is taken back is taken first."""
        cluster, slots = self.room.cluster, made.slots
        wanted = {who: grant.gpus for who, grant in slots.grants.items()}
        changed = {
            who: wanted.get(who, 0) - _gpus(quota, self.room.hard)
            for who, quota in look.quotas.items()
        }
        less = [who for who, more in changed.items() if more < 0]
        more = [who for who, more in changed.items() if more > 0]
        for who in less:
            self._try(self._set_quota, who, wanted.get(who, 0))
        for pod in made.drain:
            self._try(cluster.delete_made, look.pods[pod.uid][1])
        for ask in made.drop:
            self._try(cluster.delete_made, look.asks[ask.uid][1])
        for who in more:
            self._try(self._set_quota, who, wanted[who])
        replicas = slots.hours.min_scale if slots.hours else 0
        for who in [*less, *more] if replicas else []:
            self._try(set_min_scale, self.room.space(who), replicas if who in wanted else 0)
        for who in [*more, *self._known(look)]:
            self._try(_wake, self.room.space(who))
        self._raised |= set(more)
        for who, told in made.told.items():
            if not _is_about(told, self._told.get(who)):
                self._try(self._tell, who, told)

    def _known(self, look: Look) -> list[str]:
        """Return whose larger quota is enforced by now: by its status, which follows its spec.

        A pod that was asked for in between is refused, and tried again only minutes later.
        """
        quotas = {who: look.quotas.get(who, {}) for who in self._raised}
        found = [
            who
            for who, one in quotas.items()
            if _gpus(one, self.room.hard, "status") >= _gpus(one, self.room.hard)
        ]
        self._raised -= set(found)
        return found

    def _try(self, action: Callable[..., object], *args: object) -> None:
        """Take an action; one that fails must not keep the others from theirs."""
        try:
            action(*args)
        except NotFound:
            pass  # it is gone, which is as well
        except QwenkitError as error:
            self._warn(error)

    def _warn(self, error: QwenkitError) -> None:
        """Say once what is in the way: where a right is missing, it is each time."""
        if (text := str(error)) not in self._warned:
            self._warned.add(text)
            log.warning("the keeper tries again: %s", text)

    def _set_quota(self, who: str, gpus: int) -> None:
        body = {"spec": {"hard": {self.room.hard: str(gpus)}}}
        self.room.space(who).patch(RESOURCE_QUOTA, QUOTA, body)

    def _tell(self, who: str, told: GpuSlot) -> None:
        self.room.space(who).patch(CONFIG_MAP, TOLD, {"data": told.to_data()})
        self._told[who] = told

    def _as_told(self) -> dict[str, GpuSlot]:
        """Return what participants have been told by whoever kept the slots before."""
        ours, start = {WORKSHOP_LABEL: self.room.name.name}, f"{self.room.name.name}-"
        found = self.room.cluster.list(CONFIG_MAP, labels=ours, everywhere=True)
        return {
            str(one["metadata"]["namespace"]).removeprefix(start): GpuSlot.of(one)
            for one in found
            if name_of(one) == TOLD and one["metadata"]["namespace"] != self.room.name.namespace
        }

    def _leads(self, now: float) -> bool:
        """Return whether this keeper works now; take or renew the Lease that says so."""
        if now - self._renewed_at < _RENEW_S:
            return True
        cluster, leads = self.room.cluster, False
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(_LEAD_S),
            "renewTime": stamp,
        }

        def merge(lease: Obj) -> dict[str, object] | None:
            nonlocal leads
            found = lease.get("spec") or {}
            renewed = found.get("renewTime")
            silent = not renewed or now - moment(renewed).timestamp() >= _LEAD_S
            leads = silent or found.get("holderIdentity") == self.identity
            return {"spec": spec} if leads else None

        try:
            cluster.change(LEASE, KEEPER, merge)
        except NotFound:
            self.room.make(LEASE, KEEPER)
            cluster.change(LEASE, KEEPER, merge)
        except Conflict:  # another one is at it
            return False
        self._renewed_at = now if leads else 0.0
        return leads

    def _now(self) -> float:
        """Return the time by the API server's clock, which its own objects are stamped with."""
        at = time.monotonic()
        if at - self._asked_at >= _AGAIN_S and (date := self.room.cluster.date()):
            ahead = parsedate_to_datetime(date).timestamp() + 0.5 - time.time()
            self._ahead_s, self._asked_at = (ahead if abs(ahead) > 1 else 0.0), at
        return time.time() + self._ahead_s


def _gpus(quota: Obj, hard: str, side: str = "spec") -> int:
    found = str(((quota.get(side) or {}).get("hard") or {}).get(hard, ""))
    return int(found) if found.isdecimal() else -1


def _is_about(told: GpuSlot, before: GpuSlot | None) -> bool:
    """Return whether nothing has changed that is worth a request."""
    if before is None:
        return False
    pairs = (told.expected_at, before.expected_at), (told.ends_at, before.ends_at)
    near = all(a == b or (a and b and abs(a - b) < _ABOUT_S) for a, b in pairs)
    bare = replace(told, expected_at=None, ends_at=None)
    return near and bare == replace(before, expected_at=None, ends_at=None)


def _wake(space: Cluster) -> None:
    """Let Kubernetes try again at once to make the pods that the quota has refused.

    Its next try may be a quarter of an hour away, but it looks at a ReplicaSet that changes.
    """
    sets: Iterable[Obj] = space.list(REPLICA_SET)
    for one in sets:
        has = (one.get("status") or {}).get("replicas") or 0
        if has < int((one.get("spec") or {}).get("replicas") or 0):
            stamp = {"qwenkit.dev/slot-granted-at": f"{time.time():.0f}"}
            space.change_made(one, {"metadata": {"annotations": stamp}})

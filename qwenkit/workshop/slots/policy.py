"""Who gets a GPU next, and from whom one is taken: pure, from one look at the cluster.

Whoever has used fewest GPU seconds is first, then who has waited longest. The first of the queue
waits until enough GPUs are free, and nobody behind goes before, so that a wish for more GPUs is
not starved. A slot costs its holder a minute at least: so all others come first after finitely
many slots, and nobody waits for ever.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from qwenkit.cluster.gpu_slot import GpuSlot
from qwenkit.workshop.slots.state import Ask, GpuPod, Grant, Held, Slots


@dataclass(frozen=True)
class Allotment:
    """What is to be: the state, what each participant is told, and what is to be deleted.

    The quota of each participant is the GPUs of their grant, 0 without one.
    """

    slots: Slots
    told: Mapping[str, GpuSlot]
    drain: tuple[GpuPod, ...]
    drop: tuple[Ask, ...]

    def __str__(self) -> str:
        waiting = sum(one.slot == "waiting" for one in self.told.values())
        holders = ", ".join(sorted(self.slots.grants)) or "nobody"
        return f"GPUs are held by {holders}; waiting: {waiting}"


def decide(
    now: float,
    slots: Slots,
    participants: Collection[str],
    asks: Iterable[Ask],
    pods: Collection[GpuPod],
) -> Allotment:
    """Return what follows from the state, the wishes and the pods; changes nothing.

    Wishes and pods of those who are no participants are left out. Calling it again with its own
    state changes nothing until time passes or the cluster changes.
    """
    pods = [pod for pod in pods if pod.participant in participants]
    slots = counted(slots, now, pods)
    if slots.spent() and not slots.ended:
        slots = replace(slots, ended="budget")
    known = [ask for ask in asks if ask.participant in participants]
    wishes = {ask.participant: _bounded(slots, ask) for ask in known}
    closed = slots.closed(now)
    slots = _taken_back(slots, now, wishes, pods, closed)
    since = _wanted_since(slots, now, closed)
    drop = [
        ask for who, ask in wishes.items() if slots.done.get(who) == ask.uid or ask.since < since
    ]
    queue = [ask for who, ask in wishes.items() if ask not in drop and who not in slots.grants]
    queue.sort(key=lambda ask: (_rank(slots, ask.participant), ask.since, ask.participant))
    if not closed:
        slots, queue = _granted(slots, now, queue, pods)
    slots = _changed(slots, wishes, pods, more=not queue)
    expected = _expected(now, slots, queue, pods) if not closed else {}
    all_ = GpuSlot(note=slots.note, closed=closed, ends_at=slots.ends_at(now))
    told = dict.fromkeys(sorted(participants), all_)
    for who, grant in slots.grants.items():
        has = replace(all_, gpus=grant.gpus, until=grant.until, ask=grant.ask)
        told[who] = replace(has, slot="granted")
    for position, ask in enumerate(queue, 1):
        at = expected.get(ask.uid)
        waits = replace(all_, position=position, expected_at=at, ask=ask.uid)
        told[ask.participant] = replace(waits, slot="waiting")
    return Allotment(slots, told, tuple(_beyond(slots, pods)), tuple(drop))


def counted(slots: Slots, now: float, pods: Iterable[GpuPod]) -> Slots:
    """Bring the ledger up to date: a pod costs from when it was scheduled until it is gone.

    One that went since the last look is taken to have gone in the middle of that time.
    """
    now = max(now, slots.seen_at)
    live = {
        pod.uid: slots.pods.get(pod.uid) or Held(pod.participant, pod.gpus, min(pod.since, now))
        for pod in pods
        if pod.since is not None
    }
    settled = dict(slots.settled)
    for uid, pod in slots.pods.items():
        if uid not in live:
            seconds = max((slots.seen_at + now) / 2 - pod.since, 0.0)
            settled[pod.participant] = settled.get(pod.participant, 0.0) + pod.gpus * seconds
    return replace(slots, pods=live, settled=settled, seen_at=now)


def _bounded(slots: Slots, ask: Ask) -> Ask:
    most = max(min(slots.most_gpus, slots.total), 1)
    seconds = min(max(ask.seconds, 1.0), slots.most_minutes * 60)
    return replace(ask, gpus=min(max(ask.gpus, 1), most), seconds=seconds)


def _wanted_since(slots: Slots, now: float, closed: str) -> float:
    """Return since when wishes count: after class they wait for the next morning."""
    if closed in ("", "frozen"):
        return 0.0
    return now if closed != "hours" or slots.hours is None else slots.hours.closed_last(now)


def _rank(slots: Slots, participant: str) -> float:
    return max(slots.used().get(participant, 0.0), slots.charged.get(participant, 0.0))


def _taken_back(
    slots: Slots, now: float, wishes: Mapping[str, Ask], pods: Iterable[GpuPod], closed: str
) -> Slots:
    """Take back slots that are over, idle, given back, or that nobody may hold now."""
    busy = _busy(pods)
    for who, grant in slots.grants.items():
        idle = None if who in busy else grant.idle_since or now
        wish = wishes.get(who)
        if (
            closed
            or wish is None
            or wish.uid != grant.ask
            or now >= min(grant.until, grant.since + wish.seconds)
            or (idle is not None and now - idle >= slots.idle_minutes * 60)
        ):
            # Frozen, they wait again with the same wish.
            slots = slots.without(who, now, done=closed != "frozen")
        else:
            slots = replace(slots, grants={**slots.grants, who: replace(grant, idle_since=idle)})
    return slots


def _busy(pods: Iterable[GpuPod]) -> set[str]:
    """Return who uses a slot: pods that are being deleted are no use of it."""
    return {pod.participant for pod in pods if not pod.ending}


def _held(pods: Iterable[GpuPod]) -> dict[str, int]:
    """Return the GPUs that pods hold, by participant; those that are being deleted, too."""
    found: dict[str, int] = {}
    for pod in pods:
        if pod.since is not None:
            found[pod.participant] = found.get(pod.participant, 0) + pod.gpus
    return found


def _taken(slots: Slots, held: Mapping[str, int]) -> dict[str, int]:
    """Return the GPUs that nobody else can have: granted, or still held by pods that drain."""
    granted = {who: grant.gpus for who, grant in slots.grants.items()}
    return {who: max(granted.get(who, 0), held.get(who, 0)) for who in {*granted, *held}}


def _granted(
    slots: Slots, now: float, queue: list[Ask], pods: Iterable[GpuPod]
) -> tuple[Slots, list[Ask]]:
    """Grant wishes from the head of the queue, as long as GPUs are free; return who still waits."""
    held, busy = _held(pods), _busy(pods)
    for number, ask in enumerate(queue):
        taken = _taken(slots, held)
        mine = taken.pop(ask.participant, 0)
        if sum(taken.values()) + max(ask.gpus, mine) > slots.total:
            return slots, queue[number:]
        idle = None if ask.participant in busy else now
        grant = Grant(ask.uid, ask.gpus, now, now + ask.seconds, idle)
        slots = replace(slots, grants={**slots.grants, ask.participant: grant})
    return slots, []


def _changed(
    slots: Slots, wishes: Mapping[str, Ask], pods: Iterable[GpuPod], *, more: bool
) -> Slots:
    """Follow the wishes of holders for less time and fewer GPUs, or for ``more``."""
    held = _held(pods)
    for who, grant in slots.grants.items():
        taken = _taken(slots, held)
        free = slots.total - sum(gpus for other, gpus in taken.items() if other != who)
        gpus = min(wishes[who].gpus, max(free, grant.gpus) if more else grant.gpus)
        until = grant.since + wishes[who].seconds
        changed = replace(grant, gpus=gpus, until=until if more else min(until, grant.until))
        slots = replace(slots, grants={**slots.grants, who: changed})
    return slots


def _beyond(slots: Slots, pods: Iterable[GpuPod]) -> Iterable[GpuPod]:
    """Yield the pods that are beyond their participant's slot, the newest first."""
    room = {who: grant.gpus for who, grant in slots.grants.items()}
    newest = float("inf")
    for pod in sorted(pods, key=lambda pod: (pod.since is None, pod.since or newest, pod.uid)):
        if not pod.ending:
            room[pod.participant] = room.get(pod.participant, 0) - pod.gpus
            if room[pod.participant] < 0:
                room[pod.participant] += pod.gpus
                yield pod


def _expected(
    now: float, slots: Slots, queue: Iterable[Ask], pods: Iterable[GpuPod]
) -> dict[str, float]:
    """Return when each wish of the queue is granted if all holders use all of their time."""
    taken = _taken(slots, _held(pods))
    free = slots.total - sum(taken.values())
    ends = [
        (grant.until if (grant := slots.grants.get(who)) else now, gpus)
        for who, gpus in taken.items()
    ]
    heapq.heapify(ends)
    found, at = {}, now
    for ask in queue:
        while free < ask.gpus and ends:
            end, gpus = heapq.heappop(ends)
            at, free = max(at, end), free + gpus
        free -= ask.gpus
        found[ask.uid] = at
        heapq.heappush(ends, (at + ask.seconds, ask.gpus))
    return found

"""Who holds a GPU slot, who has used how much, and the rules of the day: one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from qwenkit.errors import InvalidValue
from qwenkit.language import Shown
from qwenkit.workshop.slots.hours import ClassHours

STATE_KEY = "state"  # the entry of the ConfigMap
_DRAIN_S = 120.0  # what pods may still use after the day was ended by its budget


@dataclass(frozen=True)
class Ask:
    """A participant's wish: a Lease by its uid. ``since`` is the server's time of creation."""

    participant: str
    uid: str
    since: float
    gpus: int
    seconds: float


@dataclass(frozen=True)
class GpuPod:
    """A pod with GPUs; it holds them since it was scheduled, None while it is not."""

    participant: str
    name: str
    uid: str
    gpus: int
    since: float | None
    ending: bool = False


@dataclass(frozen=True)
class Grant:
    """GPUs given for a wish. ``idle_since``: when its last pod was gone, None with one."""

    ask: str
    gpus: int
    since: float
    until: float
    idle_since: float | None = None


@dataclass(frozen=True)
class Held:
    """The GPUs of one pod in the ledger, from when it was scheduled."""

    participant: str
    gpus: int
    since: float


@dataclass(frozen=True, repr=False)
class Slots(Shown):
    """The state of a workshop's GPU slots; it is replaced, never changed.

    ``settled`` are GPU seconds of pods that are gone and ``charged`` those of slots that are
    over, by participant; ``done`` the last wish that was served; ``seen_at`` when the pods were
    last counted. A wish is cut to ``most_gpus`` and ``most_minutes``; a slot without a pod ends
    after ``idle_minutes``. Three GPUs are as many as the course's own ``max_scale``.
    """

    total: int
    most_gpus: int = 3
    most_minutes: float = 60.0
    idle_minutes: float = 5.0
    price_per_gpu_hour: float | None = None
    budget_gpu_hours: float | None = None
    hours: ClassHours | None = None
    note: str = ""
    frozen: bool = False
    ended: str = ""
    grants: Mapping[str, Grant] = field(default_factory=dict)
    done: Mapping[str, str] = field(default_factory=dict)
    charged: Mapping[str, float] = field(default_factory=dict)
    settled: Mapping[str, float] = field(default_factory=dict)
    pods: Mapping[str, Held] = field(default_factory=dict)
    seen_at: float = 0.0

    def used(self) -> dict[str, float]:
        """Return the GPU seconds of pods by participant, up to ``seen_at``."""
        found = dict(self.settled)
        for pod in self.pods.values():
            seconds = pod.gpus * max(self.seen_at - pod.since, 0.0)
            found[pod.participant] = found.get(pod.participant, 0.0) + seconds
        return found

    def spent(self) -> bool:
        """Return whether the budget ends the day, as long as pods can still end within it."""
        if self.budget_gpu_hours is None:
            return False
        left = self.budget_gpu_hours * 3600 - sum(self.used().values())
        return left <= self._running() * _DRAIN_S

    def closed(self, now: float) -> str:
        """Return why nobody may hold a GPU now: as ``GpuSlot.closed``, empty if one may."""
        if self.ended or self.frozen:
            return self.ended or "frozen"
        return "hours" if self.hours and not self.hours.is_open(now) else ""

    def ends_at(self, now: float) -> float | None:
        """Return when the day ends, by its hours or by its budget as it is used now."""
        ends = [self.hours.closes_at(now)] if self.hours and not self.closed(now) else []
        running = self._running()
        if self.budget_gpu_hours is not None and running:
            left = self.budget_gpu_hours * 3600 - sum(self.used().values())
            ends.append(now + max(left / running - _DRAIN_S, 0.0))
        return min(ends, default=None)

    def _running(self) -> int:
        """Return the GPUs that cost now, or may at any moment."""
        granted = sum(grant.gpus for grant in self.grants.values())
        return max(granted, sum(pod.gpus for pod in self.pods.values()))

    def freed(self, participant: str) -> Slots:
        """Take the slot back from a participant; they may ask again."""
        return self.without(participant, self.seen_at)

    def without(self, participant: str, now: float, *, done: bool = True) -> Slots:
        """End a participant's slot; with ``done`` their wish is served."""
        grant = self.grants.get(participant)
        if grant is None:
            return self
        # Whoever holds a slot without using it has had it all the same, for a minute at least.
        seconds = grant.gpus * max(now - grant.since, 60.0)
        charged = {participant: self.charged.get(participant, 0.0) + seconds}
        return replace(
            self,
            grants={who: one for who, one in self.grants.items() if who != participant},
            charged={**self.charged, **charged},
            done={**self.done, participant: grant.ask} if done else self.done,
        )

    def __str__(self) -> str:
        held = sum(grant.gpus for grant in self.grants.values())
        lines = [f"GPUs held by participants: {held} of {self.total}"]
        lines += [f"no GPUs now: {self.ended or 'frozen'}"] * bool(self.ended or self.frozen)
        lines += [f"class hours: {self.hours}"] if self.hours else []
        minutes = sum(self.used().values()) / 60
        if self.budget_gpu_hours is None:
            lines.append(f"used: {minutes:.1f} GPU minutes")
        else:
            lines.append(f"used: {minutes:.1f} of {60 * self.budget_gpu_hours:g} GPU minutes")
        return "\n".join([*lines, *([f"note: {self.note}"] if self.note else [])])

    def to_data(self) -> dict[str, str]:
        """Return the ConfigMap's data."""
        return {STATE_KEY: json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)}

    @classmethod
    def of(cls, config_map: Mapping[str, Any]) -> Slots:
        """Read the ConfigMap.

        Raises:
            InvalidValue: somebody has written something else there.
        """
        try:
            known = json.loads((config_map.get("data") or {})[STATE_KEY])
            fields = {key: known[key] for key in cls.__dataclass_fields__ if key in known}
            hours = fields.get("hours")
            fields["hours"] = ClassHours(**hours) if hours else None
            fields["grants"] = {who: Grant(**one) for who, one in known.get("grants", {}).items()}
            fields["pods"] = {uid: Held(**one) for uid, one in known.get("pods", {}).items()}
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            rule = f"is not the state of GPU slots: {error!r}"
            fix = "delete that ConfigMap and run qwenkit workshop create again"
            raise InvalidValue("slots", "…", rule, fix) from None

"""A participant's GPU slot of a workshop: the wish that they write, and what they are told."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from qwenkit.cluster.api.retries import within
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import CONFIG_MAP, LEASE, Obj
from qwenkit.cluster.wait import OnChange, Transition, wait
from qwenkit.errors import InvalidValue, NotReady, QwenkitError
from qwenkit.language import said
from qwenkit.settings import Settings

log = logging.getLogger("qwenkit.cluster")

GPU_SLOT = "gpu-slot"  # the Lease that a participant writes: how long a slot they want
GPUS = "qwenkit.dev/gpus"  # its annotation: how many GPUs
TOLD = "workshop"  # the ConfigMap that the keeper writes for a participant
TOLD_KEY = "slot"  # its entry, JSON of a GpuSlot
WORKSHOP_LABEL = "qwenkit.dev/workshop"
MINUTES = 20.0
_PATIENCE_S = 4 * 3600.0  # a queue may be long, and Ctrl-C leaves the wish where it is
_SILENT_S = 60.0  # a keeper answers within seconds
_NEWS_EVERY_S, _NEWS_PATIENCE_S = 10.0, 3.0


@dataclass(frozen=True, repr=False)
class GpuSlot:
    """What a participant is told; times are Unix seconds, None where there is none to tell.

    ``ask`` is the uid of the Lease that it answers. ``closed`` says why nobody gets a GPU now:
    ``frozen``, ``hours``, ``budget`` or ``ended``.
    """

    slot: Literal["none", "waiting", "granted"] = "none"
    gpus: int = 0
    until: float | None = None
    position: int | None = None
    expected_at: float | None = None
    ask: str = ""
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
            return f"you hold {self.gpus} GPU until {clock(self.until)}"
        if self.closed:
            return f"no GPUs now: {CLOSED.get(self.closed, self.closed)}"
        if self.slot == "waiting":
            if self.expected_at is None:
                return f"waiting for a GPU: number {self.position}"
            at = clock(self.expected_at)
            return f"waiting for a GPU: number {self.position}, expected at {at}"
        return "you hold no GPU: qwenkit workshop ask"

    def __repr__(self) -> str:
        line = said(str(self))
        return f"{line}\n{said('a note to all')}: {self.note}" if self.note else line


# Why nobody gets a GPU now.
CLOSED = {
    "frozen": "the instructor has stopped all of them for a moment",
    "hours": "it is outside class hours",
    "budget": "the workshop's budget is used up",
    "ended": "the day has ended",
}


def clock(unix_s: float | None) -> str:
    """Return the time of day where the reader is."""
    return f"{datetime.fromtimestamp(unix_s or 0.0):%H:%M}"


def read_slot(cluster: Cluster, settings: Settings) -> GpuSlot:
    """Return what the keeper tells this participant; nothing outside a workshop."""
    return GpuSlot.of(cluster.find(CONFIG_MAP, TOLD)) if settings.workshop else GpuSlot()


def ask_for(
    cluster: Cluster, settings: Settings, *, gpus: int = 1, minutes: float = MINUTES
) -> Obj:
    """Ask for a slot; return the Lease. Asked again, a wish only grows: so long from now.

    The keeper cuts a wish that is too large, and extends a slot only while nobody waits.

    Raises:
        SettingsError: the settings name no workshop.
        InvalidValue: no GPUs or no time.
    """
    settings.require("workshop")
    if gpus < 1 or not 0 < minutes <= 24 * 60:
        rule = "must be one or more, for at most a day"
        raise InvalidValue("gpus and minutes", (gpus, minutes), rule, "gpus=1, minutes=20")
    seconds, told = minutes * 60, read_slot(cluster, settings)
    found = cluster.find(LEASE, GPU_SLOT)
    if found is not None and told.ask == found["metadata"]["uid"]:
        gpus = max(gpus, told.gpus)
        before = float((found.get("spec") or {}).get("leaseDurationSeconds") or 0)
        # A slot ends this long after its beginning.
        began = told.until - before if told.until else time.time()
        seconds = max(before, time.time() - began + seconds)
    meta = {
        "name": GPU_SLOT,
        "namespace": cluster.namespace,
        "labels": cluster.labels | {WORKSHOP_LABEL: settings.workshop},
        "annotations": {GPUS: str(gpus)},
    }
    head = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": meta}
    return cluster.apply(head | {"spec": {"leaseDurationSeconds": round(seconds)}})


def give_back(cluster: Cluster) -> bool:
    """Give the slot back, or leave the queue; False if there was neither.

    The pods that use it are then ended as at any other end: they answer what they have begun.
    """
    return cluster.delete(LEASE, GPU_SLOT)


def hold(
    cluster: Cluster,
    settings: Settings,
    *,
    gpus: int = 1,
    minutes: float = MINUTES,
    timeout_s: float = _PATIENCE_S,
    on_change: OnChange | None = None,
) -> GpuSlot:
    """Return the slot that is held; ask for one and wait for it if there is none.

    Raises:
        NotReady: the day is over, the wish was taken away, or nobody keeps the slots.
        WaitTimeout: it was not granted in time; the wish stays.
    """
    told, lease = read_slot(cluster, settings), cluster.find(LEASE, GPU_SLOT)
    if lease is None or told.ask != lease["metadata"]["uid"]:
        lease = ask_for(cluster, settings, gpus=gpus, minutes=minutes)
    elif told.slot == "granted":
        return told
    uid, began = lease["metadata"]["uid"], time.monotonic()

    def failed(told: GpuSlot) -> QwenkitError | None:
        if told.ask == uid:
            return None
        wish = cluster.find(LEASE, GPU_SLOT)
        if wish is None or wish["metadata"]["uid"] != uid:
            return NotReady("the wish for a GPU was taken away", str(told), "ask the instructor")
        if time.monotonic() - began > _SILENT_S:
            why = "nobody has answered the wish: no keeper runs, or the wish is too old"
            return NotReady("there is no GPU slot", why, "the instructor: qwenkit workshop keep")
        return None

    return wait(
        lambda: read_slot(cluster, settings),
        what="a GPU slot",
        ready=lambda told: told.slot == "granted" and told.ask == uid,
        describe=lambda told: str(told) if told.ask == uid else "asking for a GPU",
        failed=failed,
        timeout_s=timeout_s,
        on_change=on_change,
    ).value


def within_slot(
    cluster: Cluster, settings: Settings, *, on_change: OnChange | None = None
) -> Settings:
    """Return the settings as a slot bounds them; as they are without workshop.

    The slot is waited for; without ``on_change`` a notebook prints how it goes, else the log
    says it.

    Raises:
        NotReady, WaitTimeout: as ``hold``.
    """
    if not settings.workshop or not settings.gpu_count:
        return settings
    gpus = settings.gpu_count * max(1, settings.min_scale)
    return bounded(settings, hold(cluster, settings, gpus=gpus, on_change=on_change or _told))


def _told(change: Transition) -> None:
    # A notebook shows what is logged as it shows an error, which a wait is not.
    (print if _shell() else log.warning)(said(change.state))


def bounded(settings: Settings, slot: GpuSlot) -> Settings:
    """Return the settings with no more replicas than a slot has GPUs for, but with one."""
    if not settings.workshop or not settings.gpu_count:
        return settings
    most = max(slot.gpus // settings.gpu_count, 1)
    if settings.max_scale:
        most = min(most, settings.max_scale)
    bounds = {"max_scale": most, "min_scale": min(settings.min_scale, most)}
    return settings.model_copy(update=bounds)


def lost(cluster: Cluster, settings: Settings) -> NotReady | None:
    """Return the error of what waits for pods once the slot is over; None while it is held."""
    told = read_slot(cluster, settings)
    if not settings.workshop or told.slot == "granted":
        return None
    return NotReady("the GPU slot is over", str(told), "qwenkit workshop ask; then try again")


def leave(settings: Settings) -> None:
    """Give the slot back in a workshop; elsewhere do nothing."""
    if settings.workshop:
        give_back(Cluster.connect(settings))


class SlotNews:
    """In a notebook: what changed of slot and note, printed below the cell that ran."""

    watched: ClassVar[set[tuple[str, str]]] = set()  # contexts and namespaces

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._cluster: Cluster | None = None
        self._seen, self._next = ("none", "", ""), 0.0

    def look(self, *_: object) -> None:
        """Look, at most every 10 s; what cannot be read is no news."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _NEWS_EVERY_S
        with suppress(QwenkitError), within(_NEWS_PATIENCE_S):
            self._cluster = self._cluster or Cluster.connect(self.settings)
            told = read_slot(self._cluster, self.settings)
            before, self._seen = self._seen, (told.slot, told.closed, told.note)
            if self._seen != before:
                print(repr(told))


def show_notes(settings: Settings) -> None:
    """Show a workshop's news from now on, where there are cells; once for a namespace."""
    place = (settings.context, settings.namespace)
    shell = _shell()
    if settings.workshop and shell is not None and place not in SlotNews.watched:
        SlotNews.watched.add(place)
        shell.events.register("post_run_cell", SlotNews(settings).look)


def _shell() -> Any:
    """Return the shell of the notebook that this runs in, None elsewhere."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None

"""A workshop that stands: its state, more time, and one participant at the start of a chapter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    JOB,
    NAMESPACE,
    Kind,
    Obj,
    annotations_of,
    moment,
    name_of,
)
from qwenkit.cluster.ownership import foreign_claim, is_ours
from qwenkit.cluster.removal import TeardownStep
from qwenkit.errors import InvalidValue
from qwenkit.exercises.reset import ResetReport
from qwenkit.exercises.reset import reset as reset_chapter
from qwenkit.language import Shown
from qwenkit.settings import EXPIRES_AT, Settings
from qwenkit.workshop import description
from qwenkit.workshop.bill import Bill, Forecast, bill_of, forecast, slots_of
from qwenkit.workshop.create import concurrently, end_after
from qwenkit.workshop.delete import WITH_LABELS, list_all
from qwenkit.workshop.description import Description
from qwenkit.workshop.names import PROGRESS, SLOTS, WorkshopName


@dataclass(frozen=True, repr=False)
class WorkshopStatus(Shown):
    """What stands of a workshop; ``missing`` are ids whose namespace is not there."""

    workshop: Description
    missing: tuple[str, ...]
    holding: tuple[str, ...]
    images_pulled: int
    images: int
    bill: Bill
    forecast: Forecast

    def __str__(self) -> str:
        about = self.workshop
        people, missing = len(about.participants), ", ".join(self.missing)
        lines = [
            f"workshop {about.name.name}: {people} participants, until {about.expires_at}",
            f"  GPU slots: {len(self.holding)} held of {about.gpu_slots}",
            *(f"    held by {one}" for one in self.holding),
            f"  image: pulled on {self.images_pulled} of {self.images} GPU nodes",
            f"  from now on: {self.forecast}",
            f"  so far: {self.bill.gpu_seconds / 60:.1f} GPU minutes",
        ]
        if missing:
            lines.append(f"  missing: {missing}; qwenkit workshop create makes them again")
        return "\n".join(line.rstrip() for line in lines)


def status(settings: Settings, name: WorkshopName) -> WorkshopStatus:
    """Return what stands of a workshop; changes nothing.

    Raises:
        NotFound: there is no such workshop.
    """
    with closing(description.connect(settings, name)) as cluster:
        workshop = description.read(cluster, name)
        there = {name_of(one) for one in cluster.list(NAMESPACE, labels=cluster.labels)}
        jobs = cluster.list(JOB, labels=cluster.labels)
        slots = slots_of(workshop, cluster.find(CONFIG_MAP, SLOTS))
    ahead = forecast(settings, workshop)
    return WorkshopStatus(
        workshop,
        tuple(one.id for one in workshop.participants if one.namespace not in there),
        tuple(sorted(slots.grants)),
        sum(bool((one.get("status") or {}).get("succeeded")) for one in jobs),
        len(jobs),
        bill_of(workshop, slots, ahead.price_per_gpu_hour),
        ahead,
    )


def extend(settings: Settings, name: WorkshopName) -> Description:
    """Let a workshop end later: ``expires_after`` from now (12 h); its tokens stay as they are.

    Raises:
        NotFound: there is no such workshop.
        InvalidValue: it ends later already.
    """
    with closing(description.connect(settings, name)) as cluster:
        before = description.read(cluster, name)
        longer = replace(before, expires_at=end_after(settings))
        if moment(longer.expires_at) < moment(before.expires_at):
            rule = f"ends before {before.expires_at}, when the workshop ends already"
            raise InvalidValue("expires_after", settings.expires_after, rule, "extend --for 24h")
        cluster.patch(CONFIG_MAP, description.DESCRIPTION, {"data": longer.to_object()["data"]})
        _prolong(cluster, NAMESPACE, cluster.get(NAMESPACE, name.namespace), longer.expires_at)
        found = [
            (kind, one)
            for kind in WITH_LABELS
            for one in list_all(cluster, name, kind)
            if is_ours(one, run=name.run) and annotations_of(one).get(EXPIRES_AT)
        ]
        concurrently(found, lambda pair: _prolong(cluster, *pair, longer.expires_at))
    return longer


def _prolong(cluster: Cluster, kind: Kind, obj: Obj, end: str) -> None:
    claim, _, _ = foreign_claim(obj, "").partition("/")
    there = cluster.at(obj["metadata"].get("namespace") or claim or cluster.namespace)
    there.patch(kind, name_of(obj), {"metadata": {"annotations": {EXPIRES_AT: end}}})


def reset(
    settings: Settings,
    name: WorkshopName,
    participant: str,
    chapter: str,
    *,
    on_step: Callable[[TeardownStep], None] | None = None,
) -> ResetReport:
    """Bring a participant's namespace to the start of a chapter, with the instructor's rights.

    Raises:
        NotFound: there is no such workshop or participant.
        InvalidValue: there is no such chapter.
    """
    with closing(description.connect(settings, name)) as cluster:
        workshop = description.read(cluster, name)
        who = workshop.participant(participant)
        theirs = Settings(**workshop.parameters(who) | {"context": settings.context})
        report = reset_chapter(theirs, chapter, on_step=on_step)
        cluster.at(who.namespace).patch(CONFIG_MAP, PROGRESS, {"data": None})
    return report

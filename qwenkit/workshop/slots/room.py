"""The cluster as the keeper sees it: wishes, pods and quotas of all participants in a few lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gpu_slot import GPU_SLOT, GPUS
from qwenkit.cluster.kinds import (
    CONFIG_MAP,
    LEASE,
    POD,
    RESOURCE_QUOTA,
    Kind,
    Obj,
    annotations_of,
    condition,
    is_terminating,
    is_true,
    moment,
    name_of,
)
from qwenkit.cluster.pods import gpus_wanted, node_of
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.errors import NotFound
from qwenkit.settings import EXPIRES_AT, Settings
from qwenkit.workshop.description import connect, find, read
from qwenkit.workshop.documents import document
from qwenkit.workshop.names import QUOTA, SLOTS, WORKSHOP_LABEL, WorkshopName
from qwenkit.workshop.slots.state import Ask, GpuPod, Slots


@dataclass(frozen=True)
class Look:
    """One look: the quotas, wishes and GPU pods of participants, and each one's object."""

    quotas: Mapping[str, Obj]
    asks: Mapping[str, tuple[Ask, Obj]]
    pods: Mapping[str, tuple[GpuPod, Obj]]


@dataclass(frozen=True)
class Room:
    """A workshop's GPU slots in a cluster; ``cluster`` is of the workshop's own namespace."""

    cluster: Cluster
    name: WorkshopName
    resource: str
    price_per_gpu_hour: float | None = None

    @classmethod
    def connect(cls, settings: Settings, name: WorkshopName) -> Room:
        """Connect with the instructor's context; which GPUs they are, the workshop knows.

        Raises:
            QwenkitError: the cluster cannot be connected to.
        """
        cluster = connect(settings, name)
        if about := find(cluster, name):
            settings = settings.model_copy(update=dict(about.settings))
        return cls(cluster, name, settings.gpu_resource, example_price(settings))

    @property
    def hard(self) -> str:
        """The quota's entry that is a slot."""
        return f"requests.{self.resource}"

    def look(self) -> Look:
        """List what the policy needs: three requests, however many participants there are."""
        ours = {WORKSHOP_LABEL: self.name.name}
        quotas = self.cluster.list(RESOURCE_QUOTA, labels=ours, everywhere=True)
        leases = self.cluster.list(LEASE, labels=ours, everywhere=True)
        ids = ((self._id(one), one) for one in quotas if name_of(one) == QUOTA)
        found = {who: one for who, one in ids if who}
        asks = [(_ask(self._id(one), one), one) for one in leases if name_of(one) == GPU_SLOT]
        pods = [
            (_pod(self._id(one), one, gpus), one)
            for one in self.cluster.list(POD, everywhere=True)
            if self._id(one) in found and (gpus := gpus_wanted(one["spec"], self.resource))
            if (one.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]
        return Look(
            found,
            {ask.uid: (ask, one) for ask, one in asks},
            {pod.uid: (pod, one) for pod, one in pods},
        )

    def read(self) -> Slots:
        """Return the state; raises as ``edit``."""
        return self.edit(lambda _slots: None)

    def edit(self, change: Callable[[Slots], Slots | None]) -> Slots:
        """Change the state; with None nothing is written.

        Whoever changes it at the same time is not overwritten: ``change`` then gets their state.
        The first edit makes it.

        Raises:
            NotFound: there is no such workshop.
            InvalidValue: somebody else has written it.
        """
        kept: list[Slots] = []

        def merge(found: Obj) -> Mapping[str, object] | None:
            before = Slots.of(found)
            after = change(before)
            kept[:] = [after or before]
            return None if after is None or after == before else {"data": after.to_data()}

        try:
            self.cluster.change(CONFIG_MAP, SLOTS, merge)
        except NotFound:
            total = read(self.cluster, self.name).gpu_slots
            data = Slots(total, price_per_gpu_hour=self.price_per_gpu_hour).to_data()
            self.make(CONFIG_MAP, SLOTS, data=data)
            self.cluster.change(CONFIG_MAP, SLOTS, merge)
        return kept[0]

    def make(self, kind: Kind, name: str, **fields: object) -> None:
        """Make an object of the workshop's own namespace; it ends with the workshop."""
        obj = document(kind.api_version, kind.kind, name, self.name.namespace, **fields)
        ends = {EXPIRES_AT: read(self.cluster, self.name).expires_at}
        obj["metadata"] |= {"labels": self.name.labels, "annotations": ends}
        self.cluster.apply(obj)

    def is_gone(self) -> bool:
        """Return whether there is no such workshop any more."""
        return find(self.cluster, self.name) is None

    def space(self, participant: str) -> Cluster:
        """Return the cluster at a participant's namespace."""
        return self.cluster.at(f"{self.name.name}-{participant}")

    def _id(self, obj: Obj) -> str:
        """Return whose namespace an object is in, empty if it is not of this workshop.

        Without the check a namespace that is called ``p01`` would be the first participant's.
        """
        space, start = str(obj["metadata"].get("namespace")), f"{self.name.name}-"
        return space.removeprefix(start) if space.startswith(start) else ""


def _ask(participant: str, lease: Obj) -> Ask:
    meta, spec = lease["metadata"], lease.get("spec") or {}
    gpus = annotations_of(lease).get(GPUS, "1")
    return Ask(
        participant,
        str(meta["uid"]),
        moment(meta["creationTimestamp"]).timestamp(),
        int(gpus) if gpus.isascii() and gpus.isdecimal() and len(gpus) < 6 else 1,
        float(spec.get("leaseDurationSeconds") or 0),
    )


def _pod(participant: str, pod: Obj, gpus: int) -> GpuPod:
    scheduled = condition(pod, "PodScheduled").get("lastTransitionTime")
    placed = node_of(pod) and (is_true(pod, "PodScheduled") or not scheduled)
    since = scheduled or pod["metadata"]["creationTimestamp"]
    return GpuPod(
        participant,
        name_of(pod),
        str(pod["metadata"]["uid"]),
        gpus,
        moment(since).timestamp() if placed else None,
        is_terminating(pod),
    )

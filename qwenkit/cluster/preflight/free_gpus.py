"""Which GPUs of a cluster are free for new pods, and which pods hold the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwenkit.cluster.api_errors import may_not_look
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    GPU_RESOURCE,
    NODE,
    POD,
    RESOURCE_QUOTA,
    REVISION_LABEL,
    Obj,
    is_terminating,
    labels_of,
    name_of,
)
from qwenkit.cluster.pods import gpus_of, gpus_wanted, node_of
from qwenkit.cluster.preflight.rooms import Rooms
from qwenkit.errors import Forbidden

QUOTA = "workshop"  # a participant's ResourceQuota: the GPUs of a slot are its hard limit


@dataclass(frozen=True)
class FreeGpus:
    """GPUs on the nodes that take the pods.

    ``ending`` are held by pods that are being deleted. ``places`` is how many of the pods
    fit when these are gone: one pod cannot use two nodes. ``holders`` are lines such as
    ``default/qwen-00001-x holds 1``. ``unknown`` says why nothing can be told.
    """

    total: int = 0
    free: int = 0
    ending: int = 0
    places: int = 0
    holders: tuple[str, ...] = ()
    unknown: str = ""

    def __str__(self) -> str:
        soon = f", {self.ending} soon" if self.ending else ""
        return self.unknown or f"{self.free} of {self.total} free{soon}"


def free_gpus(
    cluster: Cluster, spec: Obj, resource: str = GPU_RESOURCE, *, leaving: str = ""
) -> FreeGpus:
    """Count the GPUs that pods of this spec can get now, or once the revision ``leaving`` ended."""

    def ends(pod: Obj) -> bool:
        return is_terminating(pod) or bool(
            leaving and labels_of(pod).get(REVISION_LABEL) == leaving
        )

    slot = _in_slot(cluster, spec, resource, ends)
    try:
        nodes, pods = cluster.list(NODE), cluster.list(POD, everywhere=True)
    except Forbidden as error:
        return slot or FreeGpus(unknown=may_not_look(error))
    rooms = Rooms(tuple(nodes), spec, tuple(pod for pod in pods if not ends(pod)))
    usable = {name_of(node): node for node in nodes if not rooms.obstacle(node)}
    free = sum(int(rooms.free(node, resource)) for node in usable.values())
    held = [(pod, gpus_wanted(pod["spec"], resource)) for pod in pods if node_of(pod) in usable]
    ending = sum(gpus for pod, gpus in held if ends(pod))
    holders = [
        f"{pod['metadata'].get('namespace')}/{name_of(pod)} holds {gpus}"
        for pod, gpus in held
        if gpus and not ends(pod)
    ]
    total, places = sum(gpus_of(node, resource) for node in usable.values()), rooms.places(resource)
    if slot is not None and slot.places < places:
        return slot
    return FreeGpus(total, free - ending, ending, places, tuple(holders))


def _in_slot(
    cluster: Cluster, spec: Obj, resource: str, ends: Callable[[Obj], bool]
) -> FreeGpus | None:
    """Return what the GPU slot of a workshop has room for; None where no quota limits GPUs."""
    try:
        quota = cluster.find(RESOURCE_QUOTA, QUOTA)
        hard = ((quota or {}).get("spec") or {}).get("hard") or {}
        if f"requests.{resource}" not in hard:
            return None
        pods = [(pod, gpus_wanted(pod["spec"], resource)) for pod in cluster.list(POD)]
    except Forbidden:
        return None
    total, each = int(hard[f"requests.{resource}"]), gpus_wanted(spec, resource)
    held = [(pod, gpus) for pod, gpus in pods if gpus and node_of(pod)]
    ending = sum(gpus for pod, gpus in held if ends(pod))
    free = total - sum(gpus for _, gpus in held)
    holders = tuple(
        f"{cluster.namespace}/{name_of(pod)} holds {gpus}" for pod, gpus in held if not ends(pod)
    )
    places = max(free + ending, 0) // each if each else total
    return FreeGpus(total, max(free, 0), ending, places, holders)

"""Which GPUs of a cluster are free for new pods, and which pods hold the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import GPU_RESOURCE, NODE, POD, Obj, is_terminating, is_true, name_of
from qwenkit.cluster.pods import gpus_of, gpus_wanted
from qwenkit.errors import Forbidden


@dataclass(frozen=True)
class FreeGpus:
    """GPUs on nodes that are Ready and not cordoned.

    ``ending`` are held by pods that are being deleted. ``places`` is how many pods of the asked
    size fit when these are gone: one pod cannot use two nodes. ``holders`` are lines such as
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


def free_gpus(cluster: Cluster, *, per_pod: int, resource: str = GPU_RESOURCE) -> FreeGpus:
    """Count the GPUs that pods of ``per_pod`` GPUs can get now."""
    try:
        nodes = {name_of(n): gpus_of(n, resource) for n in cluster.list(NODE) if _takes_pods(n)}
        pods = [pod for pod in cluster.list(POD, everywhere=True) if node_of(pod) in nodes]
    except Forbidden as error:
        return FreeGpus(unknown=f"not known: {error.what}")
    held, ending, holders = Counter[str](), 0, []
    for pod in pods:
        gpus = gpus_wanted(pod["spec"], resource)
        if is_terminating(pod):
            ending += gpus
        elif gpus:
            held[node_of(pod)] += gpus
            holders.append(f"{pod['metadata'].get('namespace')}/{name_of(pod)} holds {gpus}")
    free = [max(0, gpus - held[name]) for name, gpus in nodes.items()]
    places = sum(each // max(1, per_pod) for each in free)
    return FreeGpus(sum(nodes.values()), sum(free) - ending, ending, places, tuple(holders))


def _takes_pods(node: Obj) -> bool:
    return is_true(node, "Ready") and not (node.get("spec") or {}).get("unschedulable")


def node_of(pod: Obj) -> str:
    """Return the node whose GPUs a pod holds: from when it is scheduled until it has ended."""
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return "" if ended else str((pod.get("spec") or {}).get("nodeName") or "")

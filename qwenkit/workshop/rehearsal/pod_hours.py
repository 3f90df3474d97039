"""The GPU seconds of a workshop's pods, by looking at them: what the bill is held against."""

from __future__ import annotations

import time

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import GPU_RESOURCE, POD, condition, moment
from qwenkit.cluster.pods import gpus_wanted


class PodHours:
    """Counts by pod from when it was scheduled until it was gone: between two looks, halfway."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, float]] = {}
        """By uid: the namespace and the GPU seconds."""
        self._there: dict[str, tuple[str, int, float]] = {}
        self._looked = 0.0

    def look(self, cluster: Cluster) -> int:
        """Look at all pods; return how many hold GPUs now."""
        pods, now, there = cluster.list(POD, everywhere=True), time.time(), {}
        for pod in pods:
            meta, scheduled = pod["metadata"], condition(pod, "PodScheduled")
            gpus = gpus_wanted(pod["spec"], GPU_RESOURCE)
            ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
            if gpus and scheduled.get("status") == "True" and not ended:
                since = moment(scheduled["lastTransitionTime"]).timestamp()
                there[str(meta["uid"])] = str(meta["namespace"]), gpus, since
        for uid, (namespace, gpus, since) in (self._there | there).items():
            until = now if uid in there else (self._looked + now) / 2
            self.held[uid] = namespace, gpus * (until - since)
        self._there, self._looked = there, now
        return len(there)

    def seconds(self, namespace: str) -> float:
        """Return the GPU seconds of a namespace's pods."""
        return sum(seconds for where, seconds in self.held.values() if where == namespace)

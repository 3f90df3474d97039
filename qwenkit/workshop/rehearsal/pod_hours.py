"""The GPU seconds of a workshop's pods, by looking at them: what the bill is held against."""

from __future__ import annotations

import time
from dataclasses import dataclass

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import GPU_RESOURCE, POD, condition, moment
from qwenkit.cluster.pods import gpus_wanted


@dataclass
class _Seen:
    namespace: str
    gpus: int
    since: float
    until: float


class PodHours:
    """Counts by pod from when it was scheduled until it was gone: between two looks, halfway."""

    def __init__(self, workshop: str) -> None:
        self._workshop = workshop
        self._seen: dict[str, _Seen] = {}
        self._there: set[str] = set()
        self._looked = 0.0

    def look(self, cluster: Cluster) -> int:
        """Look at all pods; return how many hold GPUs now."""
        pods, now, there = cluster.list(POD, everywhere=True), time.time(), set()
        for pod in pods:
            meta, scheduled = pod["metadata"], condition(pod, "PodScheduled")
            gpus = gpus_wanted(pod["spec"], GPU_RESOURCE)
            ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
            if gpus and scheduled.get("status") == "True" and not ended:
                since = moment(scheduled["lastTransitionTime"]).timestamp()
                new = _Seen(str(meta["namespace"]), gpus, since, now)
                self._seen.setdefault(str(meta["uid"]), new).until = now
                there.add(str(meta["uid"]))
        for gone in self._there - there:
            self._seen[gone].until = (self._looked + now) / 2
        self._there, self._looked = there, now
        return len(there)

    def __len__(self) -> int:
        return len(self._seen)

    def seconds(self, participant: str) -> float:
        """Return the GPU seconds of a participant's pods."""
        own = f"{self._workshop}-{participant}"
        mine = [one for one in self._seen.values() if one.namespace == own]
        return sum(one.gpus * (one.until - one.since) for one in mine)

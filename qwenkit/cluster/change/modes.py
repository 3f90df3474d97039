"""The ways to change a Service that serves, and what each would cost: GPUs and seconds.

A new revision needs GPUs of its own. Knative starts it beside the old one, which waits for ever
where none is spare. An idle pod of the old revision holds its GPU; a terminating one until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from qwenkit.capacity.loading import SCHEDULED
from qwenkit.cluster.change.template import difference, template_of
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.cold_start import build
from qwenkit.cluster.diagnosis.reading import read_or
from qwenkit.cluster.kinds import (
    EVENT,
    POD,
    REVISION,
    REVISION_LABEL,
    SERVICE_LABEL,
    Obj,
    is_true,
    name_of,
)
from qwenkit.cluster.pods import gpus_wanted, is_serving, restarts
from qwenkit.cluster.preflight.free_gpus import FreeGpus, free_gpus
from qwenkit.errors import InvalidValue

SURGE, REPLACE, IN_PLACE = "surge", "replace", "in-place"
MODES = (SURGE, REPLACE, IN_PLACE)
# A queue-proxy lets its pod stop 30 s after the last request (serving: pkg/queue/sharedmain,
# drainSleepDuration); then the server stops, and the kubelet removes the pod.
_DRAIN_S, _REMOVE_S = 30.0, 1.0


@dataclass(frozen=True)
class ModeForecast:
    """What one mode would do; ``gap_s`` is how long no pod is ready, None if it is not known."""

    mode: str
    works: bool
    gap_s: float | None
    why: str

    @property
    def gap(self) -> str:
        """The predicted gap in words."""
        return "a gap of unknown length" if self.gap_s is None else f"gap {self.gap_s:.3g} s"

    @property
    def outcome(self) -> str:
        """Whether it works, and the predicted gap, in words."""
        return f"works, {self.gap}" if self.works else "does not work"

    def __str__(self) -> str:
        return f"{self.mode:<8}  {self.outcome}: {self.why}"


@dataclass(frozen=True)
class NewRevision:
    """What is known of a change: the Service, the revision that serves, and what will follow it.

    ``clock`` is how many times faster than the modelled GPU the nodes run; ``cold_start_s`` an
    estimate, for where no pod can be measured.
    """

    service: Obj
    old: str
    spec: Obj
    pods: int
    gpus: FreeGpus
    clock: float = 1.0
    cold_start_s: float | None = None

    def fits(self, gpus: FreeGpus) -> bool:
        """Return whether the pods get their GPUs, as far as that is known."""
        return not gpus_wanted(self.spec) or bool(gpus.unknown) or gpus.places >= self.pods


def require_mode(name: str | None) -> None:
    """Require the name of a mode, or none.

    Raises:
        InvalidValue: no such mode.
    """
    if name is not None and name not in MODES:
        raise InvalidValue("mode", name, f"one of {', '.join(MODES)}")


def earlier_revision(cluster: Cluster, service: str, old: str, template: Obj) -> str:
    """Return a ready revision with this template that does not serve, empty if there is none."""
    made = cluster.list(REVISION, labels={SERVICE_LABEL: service})
    ready = [one for one in made if is_true(one, "Ready") and name_of(one) != old]
    same = (name_of(one) for one in ready if not difference(template_of(one), template))
    return max(same, default="")


def forecast(cluster: Cluster, new: NewRevision, earlier: str) -> tuple[ModeForecast, ...]:
    """Return what each mode would do; ``earlier`` is a revision to go back to, if there is one."""
    back = _in_place(cluster, new, earlier)
    if not new.pods:
        return (back,)
    room = new.fits(new.gpus)
    beside = f"the new pods start beside {new.old}, which serves until they are ready"
    surge = beside if room else f"no GPU is free for {_pods(new.pods)} beside {new.old}"
    return ModeForecast(SURGE, room, 0.0, surge), _replace(cluster, new), back


def _replace(cluster: Cluster, new: NewRevision) -> ModeForecast:
    if pinned := pinned_to(new.service):
        why = f"traffic is pinned to {', '.join(pinned)}, which must stay until it is moved"
        return ModeForecast(REPLACE, False, None, why)
    ready = _serving(cluster, new.old)
    if not ready:
        return ModeForecast(REPLACE, False, None, f"{new.old} has no pod to take down")
    gpus = free_gpus(cluster, new.spec, leaving=new.old)
    if not new.fits(gpus):
        why = f"without {new.old} there is room for {gpus.places} of {_pods(new.pods)}"
        return ModeForecast(REPLACE, False, None, why)
    start_s, how = _measured_start_s(cluster, ready), "measured"
    if start_s is None:
        start_s, how = new.cold_start_s, "estimated"
    if start_s is None:
        return ModeForecast(REPLACE, True, None, f"{new.old} goes down first")
    end_s = _DRAIN_S / new.clock + _REMOVE_S
    why = (
        f"{new.old} goes down first: {end_s:.0f} s until its GPUs are free, longer while it "
        f"answers, and {start_s:.0f} s to start ({how})"
    )
    return ModeForecast(REPLACE, True, round(end_s + start_s, 1), why)


def _in_place(cluster: Cluster, new: NewRevision, earlier: str) -> ModeForecast:
    """Return what it would do to give the traffic to an earlier revision."""
    if not earlier:
        why = "no earlier revision has these settings, and a revision never changes"
        return ModeForecast(IN_PLACE, False, None, why)
    if _serving(cluster, earlier):
        return ModeForecast(IN_PLACE, True, 0.0, f"{earlier} is ready: it gets the traffic")
    if not new.fits(new.gpus):
        why = f"the pods of {earlier} have ended, and no GPU is free for new ones"
        return ModeForecast(IN_PLACE, False, None, why)
    start_s = _measured_start_s(cluster, _serving(cluster, new.old))
    why = f"{earlier} gets the traffic; requests wait while its pods start"
    return ModeForecast(IN_PLACE, True, start_s or new.cold_start_s, why)


def _serving(cluster: Cluster, revision: str) -> list[Obj]:
    return [p for p in cluster.list(POD, labels={REVISION_LABEL: revision}) if is_serving(p)]


def _measured_start_s(cluster: Cluster, pods: Iterable[Obj]) -> float | None:
    """Return how long these pods took from a node to Ready, None if none can be read."""
    events = read_or([], cluster.list, EVENT)
    starts = [build(pod, events) for pod in pods if not restarts(pod)]
    waited = {one.pod: sum(s.seconds for s in one.steps if s.name == SCHEDULED) for one in starts}
    found = [one.ready_s - waited[one.pod] for one in starts if one.ready_s]
    return median(found) if found else None


def pinned_to(service: Obj) -> list[str]:
    """Return the revisions that have traffic by their name; none if it follows the latest."""
    targets = service["spec"].get("traffic") or []
    shares = [one for one in targets if one.get("percent") and one.get("revisionName")]
    return [str(one["revisionName"]) for one in shares]


def _pods(count: int) -> str:
    return f"{count} new pod" + "s" * (count != 1)

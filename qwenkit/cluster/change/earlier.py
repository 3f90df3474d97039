"""Go back to an earlier revision by its traffic: no new revision, and no new pod if it has one."""

from __future__ import annotations

from qwenkit.cluster.change.modes import IN_PLACE, ModeForecast, NewRevision, measured_start_s
from qwenkit.cluster.change.template import difference
from qwenkit.cluster.change.traffic import template_of
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    POD,
    REVISION,
    REVISION_LABEL,
    SERVICE_LABEL,
    Obj,
    is_terminating,
    is_true,
    name_of,
)


def earlier_revision(cluster: Cluster, service: str, old: str, template: Obj) -> str:
    """Return a ready revision with this template that does not serve, empty if there is none."""
    made = cluster.list(REVISION, labels={SERVICE_LABEL: service})
    ready = [one for one in made if is_true(one, "Ready") and name_of(one) != old]
    same = (name_of(one) for one in ready if not difference(template_of(one), template))
    return max(same, default="")


def in_place(cluster: Cluster, new: NewRevision, earlier: str) -> ModeForecast:
    """Return what it would do to give the traffic to an earlier revision."""
    if not earlier:
        why = (
            "no earlier revision has these settings; a revision never changes, and what "
            "config-autoscaler sets is for all Services"
        )
        return ModeForecast(IN_PLACE, False, None, why)
    pods = cluster.list(POD, labels={REVISION_LABEL: earlier})
    if any(is_true(pod, "Ready") and not is_terminating(pod) for pod in pods):
        return ModeForecast(IN_PLACE, True, 0.0, f"{earlier} is ready: it gets the traffic")
    if not new.gpus.unknown and new.gpus.places < new.pods:
        why = f"the pods of {earlier} have ended, and no GPU is free for new ones"
        return ModeForecast(IN_PLACE, False, None, why)
    start_s = measured_start_s(cluster, cluster.list(POD, labels={REVISION_LABEL: new.old}))
    why = f"{earlier} gets the traffic; requests wait while its pods start"
    return ModeForecast(IN_PLACE, True, start_s or new.cold_start_s, why)

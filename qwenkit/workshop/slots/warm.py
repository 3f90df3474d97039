"""Keep servers warm in class hours: the least replicas of the revisions that serve."""

from __future__ import annotations

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import KSVC, REVISION, annotations_of, latest_ready

_MIN_SCALE = f"{PREFIX}min-scale"


def set_min_scale(space: Cluster, replicas: int) -> None:
    """Give the serving revisions of a namespace at least so many replicas; 0: what they ask for.

    Knative passes a revision's annotations on to its autoscaler. So no new revision is made,
    which would need a second GPU to start.
    """
    for service in space.list(KSVC):
        if name := latest_ready(service):
            own = annotations_of(service["spec"]["template"]).get(_MIN_SCALE)
            least = str(max(replicas, int(own or 0))) if replicas else own
            revision = space.get(REVISION, name)
            if annotations_of(revision).get(_MIN_SCALE) != least:
                space.change_made(revision, {"metadata": {"annotations": {_MIN_SCALE: least}}})

"""The scaling settings of the revision that serves now, read from the cluster."""

from __future__ import annotations

from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.autoscaling.live_scaling import LiveScaling
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import KSVC, REVISION, latest_ready
from qwenkit.errors import Forbidden, NotReady


def live_scaling(cluster: Cluster, service: str) -> LiveScaling:
    """Return how the Service's latest ready revision scales.

    The cluster's ``config-autoscaler`` is used if it may be read, else Knative's defaults.

    Raises:
        NotFound: there is no such Service.
        NotReady: none of its revisions has become ready.

    >>> from qwenkit import Cluster, Settings, live_scaling
    >>> running = live_scaling(Cluster.connect(Settings()), Settings().service)
    >>> running.spec.total, running.spec.target
    (2.0, 1.4)
    """
    name = latest_ready(cluster.get(KSVC, service))
    if not name:
        raise NotReady(
            f"ksvc {service} has no ready revision",
            "its status names none",
            f"qwenkit explain {service} says why",
        )
    revision = cluster.get(REVISION, name)
    annotations = dict(revision["metadata"].get("annotations") or {})
    config = autoscaler_config(cluster)
    spec = parse_spec(
        annotations,
        container_concurrency=int(revision["spec"].get("containerConcurrency") or 0),
        config=config,
        strict=False,  # the webhook has accepted it
    )
    return LiveScaling(name, annotations, spec, config, service)


def autoscaler_config(cluster: Cluster) -> dict[str, str]:
    """Return the data of ``config-autoscaler``, empty if it may not be read."""
    try:
        return cluster.knative_config("autoscaler")
    except Forbidden:
        return {}

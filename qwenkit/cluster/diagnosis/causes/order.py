"""The order in which causes are looked for: the first that applies is the one that is told."""

from __future__ import annotations

from collections.abc import Callable

from qwenkit.cluster.diagnosis.causes import containers, images, placement, routes, volumes
from qwenkit.cluster.diagnosis.causes.crashes import crash
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot

# In the order of a pod's life; what a container says of itself comes after what others did to it.
CAUSES: tuple[Callable[[Snapshot], Explanation | None], ...] = (
    images.unpullable,
    containers.not_started,
    volumes.no_claim,
    placement.unschedulable,
    placement.rejected,
    placement.stuck,
    placement.node_not_ready,
    placement.no_sandbox,
    volumes.not_mounted,
    containers.init_failed,
    containers.killed_by_probe,
    containers.ended_well,
    crash,
    containers.queue_proxy_failed,
    containers.wrong_port,
    placement.not_made,
    routes.not_routed,
    routes.failed,
)


def first_cause(snapshot: Snapshot) -> Explanation | None:
    """Return the finding of the first rule that applies."""
    return next((found for rule in CAUSES if (found := rule(snapshot))), None)

"""How long does a node take for its steps, in the cluster's seconds?"""

from __future__ import annotations

from dataclasses import dataclass, field

from qwenkit.sandbox.controllers.clock import Clock


@dataclass(frozen=True)
class NodeTiming:
    """Seconds, as recorded on a real node, by the node's clock; that may run faster."""

    accept_s: float = 0.04
    """From bound to the first status."""
    mount_s: float = 0.3
    """To mount the volumes, if they are all right."""
    sandbox_s: float = 0.1
    """To create the pod's sandbox and network."""
    pull_s: float = 0.0
    """To pull an image that the node does not have; 0: it has them all."""
    create_s: float = 0.02
    start_s: float = 0.08
    load_s: float = 45.0
    """From the server's start until it listens, most of it to read 9 GB: ``engine/start.py``."""
    drain_s: float = 30.0
    """Without a request before a queue-proxy lets its pod stop."""
    remove_s: float = 0.8
    """From stopped containers until the pod is gone."""
    sync_s: float = 1.0
    """Until the kubelet notices that a container has ended."""
    resync_s: float = 11.0
    """Between two checks of a pod whose container backs off."""
    crash_backoff_s: float = 10.0
    crash_backoff_max_s: float = 300.0
    mount_timeout_s: float = 120.0
    """The limit for one try of a driver to mount a volume."""
    mount_backoff_s: float = 0.5
    mount_backoff_max_s: float = 122.0
    pull_backoff_s: float = 10.0
    probe_s: float = 1.0
    """One second of a probe's period and delay."""
    clock: Clock = field(default_factory=Clock)

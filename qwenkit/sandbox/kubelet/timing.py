"""How long a node takes for its steps, in the cluster's seconds."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class NodeTiming:
    """Seconds, as recorded on a real node; the model's load is computed from its size.

    ``scaled`` divides all of them by the sandbox's time scale.
    """

    accept_s: float = 0.04
    """From bound to the first status."""
    mount_s: float = 0.3
    """Of the volumes, where nothing is wrong with them."""
    sandbox_s: float = 0.1
    """Until the pod's sandbox and network are there."""
    pull_s: float = 0.0
    """Of an image that the node has not got; 0: all are present."""
    create_s: float = 0.02
    start_s: float = 0.08
    load_s: float = 45.0
    """From the server's start until it listens: 9 GB at 200 MB/s."""
    drain_s: float = 30.0
    """A queue-proxy's quiet time before it lets its pod stop."""
    remove_s: float = 0.8
    """From stopped containers until the pod is gone."""
    sync_s: float = 1.0
    """Until the kubelet has noticed that a container ended."""
    resync_s: float = 11.0
    """Between two looks at a pod whose container backs off."""
    crash_backoff_s: float = 10.0
    crash_backoff_max_s: float = 300.0
    mount_timeout_s: float = 120.0
    """That the kubelet gives a driver for one try to mount a volume."""
    mount_backoff_s: float = 0.5
    mount_backoff_max_s: float = 122.0
    pull_backoff_s: float = 10.0
    probe_s: float = 1.0
    """One second of a probe's period and delay."""

    def scaled(self, time_scale: float) -> NodeTiming:
        """Return these times on the wall clock."""
        values = {one.name: getattr(self, one.name) / time_scale for one in fields(self)}
        return NodeTiming(**values)

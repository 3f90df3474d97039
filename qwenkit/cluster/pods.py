"""Read pods, nodes and conditions: small questions, answered from plain objects."""

from __future__ import annotations

from qwenkit.cluster.kinds import GPU_RESOURCE, Obj, condition, is_going, is_true

QUEUE_PROXY = "queue-proxy"


def containers(pod: Obj) -> list[Obj]:
    """Return the states of a pod's own containers, the queue-proxy left out."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return [status for status in statuses if status.get("name") != QUEUE_PROXY]


def is_current(obj: Obj) -> bool:
    """Tell whether the status is about the newest spec.

    Right after a patch the old status still says Ready: only ``observedGeneration`` tells.
    """
    return bool(
        obj.get("status", {}).get("observedGeneration") == obj["metadata"].get("generation")
    )


def pod_state(pod: Obj) -> str:
    """Return a pod's state in a few words, as kubectl's STATUS column would."""
    if is_going(pod):
        return "Terminating"
    if is_true(pod, "Ready"):
        return "Ready"
    waiting = [
        s["state"]["waiting"] for s in containers(pod) if "waiting" in (s.get("state") or {})
    ]
    reason = next((str(w.get("reason")) for w in waiting if w.get("reason")), "")
    ended = [
        s["state"]["terminated"] for s in containers(pod) if "terminated" in (s.get("state") or {})
    ]
    if reason or ended:
        return reason or str(ended[0].get("reason") or "Error")
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("reason") or "Unschedulable")
    phase = str(pod.get("status", {}).get("phase") or "Pending")
    return "Running, not ready" if phase == "Running" else phase


def unplaced(pod: Obj) -> str:
    """Return the scheduler's reason why no node takes the pod, empty if one has it."""
    scheduled = condition(pod, "PodScheduled")
    return str(scheduled.get("message") or "") if scheduled.get("status") == "False" else ""


def waiting_reasons(pod: Obj) -> dict[str, str]:
    """Return why containers wait: reason to message."""
    states = [(s.get("state") or {}).get("waiting") or {} for s in containers(pod)]
    return {str(w["reason"]): str(w.get("message") or "") for w in states if w.get("reason")}


def restarts(pod: Obj) -> int:
    """Return how often the pod's own containers were restarted."""
    return max((int(s.get("restartCount") or 0) for s in containers(pod)), default=0)


def gpus_of(node: Obj) -> int:
    """Return how many GPUs a node can hand out."""
    return int(node.get("status", {}).get("allocatable", {}).get(GPU_RESOURCE) or 0)


def gpus_wanted(spec: Obj) -> int:
    """Return how many GPUs a pod spec asks for."""
    limits = [(c.get("resources") or {}).get("limits") or {} for c in spec.get("containers") or []]
    return sum(int(limit.get(GPU_RESOURCE) or 0) for limit in limits)

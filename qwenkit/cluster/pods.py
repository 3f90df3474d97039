"""The state of a pod and the GPUs of a node, read from plain objects."""

from __future__ import annotations

from qwenkit.cluster.kinds import (
    GPU_RESOURCE,
    Obj,
    condition,
    is_false,
    is_terminating,
    is_true,
    labels_of,
)

# Of ACK, and of NVIDIA's GPU feature discovery.
GPU_LABELS = ("aliyun.accelerator/nvidia_name", "nvidia.com/gpu.product")
QUEUE_PROXY = "queue-proxy"


def containers(pod: Obj) -> list[Obj]:
    """Return the statuses of a pod's own containers, without the queue-proxy."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return [status for status in statuses if status.get("name") != QUEUE_PROXY]


def claim_names(spec: Obj) -> list[str]:
    """Return the names of the PVCs that a pod spec mounts."""
    claims = [volume.get("persistentVolumeClaim") or {} for volume in spec.get("volumes") or []]
    return [str(claim["claimName"]) for claim in claims if claim.get("claimName")]


def user_port(pod: Obj) -> int:
    """Return the port of the pod's own container, 0 if it names none."""
    own = [c for c in pod.get("spec", {}).get("containers") or [] if c.get("name") != QUEUE_PROXY]
    ports = [port for container in own for port in container.get("ports") or []]
    return int(ports[0].get("containerPort") or 0) if ports else 0


def serving_container(pod: Obj) -> Obj:
    """Return the status of the container that serves: the one with a port, else the first."""
    specs = pod.get("spec", {}).get("containers") or []
    ported = {spec.get("name") for spec in specs if spec.get("ports")}
    own = containers(pod)
    return next((each for each in own if each.get("name") in ported), own[0] if own else {})


def states(pod: Obj) -> list[Obj]:
    """Return the current state of each of the pod's own containers."""
    return [status.get("state") or {} for status in containers(pod)]


def has_run(pod: Obj) -> bool:
    """Return whether one of its own containers was ever started: sandbox and volumes are there."""
    started = {"running", "terminated"}
    return any(
        started & {*(status.get("state") or {}), *(status.get("lastState") or {})}
        for status in containers(pod)
    )


def is_current(obj: Obj) -> bool:
    """Return whether the status is about the newest spec.

    Right after a patch the old status is still Ready; only ``observedGeneration`` shows it.
    """
    return bool(
        obj.get("status", {}).get("observedGeneration") == obj["metadata"].get("generation")
    )


def pod_state(pod: Obj) -> str:
    """Return a pod's state in a few words, as kubectl's STATUS column would."""
    if is_terminating(pod):
        return "Terminating"
    if is_true(pod, "Ready"):
        return "Ready"
    reason = next(iter(waiting_reasons(pod)), "")
    ended = [s for s in states(pod) if "terminated" in s]
    if reason or ended:
        return reason or str(ended[0]["terminated"].get("reason") or "Error")
    if is_false(pod, "PodScheduled"):
        return str(condition(pod, "PodScheduled").get("reason") or "Unschedulable")
    phase = str(pod.get("status", {}).get("phase") or "Pending")
    return "Running, not ready" if phase == "Running" else phase


def unschedulable(pod: Obj) -> str:
    """Return the scheduler's message why no node can run the pod, empty if one can."""
    is_pending = is_false(pod, "PodScheduled")
    return str(condition(pod, "PodScheduled").get("message") or "") if is_pending else ""


def waiting_reasons(pod: Obj) -> dict[str, str]:
    """Return why containers wait: reason to message."""
    waiting = [state.get("waiting") or {} for state in states(pod)]
    return {str(w["reason"]): str(w.get("message") or "") for w in waiting if w.get("reason")}


def is_serving(pod: Obj) -> bool:
    """Return whether a pod is Ready and not being deleted."""
    return is_true(pod, "Ready") and not is_terminating(pod)


def restarts(pod: Obj) -> int:
    """Return how often one of the pod's own containers was restarted, at most."""
    return max((int(s.get("restartCount") or 0) for s in containers(pod)), default=0)


def gpu_label(node: Obj) -> str:
    """Return the GPU model that a node's labels name, empty if none does."""
    labels = labels_of(node)
    return next((labels[key] for key in GPU_LABELS if labels.get(key)), "")


def gpus_of(node: Obj, resource: str = GPU_RESOURCE) -> int:
    """Return how many GPUs a node can allocate."""
    return _number((node.get("status", {}).get("allocatable") or {}).get(resource))


def gpus_wanted(spec: Obj, resource: str = GPU_RESOURCE) -> int:
    """Return how many GPUs a pod spec requests."""
    limits = [(c.get("resources") or {}).get("limits") or {} for c in spec.get("containers") or []]
    return sum(_number(limit.get(resource)) for limit in limits)


def _number(text: object) -> int:
    """Return a count of devices, 0 for what is none."""
    return int(str(text)) if str(text).isdecimal() else 0


def node_of(pod: Obj) -> str:
    """Return the node whose resources a pod holds: from when it is scheduled until it has ended."""
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return "" if ended else str((pod.get("spec") or {}).get("nodeName") or "")

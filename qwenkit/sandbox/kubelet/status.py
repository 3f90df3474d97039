"""What status does a kubelet write of a pod? Pure: containers in, status out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwenkit.sandbox.kube.objects import Object

_MILLI, _UNLIMITED = "m", "9007199254740988Ki"


@dataclass
class ContainerState:
    """The state of a container, as its pod's status shows it."""

    spec: Mapping[str, Any]
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Object = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    image_id: str = ""
    container_id: str = ""

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.spec["name"])


@dataclass(frozen=True)
class PodFacts:
    """The facts about a pod that its status shows."""

    generation: int
    host_ip: str
    pod_ip: str | None
    start_time: str
    sandbox_ready: bool
    containers: Sequence[ContainerState]
    stopped: bool
    """All containers have ended for good."""


def pod_status(old: Mapping[str, Any], facts: PodFacts, now: str) -> Object:
    """Return a pod's status; it keeps the conditions of others and those that did not change."""
    specs = [one.spec for one in facts.containers]
    resources = _resources(specs)
    status: Object = {
        "observedGeneration": facts.generation,
        "phase": _phase(facts),
        "conditions": _conditions(old.get("conditions", []), facts, now),
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
    }
    if facts.pod_ip:
        status |= {"podIP": facts.pod_ip, "podIPs": [{"ip": facts.pod_ip}]}
    status |= {
        "startTime": facts.start_time,
        "containerStatuses": [
            _container(one) for one in sorted(facts.containers, key=lambda one: one.name)
        ],
        "qosClass": old.get("qosClass", "BestEffort"),
    }
    if requests := resources.get("requests"):
        status["allocatedResources"] = requests
    if old.get("phase") != "Pending":
        resources = _measured(resources, specs, stopped=facts.stopped)
    return status | ({"resources": resources} if resources else {})


def _phase(facts: PodFacts) -> str:
    if facts.stopped:
        codes = [one.state.get("terminated", {}).get("exitCode", 0) for one in facts.containers]
        return "Failed" if any(codes) else "Succeeded"
    waiting = any("waiting" in one.state and not one.container_id for one in facts.containers)
    return "Pending" if waiting else "Running"


def _conditions(old: Sequence[Object], facts: PodFacts, now: str) -> list[Object]:
    unready = [one.name for one in facts.containers if not one.ready]
    problem: Object = {}
    if facts.stopped:
        problem = {"reason": "PodFailed" if _phase(facts) == "Failed" else "PodCompleted"}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        problem = {"reason": "ContainersNotReady", "message": message}
    wanted: list[tuple[str, bool, Object]] = [
        ("PodReadyToStartContainers", facts.sandbox_ready and not facts.stopped, {}),
        ("Initialized", True, {}),
        ("Ready", not problem, problem),
        ("ContainersReady", not problem, problem),
    ]
    known = {one["type"]: one for one in old}
    made = [_condition(known, facts.generation, *each, now) for each in wanted]
    theirs = {one["type"] for one in made}
    kept = [one | {"observedGeneration": facts.generation} for one in old]
    return made + [one for one in kept if one["type"] not in theirs]


def _condition(
    known: Mapping[str, Object], generation: int, kind: str, good: bool, why: Object, now: str
) -> Object:
    status = "True" if good else "False"
    before = known.get(kind, {})
    since = before.get("lastTransitionTime", now) if before.get("status") == status else now
    return {
        "type": kind,
        "observedGeneration": generation,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since,
        **why,
    }


def _container(one: ContainerState) -> Object:
    status: Object = {
        "name": one.name,
        "state": one.state,
        "lastState": one.last_state,
        "ready": one.ready,
        "restartCount": one.restart_count,
        "image": one.spec["image"],
        "imageID": one.image_id,
    }
    if one.container_id:
        status["containerID"] = one.container_id
    status["started"] = one.started
    resources = one.spec.get("resources") or {}
    if one.container_id and resources:
        if "requests" in resources:
            status["allocatedResources"] = resources["requests"]
        status["resources"] = resources
    if mounts := one.spec.get("volumeMounts"):
        status["volumeMounts"] = [_mount(mount) for mount in mounts]
    return status


def _mount(mount: Mapping[str, Any]) -> Object:
    shown: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        shown |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return shown


def _resources(containers: Sequence[Mapping[str, Any]]) -> Object:
    """Return the sums of the containers' requests and limits."""
    total: Object = {}
    for part in ("limits", "requests"):
        sums: dict[str, str] = {}
        for container in containers:
            for name, amount in ((container.get("resources") or {}).get(part) or {}).items():
                sums[name] = _plus(sums[name], str(amount)) if name in sums else str(amount)
        if sums:
            total[part] = sums
    return total


def _measured(
    resources: Object, containers: Sequence[Mapping[str, Any]], *, stopped: bool
) -> Object:
    """Return the limits and requests of a pod's control group: no devices, a number for no limit.

    When the pod has stopped, its CPU limit is gone with the group, as recorded.
    """
    kept = {
        part: {name: amount for name, amount in amounts.items() if name in ("cpu", "memory")}
        for part, amounts in resources.items()
    }
    limits = kept.get("limits", {})
    if "memory" in limits and not all(
        "memory" in ((one.get("resources") or {}).get("limits") or {}) for one in containers
    ):
        limits["memory"] = _UNLIMITED
    if stopped:
        limits.pop("cpu", None)
    return {part: amounts for part, amounts in kept.items() if amounts}


def _plus(one: str, other: str) -> str:
    """Add two quantities of CPU; of other resources return the greater text."""
    try:
        return f"{_milli(one) + _milli(other)}{_MILLI}"
    except ValueError:
        return max(one, other)


def _milli(amount: str) -> int:
    return int(amount[:-1]) if amount.endswith(_MILLI) else round(float(amount) * 1000)

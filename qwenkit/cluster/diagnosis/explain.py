"""Why a Service is not ready: one cause, the evidence, one fix."""

from __future__ import annotations

from qwenkit.admission.config_maps import PVC_FLAG, ClusterConfigMaps
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes.order import first_cause
from qwenkit.cluster.diagnosis.causes.volumes import flag_off
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.progress import starting
from qwenkit.cluster.diagnosis.reading import collect
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.kinds import Obj, is_false, is_terminating, is_true, name_of
from qwenkit.cluster.pods import is_current, pod_state


def explain(cluster: Cluster, service: str) -> Explanation:
    """Explain the state of a Service."""
    return diagnose(collect(cluster, service), f"namespace {cluster.namespace}")


def diagnose(snapshot: Snapshot, where: str = "this bundle") -> Explanation:
    """Return the first cause that applies; if none does, ``ready``, ``starting`` or ``unknown``."""
    service = snapshot.name
    if snapshot.service is None:
        features = snapshot.config("features")
        if features and not ClusterConfigMaps(features).enabled(PVC_FLAG):
            return flag_off(service)
        cause = f"ksvc {service} does not exist in {where}"
        return Explanation("absent", cause, fix="check the name; qwenkit deploy makes it")
    if is_terminating(snapshot.service):
        held = ", ".join(map(str, snapshot.service["metadata"].get("finalizers") or []))
        found = Explanation("deleting", f"ksvc {service} is being deleted", fix="deploy it again")
        return found.shown_by(f"finalizers: {held}" if held else "")
    return _ready(snapshot, snapshot.service) or first_cause(snapshot) or starting(snapshot)


def _ready(snapshot: Snapshot, service: Obj) -> Explanation | None:
    """Return that nothing is wrong; a Service that wakes is not Ready before one of its pods is."""
    pods = snapshot.living()
    if not (is_current(service) and is_true(service, "Ready")):
        return None
    if pods and not any(is_true(pod, "Ready") for pod in pods):
        return first_cause(snapshot)
    idle = not pods and is_false(snapshot.revision or {}, "Active")
    note = "scaled to zero: the next request waits for a cold start" if idle else ""
    others = [f"pod {name_of(pod)}: {pod_state(pod)}" for pod in pods if not is_true(pod, "Ready")]
    why = first_cause(snapshot) if others else None
    held = [f"{why.cause}: {why.fix}", *why.evidence[:1]] if why else []
    found = Explanation("ready", f"ksvc {snapshot.name} is ready", permanent=False)
    return found.shown_by(note, *others, *held)

"""Why a Service is not ready: one cause, the evidence, one fix."""

from __future__ import annotations

from qwenkit.admission.config_maps import PVC_FLAG, ClusterConfigMaps
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes import first_cause
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.pvc import flag_off
from qwenkit.cluster.diagnosis.reading import collect
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.kinds import Obj, condition, is_false, name_of
from qwenkit.cluster.pods import is_current, pod_state


def explain(cluster: Cluster, service: str) -> Explanation:
    """Explain the state of a Service."""
    return diagnose(collect(cluster, service), f"namespace {cluster.namespace}")


def diagnose(snapshot: Snapshot, where: str = "this bundle") -> Explanation:
    """Return the first cause that applies; if none does, ``ready`` or ``starting``."""
    service = snapshot.name
    if snapshot.service is None:
        if snapshot.features and not ClusterConfigMaps(snapshot.features).enabled(PVC_FLAG):
            return flag_off(service)
        cause = f"ksvc {service} does not exist in {where}"
        return Explanation("absent", cause, fix="qwenkit deploy")
    return first_cause(snapshot) or _progress(snapshot, snapshot.service)


def _progress(snapshot: Snapshot, obj: Obj) -> Explanation:
    ready = condition(obj, "Ready")
    if is_current(obj) and ready.get("status") == "True":
        scaled_to_zero = is_false(snapshot.revision or {}, "Active")
        note = "scaled to zero: the next request waits for a cold start" if scaled_to_zero else ""
        return Explanation("ready", f"ksvc {snapshot.name} is ready", permanent=False).shown_by(
            note
        )
    return Explanation(
        "starting",
        f"ksvc {snapshot.name} is still starting",
        fix="wait; a large image or model takes minutes",
        permanent=False,
    ).shown_by(
        f"{ready.get('reason') or 'not reconciled'}: {ready.get('message') or ''}",
        *(f"pod {name_of(pod)}: {pod_state(pod)}" for pod in snapshot.living()[:1]),
        *snapshot.last_lines(2),
    )

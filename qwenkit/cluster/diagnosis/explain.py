"""Why a Service is not ready: one cause, the evidence, one fix."""

from __future__ import annotations

from qwenkit.cluster.api_errors import fix_for
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.causes import CAUSES
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot, collect
from qwenkit.cluster.kinds import condition, is_false, name_of
from qwenkit.cluster.pods import is_current, pod_state
from qwenkit.settings import Settings

_PVC_FLAG = "kubernetes.podspec-persistent-volume-claim"


def explain(cluster: Cluster, settings: Settings, name: str | None = None) -> Explanation:
    """Explain the state of a Service, default the one that ``settings`` name."""
    service = name or settings.service
    return diagnose(
        collect(cluster, name=service, namespace=settings.namespace), service, settings.namespace
    )


def diagnose(snapshot: Snapshot, name: str, namespace: str) -> Explanation:
    """Return the first rule's finding; there is always one, ``ready`` at best."""
    if snapshot.service is None:
        return _absent(snapshot, name, namespace)
    found = next((e for rule in CAUSES if (e := rule(snapshot))), None)
    return found or _progress(snapshot, name)


def _absent(snapshot: Snapshot, name: str, namespace: str) -> Explanation:
    if snapshot.features and snapshot.features.get(_PVC_FLAG, "disabled") == "disabled":
        return Explanation(
            "pvc-flag",
            f"ksvc {name} does not exist, and Knative would refuse one that mounts a PVC",
            (f"configmap config-features: {_PVC_FLAG} is not enabled",),
            fix_for("Persistent volume claim support is disabled"),
        )
    return Explanation(
        "absent", f"ksvc {name} does not exist in namespace {namespace}", (), "qwenkit deploy"
    )


def _progress(snapshot: Snapshot, name: str) -> Explanation:
    service = snapshot.service or {}
    ready = condition(service, "Ready")
    if is_current(service) and ready.get("status") == "True":
        asleep = is_false(snapshot.revision or {}, "Active")
        note = "scaled to zero: the next request waits for a cold start" if asleep else ""
        return Explanation(
            "ready", f"ksvc {name} is ready", (note,) if note else (), permanent=False
        )
    evidence = [f"{ready.get('reason') or 'not reconciled'}: {ready.get('message') or ''}"]
    evidence += [f"pod {name_of(pod)}: {pod_state(pod)}" for pod in snapshot.living()[:1]]
    return Explanation(
        "starting",
        f"ksvc {name} is still starting",
        (*evidence, *snapshot.logs.splitlines()[-2:]),
        "wait; a large image or model takes minutes",
        permanent=False,
    )

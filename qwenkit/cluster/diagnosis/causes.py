"""The known causes of a Service that does not become ready, as rules over a snapshot.

``CAUSES`` is the table, most telling first. A rule that does not apply returns None.
``permanent`` says whether waiting longer is useless: a GPU that an ending pod still holds comes
free, an image that does not exist never appears.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from qwenkit.cluster.diagnosis.crashes import CRASH_BUDGET, crash
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot, claim_names, event_count
from qwenkit.cluster.kinds import GPU_RESOURCE, Obj, condition, name_of
from qwenkit.cluster.pods import (
    containers,
    gpus_of,
    gpus_wanted,
    is_current,
    unplaced,
    waiting_reasons,
)


def _image(snapshot: Snapshot) -> Explanation | None:
    ready = condition(snapshot.revision or {}, "Ready")
    message = str(ready.get("message") or "")
    waiting = _waiting(snapshot, "ErrImagePull", "ImagePullBackOff", "InvalidImageName")
    if "Unable to fetch image" not in message and not waiting:
        return None
    images = [c.get("image", "") for c in snapshot.template().get("containers") or []]
    return Explanation(
        "image",
        f"the image {', '.join(images)} cannot be pulled",
        _said(message, *waiting, *_messages(snapshot, "Failed")),
        "check the image's name and tag, and that the nodes and Knative's controller reach the "
        "registry; a private one needs imagePullSecrets",
    )


def _configuration(snapshot: Snapshot) -> Explanation | None:
    waiting = _waiting(
        snapshot, "CreateContainerConfigError", "CreateContainerError", "RunContainerError"
    )
    if not waiting:
        return None
    return Explanation(
        "config",
        "the container cannot be created as it is configured",
        _said(*waiting, *_messages(snapshot, "Failed")),
        "create the Secret or ConfigMap that it names, or correct its command",
    )


def _claim(snapshot: Snapshot) -> Explanation | None:
    message = _unschedulable(snapshot)
    absent = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if absent:
        return Explanation(
            "pvc-missing",
            f"the PVC {absent[1]} does not exist",
            _said(message),
            "qwenkit deploy creates it; by hand, apply the PV and PVC before the Service",
        )
    wanted = claim_names(snapshot.service or {})
    unbound = [c for c in snapshot.claims if c.get("status", {}).get("phase") != "Bound"]
    if not unbound or not wanted:
        return None
    return unbound_claim(unbound[0], snapshot)


def unbound_claim(claim: Obj, snapshot: Snapshot) -> Explanation:
    """Explain a PVC that is not Bound."""
    phase = claim.get("status", {}).get("phase") or "Pending"
    volume = str(claim["spec"].get("volumeName") or "")
    held = next((v for v in snapshot.volumes if name_of(v) == volume), None)
    evidence = [f"pvc {name_of(claim)}: {phase}", *_messages(snapshot, "ProvisioningFailed")]
    if held is not None:
        other = held["spec"].get("claimRef") or {}
        evidence.append(
            f"pv {volume}: {held.get('status', {}).get('phase')}, "
            f"claimed by {other.get('namespace')}/{other.get('name')}"
        )
        released = held.get("status", {}).get("phase") == "Released"
        fix = "qwenkit teardown, then deploy: a PV that was released is not bound again"
        return Explanation(
            "pvc-unbound", f"the PVC {name_of(claim)} is {phase}", tuple(evidence), fix, released
        )
    fix = f"create the PV {volume or 'that it needs'}: qwenkit deploy does"
    return Explanation(
        "pvc-unbound", f"the PVC {name_of(claim)} is {phase}", tuple(evidence), fix, phase == "Lost"
    )


def _gpu(snapshot: Snapshot) -> Explanation | None:
    message = _unschedulable(snapshot)
    if f"Insufficient {GPU_RESOURCE}" not in message:
        return None
    wanted = gpus_wanted(snapshot.template())
    most = max((gpus_of(node) for node in snapshot.nodes), default=None)
    never = most is not None and wanted > most
    have = "" if most is None else f"a replica wants {wanted} GPUs, the largest node has {most}"
    if most == 0:
        fix = (
            "are the driver and the device plugin healthy? kubectl describe node shows "
            f"{GPU_RESOURCE} under Capacity and Allocatable; else add a node with GPUs"
        )
    elif never:
        fix = f"ask for fewer (--set gpu_count={most}) or add nodes with GPUs"
    else:
        fix = "wait until a pod that is ending gives its GPU back, lower max_scale, or add a node"
    return Explanation(
        "no-gpu", "no node has enough free GPUs", _said(message, have), fix, permanent=never
    )


def _scheduling(snapshot: Snapshot) -> Explanation | None:
    message = _unschedulable(snapshot)
    if not message:
        return None
    return Explanation(
        "unschedulable",
        "no node takes the pod",
        _said(message),
        "lower cpu_request or memory_request, or add a node; a taint needs a toleration",
        permanent=False,
    )


def _quota(snapshot: Snapshot) -> Explanation | None:
    refused = [m for m in _messages(snapshot, "FailedCreate") if m]
    message = str(condition(snapshot.revision or {}, "ResourcesAvailable").get("message") or "")
    refused += [message] if "exceeded quota" in message else []
    if not refused:
        return None
    return Explanation(
        "quota",
        "the namespace's rules refuse the pod",
        _said(*refused),
        "kubectl describe quota,limitrange; free or raise what is used up",
    )


def _mount(snapshot: Snapshot) -> Explanation | None:
    states = [s.get("state") or {} for pod in snapshot.living() for s in containers(pod)]
    if not snapshot.living() or any("running" in state for state in states):
        return None
    events = [*snapshot.events_of("FailedMount"), *snapshot.events_of("FailedAttachVolume")]
    if not events:
        return None
    messages = [str(event.get("message") or "") for event in events]
    refused = re.compile(
        r"AccessDenied|NoSuchBucket|SignatureDoesNotMatch|InvalidAccessKeyId|missing access key"
        r"|not found|\b40[34]\b|invalid",
        re.IGNORECASE,
    )
    tried = max(event_count(event) for event in events)
    cause = "the volume with the weights cannot be mounted"
    fix = (
        "check the Secret's keys, the bucket, the path and oss_internal_endpoint in the PV; "
        "qwenkit doctor tries the bucket"
    )
    if all("DeadlineExceeded" in message for message in messages):
        cause = "the volume with the weights takes longer to mount than a node waits for one try"
        fix = (
            "it is tried again; do the nodes reach oss_internal_endpoint (region, VPC)? "
            "kubectl logs of the OSS CSI plugin on the pod's node says more"
        )
    return Explanation(
        "mount",
        cause,
        _said(*messages[:2]),
        fix,
        permanent=tried > CRASH_BUDGET or any(refused.search(m) for m in messages),
    )


def _deadline(snapshot: Snapshot) -> Explanation | None:
    failed = next(
        (
            c
            for name in ("Ready", "ResourcesAvailable")
            if (c := condition(snapshot.revision or {}, name)).get("status") == "False"
            and c.get("reason") == "ProgressDeadlineExceeded"
        ),
        None,
    )
    if failed is None:
        return None
    probes = _messages(snapshot, "Unhealthy")
    if probes:
        return Explanation(
            "never-ready",
            "the container runs, but its readiness probe never passed before the deadline",
            _said(str(failed.get("message") or ""), probes[0], *snapshot.logs.splitlines()[-2:]),
            "does the server listen on the container's port? If it was still loading, raise "
            "progress_deadline",
        )
    return Explanation(
        "deadline",
        "the revision took longer than its progress deadline",
        _said(str(failed.get("message") or "")),
        "raise progress_deadline: image pull, volume mount and model load must all fit",
    )


def _failed(snapshot: Snapshot) -> Explanation | None:
    revision = condition(snapshot.revision or {}, "Ready")
    if revision.get("reason") == "Unschedulable":
        # All pods are placed, or a rule above had spoken: Knative has not looked again yet.
        return None
    for obj in (snapshot.revision, snapshot.service):
        ready = condition(obj or {}, "Ready")
        if obj and is_current(obj) and ready.get("status") == "False":
            kind = str(obj["kind"]).lower()
            return Explanation(
                "failed",
                f"{kind} {name_of(obj)} failed: {ready.get('reason')}",
                _said(str(ready.get("message") or "")),
                f"kubectl describe {kind} {name_of(obj)}",
            )
    return None


def _said(*texts: str) -> tuple[str, ...]:
    """Return the texts that say something, each once, on one line."""
    return tuple(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))


def _waiting(snapshot: Snapshot, *reasons: str) -> list[str]:
    found: dict[str, str] = {}
    for pod in snapshot.living():
        found |= waiting_reasons(pod)
    return [f"{reason}: {found[reason]}" for reason in reasons if reason in found]


def _messages(snapshot: Snapshot, reason: str) -> list[str]:
    return [str(event.get("message") or "") for event in snapshot.events_of(reason)]


def _unschedulable(snapshot: Snapshot) -> str:
    """Return the scheduler's message about a pod, empty if all are placed."""
    return next(filter(None, map(unplaced, snapshot.living())), "")


CAUSES: tuple[Callable[[Snapshot], Explanation | None], ...] = (
    _image,
    _configuration,
    _claim,
    _gpu,
    _scheduling,
    _quota,
    _mount,
    crash,
    _deadline,
    _failed,
)

"""The known causes of a Service that does not become ready, as rules over a snapshot.

``CAUSES`` is the table; the first rule that applies wins. A rule that does not apply returns None.
``permanent`` means that waiting longer is useless: a GPU that a terminating pod holds becomes
free, an image that does not exist never appears.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from qwenkit.cluster.diagnosis.crashes import CRASH_BUDGET, crash
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.pvc import missing_or_unbound
from qwenkit.cluster.diagnosis.snapshot import Snapshot, event_count
from qwenkit.cluster.diagnosis.waiting_reasons import CONFIG, IMAGE, MOUNT, reasons_of
from qwenkit.cluster.kinds import GPU_RESOURCE, condition, name_of
from qwenkit.cluster.pods import gpus_of, gpus_wanted, is_current, states


def first_cause(snapshot: Snapshot) -> Explanation | None:
    """Return the finding of the first rule that applies."""
    return next((found for rule in CAUSES if (found := rule(snapshot))), None)


def _image(snapshot: Snapshot) -> Explanation | None:
    message = str(condition(snapshot.revision or {}, "Ready").get("message") or "")
    waiting = snapshot.waiting(reasons_of(IMAGE))
    if "Unable to fetch image" not in message and not waiting:
        return None
    images = [c.get("image", "") for c in snapshot.template().get("containers") or []]
    found = replace(IMAGE, cause=f"the image {', '.join(images)} cannot be pulled")
    return found.shown_by(message, *waiting, *snapshot.messages("Failed"))


def _configuration(snapshot: Snapshot) -> Explanation | None:
    waiting = snapshot.waiting(reasons_of(CONFIG))
    return CONFIG.shown_by(*waiting, *snapshot.messages("Failed")) if waiting else None


def _elsewhere(snapshot: Snapshot) -> Explanation | None:
    message = snapshot.unschedulable()
    if not re.search("volume node affinity conflict|PersistentVolume's node affinity", message):
        return None
    return Explanation(
        "volume-elsewhere",
        "the volume is on a node, or in a zone, where the pod cannot run",
        fix="the upload's Job decided where: qwenkit teardown --delete-weights, then "
        "--set node_selector=… to the nodes of the servers, and upload again",
        permanent=False,
    ).shown_by(message)


def _gpu(snapshot: Snapshot) -> Explanation | None:
    message = snapshot.unschedulable()
    if f"Insufficient {GPU_RESOURCE}" not in message:
        return None
    wanted = gpus_wanted(snapshot.template())
    most = max(map(gpus_of, snapshot.nodes), default=None)
    never = most is not None and wanted > most
    have = "" if most is None else f"a replica needs {wanted} GPUs, the largest node has {most}"
    if most == 0:
        fix = (
            "are the driver and the device plugin healthy? kubectl describe node shows "
            f"{GPU_RESOURCE} under Capacity and Allocatable; else add a node with GPUs"
        )
    elif never:
        fix = f"request fewer (--set gpu_count={most}) or add nodes with GPUs"
    else:
        fix = "wait until a terminating pod frees its GPU, lower max_scale, or add a node"
    cause = "no node has enough free GPUs"
    return Explanation("no-gpu", cause, fix=fix, permanent=never).shown_by(message, have)


def _scheduling(snapshot: Snapshot) -> Explanation | None:
    message = snapshot.unschedulable()
    if not message:
        return None
    return Explanation(
        "unschedulable",
        "no node can run the pod",
        fix="lower cpu_request or memory_request, or add a node; a taint needs a toleration",
        permanent=False,
    ).shown_by(message)


def _quota(snapshot: Snapshot) -> Explanation | None:
    refusals = list(filter(None, snapshot.messages("FailedCreate")))
    message = str(condition(snapshot.revision or {}, "ResourcesAvailable").get("message") or "")
    refusals += [message] if "exceeded quota" in message else []
    if not refusals:
        return None
    return Explanation(
        "quota",
        "a quota or limit of the namespace refuses the pod",
        fix="kubectl describe quota,limitrange; free or raise what is used up",
    ).shown_by(*refusals)


_MOUNT_REFUSED = re.compile(
    r"AccessDenied|NoSuchBucket|SignatureDoesNotMatch|InvalidAccessKeyId|missing access key"
    r"|not found|\b40[34]\b|invalid",
    re.IGNORECASE,
)


def _mount(snapshot: Snapshot) -> Explanation | None:
    pods = snapshot.living()
    if not pods or any("running" in state for pod in pods for state in states(pod)):
        return None
    events = [event for reason in reasons_of(MOUNT) for event in snapshot.events_of(reason)]
    if not events:
        return None
    messages = [str(event.get("message") or "") for event in events]
    tried_often = max(map(event_count, events)) > CRASH_BUDGET
    refused = any(_MOUNT_REFUSED.search(message) for message in messages)
    found = replace(MOUNT, permanent=tried_often or refused)
    if all("DeadlineExceeded" in message for message in messages):
        found = replace(
            found,
            cause="mounting the volume with the weights takes longer than one try may",
            fix="the kubelet tries again; do the nodes reach oss_internal_endpoint (region, VPC)? "
            "the log of the OSS CSI plugin on the pod's node has details",
        )
    return found.shown_by(*messages[:2])


def _deadline(snapshot: Snapshot) -> Explanation | None:
    conditions = [condition(snapshot.revision or {}, n) for n in ("Ready", "ResourcesAvailable")]
    late = [c for c in conditions if c.get("status") == "False"]
    late = [c for c in late if c.get("reason") == "ProgressDeadlineExceeded"]
    if not late:
        return None
    message = str(late[0].get("message") or "")
    probes = snapshot.messages("Unhealthy")
    if probes:
        return Explanation(
            "never-ready",
            "the container runs, but its readiness probe never passed before the deadline",
            fix="does the server listen on the container's port? If it was still loading, raise "
            "progress_deadline",
        ).shown_by(message, probes[0], *snapshot.last_lines(2))
    return Explanation(
        "deadline",
        "the revision took longer than its progress deadline",
        fix="raise progress_deadline: image pull, volume mount and model load must all fit",
    ).shown_by(message)


def _failed(snapshot: Snapshot) -> Explanation | None:
    revision = condition(snapshot.revision or {}, "Ready")
    why = condition(snapshot.service or {}, "Ready").get("reason")
    recovered = revision.get("status") in ("Unknown", "True")
    if revision.get("reason") == "Unschedulable" or (
        recovered and why in ("RevisionFailed", "RevisionMissing")
    ):
        # The pods are scheduled, or a rule above would have applied: the condition is out of date.
        return None
    for obj in (snapshot.revision, snapshot.service):
        ready = condition(obj or {}, "Ready")
        if obj and is_current(obj) and ready.get("status") == "False":
            kind = str(obj["kind"]).lower()
            return Explanation(
                "failed",
                f"{kind} {name_of(obj)} failed: {ready.get('reason')}",
                fix=f"kubectl describe {kind} {name_of(obj)}",
            ).shown_by(str(ready.get("message") or ""))
    return None


CAUSES: tuple[Callable[[Snapshot], Explanation | None], ...] = (
    _image,
    _configuration,
    missing_or_unbound,
    _elsewhere,
    _gpu,
    _scheduling,
    _quota,
    _mount,
    crash,
    _deadline,
    _failed,
)

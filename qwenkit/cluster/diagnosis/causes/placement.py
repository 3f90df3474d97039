"""Why a pod is not made, has no node, or was turned away by its node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from qwenkit.cluster.diagnosis.causes.rows import failures, first_row, reason_and_message, rows_of
from qwenkit.cluster.diagnosis.explanation import CRASH_BUDGET, Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot, event_time
from qwenkit.cluster.kinds import (
    DEPLOYMENT,
    GPU_RESOURCE,
    NODE,
    REPLICA_SET,
    Obj,
    condition,
    is_true,
    name_of,
)
from qwenkit.cluster.pods import gpus_of, gpus_wanted, has_run

_ENDS_S = 60
_REFUSED = re.compile(r"FailedCreate|forbidden|exceeded quota|creation failed|failed to create")


def not_made(snapshot: Snapshot) -> Explanation | None:
    """Explain pods that the cluster refuses to make."""
    events = snapshot.events_of("FailedCreate")
    pods = [str(pod["metadata"].get("creationTimestamp") or "") for pod in snapshot.living()]
    if pods and (not events or event_time(events[0]) <= max(pods)):
        return None
    made_by = (obj for kind in (DEPLOYMENT, REPLICA_SET) for obj in snapshot.of(kind))
    said = [reason_and_message(condition(obj, "ReplicaFailure")) for obj in made_by]
    said += [text for text in failures(snapshot) if _REFUSED.search(text)]
    return first_row("refused", [*snapshot.messages("FailedCreate"), *said])


def rejected(snapshot: Snapshot, *, few: int = CRASH_BUDGET) -> Explanation | None:
    """Explain pods that ended before they served: a node turned them away, or was lost.

    Where a new pod has taken their place, it takes ``few`` of them.
    """
    ended = [pod for pod in snapshot.pods if _why_ended(pod)]
    others = [pod for pod in snapshot.living() if pod not in ended]
    if not ended or (others and len(ended) < few):
        return None
    newest = max(ended, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
    found = first_row("rejected", [f"pod {name_of(newest)}: {_why_ended(newest)}"])
    # Once is no fate: the next pod may find another node.
    return found and replace(found, permanent=found.permanent and len(ended) >= CRASH_BUDGET)


def _why_ended(pod: Obj) -> str:
    """Return why a pod as a whole ended or is lost, empty if it did not or was not."""
    status = pod.get("status") or {}
    why = status if status.get("reason") else condition(pod, "DisruptionTarget")
    is_over = status.get("phase") in ("Failed", "Unknown") or status.get("reason") == "NodeLost"
    return reason_and_message(why) if is_over else ""


def node_not_ready(snapshot: Snapshot) -> Explanation | None:
    """Explain a pod whose node is not Ready."""
    for pod in snapshot.living():
        name = str((pod.get("spec") or {}).get("nodeName") or "")
        ready = condition(snapshot.find(NODE, name) or {}, "Ready")
        if ready and ready.get("status") != "True" and not is_true(pod, "Ready"):
            return Explanation(
                "node-not-ready",
                f"the pod's node {name} is not Ready",
                fix=f"kubectl describe node {name}; the pod is made anew if it stays away",
                permanent=False,
            ).shown_by(f"node {name}: {reason_and_message(ready)}")
    return None


def stuck(snapshot: Snapshot) -> Explanation | None:
    """Explain pods that do not end, and stand in the way of new ones."""
    for pod in snapshot.pods if not snapshot.living() else []:
        late = snapshot.age_s(pod["metadata"].get("deletionTimestamp"))
        if late is not None and late > _ENDS_S:
            holds = ", ".join(map(str, pod["metadata"].get("finalizers") or [])) or "none"
            return Explanation(
                "stuck",
                f"the pod {name_of(pod)} should have ended {late:.0f} s ago, and is still there",
                fix="kubectl describe node: is its node lost? Only then kubectl delete pod --force",
                permanent=False,
            ).shown_by(f"pod {name_of(pod)}: Terminating, finalizers: {holds}")
    return None


def no_sandbox(snapshot: Snapshot) -> Explanation | None:
    """Explain a pod whose node cannot set up its sandbox: network or runtime."""
    if any(map(has_run, snapshot.living())):
        return None
    names = ("FailedCreatePodSandBox", "NetworkNotReady", "AllocIPFailed")
    return first_row("sandbox", [text for name in names for text in snapshot.messages(name)])


def unschedulable(snapshot: Snapshot) -> Explanation | None:
    """Explain a pod that no node can run, with the number of nodes for each obstacle."""
    message = snapshot.unschedulable()
    if not message:
        return None
    if grows := snapshot.messages("TriggeredScaleUp"):
        cause = "no node has room for the pod yet; the cluster autoscaler adds one"
        fix = "wait: a new GPU node takes minutes to become ready"
        return Explanation("scale-up", cause, fix=fix, permanent=False).shown_by(message, grows[0])
    found = sorted(_obstacles(message), key=lambda each: each[0])
    if not found:
        cause, fix = "no node can run the pod", "add a node, or change what the message names"
        return Explanation("unschedulable", cause, fix=fix, permanent=False).shown_by(message)
    total = re.match(r"\d+/(\d+)", message)
    of = f" of {total[1]} nodes" if total else " nodes"
    parts = (f"{nodes}{of}: {each.cause}" if nodes else each.cause for _, nodes, each in found)
    first = found[0][2]
    cause = "has enough free GPUs" if first.kind == "no-gpu" else "can run the pod"
    cause = f"no node {cause} ({'; '.join(dict.fromkeys(parts))})"
    permanent = first.kind == "pvc-missing"
    known = replace(first, cause=cause, permanent=permanent).shown_by(message)
    return known if first.fix else _gpus(snapshot, known)


def _obstacles(message: str) -> Iterator[tuple[int, int, Explanation]]:
    """Yield for each part of the scheduler's message its rank, the number of nodes, the cause."""
    body = message.partition("available: ")[2] or message
    for part in re.split(r", (?=\d+ )", re.split(r"\.(?: |$)|,? preemption: ", body)[0]):
        nodes = re.match(r"\d+(?= )", part)
        for rank, row in enumerate(rows_of("unschedulable")):
            if found := row.explain(part):
                yield rank, int(nodes[0]) if nodes else 0, found
                break


def _gpus(snapshot: Snapshot, found: Explanation) -> Explanation:
    wanted = gpus_wanted(snapshot.template())
    most = max(map(gpus_of, snapshot.of(NODE)), default=None)
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
    return replace(found, fix=fix, permanent=never).shown_by(*found.evidence, have)

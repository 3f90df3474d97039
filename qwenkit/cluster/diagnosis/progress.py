"""What is seen to progress: only that is worth waiting for. Else the cause is unknown."""

from __future__ import annotations

from collections.abc import Iterator

from qwenkit.cluster.diagnosis.causes import placement
from qwenkit.cluster.diagnosis.causes.containers import states_of
from qwenkit.cluster.diagnosis.causes.rows import first_row, reason_and_message
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.server_log import doing
from qwenkit.cluster.diagnosis.snapshot import Snapshot, event_time
from qwenkit.cluster.kinds import INGRESS, Obj, condition, name_of
from qwenkit.cluster.pods import pod_state

# In seconds: what has changed so lately is on its way; a node prepares a pod in that time; and a
# server loads so long (Knative's progress deadline), or longer where its log says what it does.
_LATELY_S, _PREPARES_S, _LOADS_S, _SLOW_S = 60, 120, 600, 3600


def starting(snapshot: Snapshot) -> Explanation:
    """Say what progresses; if nothing is seen to, that the cause is not known."""
    ready = condition(snapshot.service or {}, "Ready")
    pods = [f"pod {name_of(pod)}: {pod_state(pod)}" for pod in snapshot.living()]
    shown = [reason_and_message(ready) or "Knative has set no condition yet", *pods[:1]]
    if moves := next(_moves(snapshot), ""):
        cause = f"ksvc {snapshot.name} is still starting: {moves}"
        found = Explanation("starting", cause, fix="wait: it goes on by itself", permanent=False)
        return found.shown_by(*shown, *snapshot.last_lines(2))
    if observed := _observed(snapshot):
        return observed.shown_by(*observed.evidence, *snapshot.last_lines(4))
    pod = next(map(name_of, snapshot.living()), "")
    look = f"kubectl describe pod {pod}; kubectl logs {pod} --all-containers" if pod else ""
    return Explanation(
        "unknown",
        f"ksvc {snapshot.name} is not ready, nothing is seen to progress, and no known cause fits",
        fix=look
        or f"kubectl describe ksvc,revision -l serving.knative.dev/service={snapshot.name}"
        "; kubectl get pods -n knative-serving",
        permanent=False,
    ).shown_by(*shown, *snapshot.warnings()[:3], *snapshot.last_lines(6))


def _observed(snapshot: Snapshot) -> Explanation | None:
    """Return what is seen to keep a pod from being ready, though not why."""
    for each in states_of(snapshot, "init"):
        if "running" in each.now:
            cause = f"{each.label} has not ended, and the server starts only after it"
            fix = f"read its log: kubectl logs {name_of(each.pod)} -c {each.name}"
            evidence = f"{each.name}: running since {each.now['running'].get('startedAt', '?')}"
            return Explanation("init-runs", cause, (evidence,), fix, permanent=False)
    runs = any("running" in each.now for each in states_of(snapshot, "own"))
    found = first_row("probe", snapshot.messages("Unhealthy")) if runs else None
    return found or placement.rejected(snapshot, few=1)


def _moves(snapshot: Snapshot) -> Iterator[str]:
    """Yield what is seen to progress, as the end of a sentence."""
    for pod in snapshot.living():
        yield from _pulls(snapshot, pod)
    for each in states_of(snapshot):
        since = snapshot.age_s((each.now.get("running") or {}).get("startedAt"))
        if each.role != "queue" and "running" in each.now:
            does = doing(snapshot.log(each.pod, each.name))
            if does if since is None else since < (_SLOW_S if does else _LOADS_S):
                age = f" for {since:.0f} s" if since else ""
                yield f"{each.label} has run{age}{f' ({does})' if does else ''}"
    for pod in snapshot.living():
        placed = condition(pod, "PodScheduled").get("lastTransitionTime")
        since = snapshot.age_s(placed or pod["metadata"].get("creationTimestamp"))
        if since is not None and since < _PREPARES_S and pod_state(pod) != "Ready":
            yield f"a node prepares the pod {name_of(pod)} (network, volumes)"
    for pod in snapshot.pods:
        over = snapshot.age_s(pod["metadata"].get("deletionTimestamp"))
        if over is not None and over < 0 and not snapshot.living():
            yield f"the pod {name_of(pod)} is ending before a new one is made"
    for obj in filter(None, (snapshot.service, snapshot.revision, *snapshot.of(INGRESS))):
        changed = snapshot.age_s(snapshot.newest(obj))
        if changed is not None and changed < _LATELY_S:
            yield f"Knative works on {obj['kind'].lower()} {name_of(obj)}"


def _pulls(snapshot: Snapshot, pod: Obj) -> Iterator[str]:
    """Yield the image that a node pulls for a pod: begun, and neither done nor failed."""
    uid = pod["metadata"].get("uid")
    mine = [e for e in snapshot.events if (e.get("involvedObject") or {}).get("uid", uid) == uid]
    steps = [e for e in mine if e.get("reason") in ("Pulling", "Pulled", "Failed", "BackOff")]
    last = max(steps, key=event_time, default={})
    since = snapshot.age_s(event_time(last)) if last else None
    if last.get("reason") == "Pulling" and (since is None or since < _SLOW_S):
        yield f"its node pulls the image ({last.get('message')})"

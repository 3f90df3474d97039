"""How long can a pod that is being deleted last, and does it ignore SIGTERM?

The kubelet runs the preStop hooks, sends SIGTERM to process 1 of each container, and kills what is
left when the grace period is over. Knative's hook returns when no request has come for 30 s.
Linux drops a SIGTERM for which a process 1 has no handler; Python has none until the server that
it loads sets one.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from qwenkit.cluster.kinds import Obj, condition, is_terminating, moment, name_of
from qwenkit.cluster.pods import containers

_QUIET_S = 30.0  # knative/serving, pkg/queue/sharedmain: drainSleepDuration
_SLACK_S = 10.0
_SHOWN_S = 30


def seconds_left(pod: Obj, now: datetime) -> float:
    """Return how long the kubelet lets a terminating pod run at most; 0 if that is over."""
    left = (moment(pod["metadata"]["deletionTimestamp"]) - now).total_seconds()
    return min(max(left, 0.0), grace_of(pod))


def grace_of(pod: Obj) -> float:
    """Return the whole grace period of a terminating pod, in seconds."""
    return float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)


def ignores_sigterm(pod: Obj, now: datetime) -> str:
    """Return what shows that a terminating pod ignores SIGTERM; empty if nothing does.

    A pod that was Ready may still answer a request, up to the end of its grace period.
    """
    running = [str(c.get("name")) for c in containers(pod) if "running" in (c.get("state") or {})]
    if not running or not is_terminating(pod):
        return ""
    what = f"container {', '.join(running)} ignores SIGTERM"
    if (now - moment(pod["metadata"]["deletionTimestamp"])).total_seconds() > _SLACK_S:
        return f"{what}: its grace period is over, and it still runs"
    begun = moment(pod["metadata"]["deletionTimestamp"]) - timedelta(seconds=grace_of(pod))
    statuses = pod.get("status", {}).get("containerStatuses") or []
    if len(statuses) == len(containers(pod)):  # no queue-proxy: no preStop hook of Knative
        patience_s = _SLACK_S
    elif _was_ready(pod, begun):
        return ""
    else:
        patience_s = _QUIET_S + _SLACK_S
    if (now - begun).total_seconds() < patience_s:
        return ""
    return (
        f"{what}: it has no request to finish, and still runs {patience_s:g} s after its deletion"
    )


def ending(pod: Obj, now: datetime) -> str:
    """Describe a terminating pod: how long it can last at most, and why it does."""
    left = seconds_left(pod, now)
    # In steps of 30 s: a person sees that time goes on, and a log stays short.
    shown = math.ceil(left / _SHOWN_S) * _SHOWN_S
    limit = f"at most {min(shown, grace_of(pod)):g} s more" if left else "its grace period is over"
    text = f"pod {name_of(pod)} is Terminating, {limit}"
    evidence = ignores_sigterm(pod, now)
    return f"{text}; {evidence}" if evidence else text


def _was_ready(pod: Obj, begun: datetime) -> bool:
    """Return whether a pod was Ready when its deletion began: a draining one is not, soon after."""
    ready = condition(pod, "Ready")
    changed = str(ready.get("lastTransitionTime") or "")
    return ready.get("status") == "True" or bool(changed and moment(changed) >= begun)

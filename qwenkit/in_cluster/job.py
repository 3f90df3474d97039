"""Run a Job to its end: create it, watch it, clean up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    JOB,
    JOB_LABEL,
    POD,
    RUN,
    SECRET,
    Kind,
    Obj,
    is_terminating,
    is_true,
    kind_of,
    name_of,
)
from qwenkit.cluster.ownership import is_ours, require_ours
from qwenkit.cluster.wait import wait
from qwenkit.errors import Conflict, QwenkitError
from qwenkit.in_cluster.watch import Hooks, JobWatch

log = logging.getLogger("qwenkit.cluster")

_CLEAN_UP_S = 60.0


def run_job(
    cluster: Cluster,
    job: Mapping[str, Any],
    secret: Mapping[str, Any],
    *,
    start_s: float,
    hooks: Hooks,
) -> str:
    """Run a Job of one pod to its end and return that pod's log; Job and Secret are gone then.

    A Job that runs already with the same command, because whoever started it lost the
    connection, is followed to its end.

    Args:
        cluster: where.
        job: its ``activeDeadlineSeconds`` is the deadline.
        secret: what its pods may use; it goes with the Job.
        start_s: how long a pod may take to start.
        hooks: what to do with the log.

    Raises:
        Conflict: the names are taken by something that is not ours, or the Job by another command.
        NotReady: it failed, or cannot start.
        WaitTimeout: no pod started in time.
        QwenkitError: what ``hooks.error`` made of the log.
    """
    begun = _make_room(cluster, job, name_of(secret))
    try:
        cluster.apply(secret)
        if not begun:
            cluster.apply(job)
        _own(cluster, job, secret)
        watch = JobWatch(cluster, name_of(job), start_s, hooks)
        return watch.end(deadline_s=job["spec"]["activeDeadlineSeconds"])
    finally:
        _clean_up(cluster, name_of(job), name_of(secret))


def _make_room(cluster: Cluster, job: Mapping[str, Any], secret: str) -> bool:
    """Remove a Job that has ended; return whether the same one runs already."""
    found = cluster.find(JOB, name_of(job))
    if found is None:
        return False
    require_ours(found, run=cluster.run)
    if not (is_terminating(found) or is_true(found, "Complete") or is_true(found, "Failed")):
        if _does(found) == _does(job):
            return True
        raise Conflict(
            f"job {name_of(job)} is running with another command",
            f"it does: {' '.join(_does(found)[1:])}",
            f"wait for it, or end it: kubectl delete job {name_of(job)}",
        )
    # The old Secret too: it would go with the old Job, at a moment of its own.
    _remove(cluster, name_of(job), secret)
    return False


def _does(job: Mapping[str, Any]) -> list[str]:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return [container["image"], *(container.get("command") or []), *(container.get("args") or [])]


def _own(cluster: Cluster, job: Mapping[str, Any], secret: Mapping[str, Any]) -> None:
    """Let the Secret go with the Job, also when nobody is left here to remove it."""
    owner = {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "name": name_of(job),
        "uid": cluster.get(JOB, name_of(job))["metadata"]["uid"],
    }
    cluster.patch(SECRET, name_of(secret), {"metadata": {"ownerReferences": [owner]}})


def _clean_up(cluster: Cluster, job: str, secret: str) -> None:
    """Remove what is ours and wait for the pods; what cannot be removed hides no other error."""
    try:
        _remove(cluster, job, secret)
    except QwenkitError as error:
        log.warning("job %s and its secret may be left: %s", job, error)


def _remove(cluster: Cluster, job: str, secret: str) -> None:
    """Delete what is ours of a Job and its Secret, and wait until that and the pods are gone."""

    def ours(kind: Kind, name: str) -> list[Obj]:
        found = cluster.find(kind, name)
        return [found] if found is not None and is_ours(found, run=cluster.run) else []

    for kind, name in ((JOB, job), (SECRET, secret)):
        if ours(kind, name):
            cluster.delete(kind, name)
    labels = {JOB_LABEL: job, RUN: cluster.run}
    wait(
        lambda: [*ours(JOB, job), *ours(SECRET, secret), *cluster.list(POD, labels=labels)],
        what=f"job {job}, its secret and its pods gone",
        ready=lambda left: not left,
        describe=lambda left: ", ".join(f"{kind_of(one)} {name_of(one)}" for one in left),
        timeout_s=_CLEAN_UP_S,
        every_s=0.2,
    )

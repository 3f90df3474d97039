"""Start the Job, or join it if it is already running, and remove it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    JOB,
    JOB_LABEL,
    POD,
    SECRET,
    Obj,
    is_terminating,
    is_true,
    kind_of,
    name_of,
)
from qwenkit.cluster.ownership import is_ours, require_ours
from qwenkit.cluster.wait import wait
from qwenkit.errors import Conflict, QwenkitError
from qwenkit.settings import RUN_LABEL

log = logging.getLogger("qwenkit.cluster")

_REMOVAL_S = 60.0
_SHOWN = 200  # of a command, which may have a plan of a mebibyte


@contextmanager
def running_job(
    cluster: Cluster, job: Mapping[str, Any], secret: Mapping[str, Any]
) -> Iterator[None]:
    """Start a Job; remove it, its Secret of the same name and its pods at the end.

    If a Job with the same command is already running, because the program that started it lost
    its connection, that one is used.

    Raises:
        Conflict: the Job runs another command, or the Job or the Secret is not ours.
    """
    name = name_of(job)
    running = _is_running(cluster, job)
    try:
        cluster.apply(secret)
        if not running:
            cluster.apply(job)
        _set_owner(cluster, name)
        yield
    finally:
        try:
            _remove(cluster, name)
        except QwenkitError as error:  # must not hide an error of the upload
            log.warning("job %s and its secret may be left: %s", name, error)


def _is_running(cluster: Cluster, job: Mapping[str, Any]) -> bool:
    """Return whether the same Job is running; remove one that has ended."""
    name = name_of(job)
    found = cluster.find(JOB, name)
    if found is None:
        return False
    require_ours(found, run=cluster.run, namespace=cluster.namespace)
    if is_terminating(found) or is_true(found, "Complete") or is_true(found, "Failed"):
        # With its Secret, which the cluster would otherwise delete at any later moment.
        _remove(cluster, name)
        return False
    if _command(found) != _command(job):
        raise Conflict(
            f"job {name} is running with another command",
            f"its command is: {' '.join(_command(found)[1:])[:_SHOWN]}",
            f"wait for it, or end it: kubectl delete job {name}",
        )
    return True


def _command(job: Mapping[str, Any]) -> list[str]:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return [container["image"], *(container.get("command") or []), *(container.get("args") or [])]


def _set_owner(cluster: Cluster, name: str) -> None:
    """Make the Job own the Secret, so the cluster deletes it even if this program is killed."""
    uid = cluster.get(JOB, name)["metadata"]["uid"]
    owner = {"apiVersion": JOB.api_version, "kind": JOB.kind, "name": name, "uid": uid}
    cluster.patch(SECRET, name, {"metadata": {"ownerReferences": [owner]}})


def _remove(cluster: Cluster, name: str) -> None:
    """Delete our Job and our Secret, and wait until they and the pods are gone."""
    for kind in (JOB, SECRET):
        with suppress(Conflict):  # not ours
            cluster.delete(kind, name)

    def left() -> list[Obj]:
        found = [cluster.find(kind, name) for kind in (JOB, SECRET)]
        pods = cluster.list(POD, labels={JOB_LABEL: name, RUN_LABEL: cluster.run})
        return [obj for obj in found if obj and is_ours(obj, run=cluster.run)] + pods

    wait(
        left,
        what=f"job {name}, its secret and its pods gone",
        ready=lambda objects: not objects,
        describe=lambda objects: ", ".join(f"{kind_of(one)} {name_of(one)}" for one in objects),
        timeout_s=_REMOVAL_S,
        every_s=0.2,
    )

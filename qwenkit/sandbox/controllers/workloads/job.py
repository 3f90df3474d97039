"""When has a Job ended? When enough of its pods have succeeded or too many have failed.

Each pod carries a finalizer until the Job has counted it, so that none is missed. Policies and
suspension are not part of the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice

from qwenkit.sandbox.controllers.conditions import TRUE
from qwenkit.sandbox.controllers.loop import Context
from qwenkit.sandbox.controllers.object_fields import (
    deleting,
    key_of,
    owned_by,
    set_condition,
    set_finalizer,
)
from qwenkit.sandbox.controllers.workloads import indexes
from qwenkit.sandbox.controllers.workloads.pods import (
    PodController,
    is_active,
    is_ready_pod,
    terminating,
)
from qwenkit.sandbox.kube.objects import Object, at, condition, copied, timestamp, utc_now

TRACKING = "batch.kubernetes.io/job-tracking"
JOB_NAME = "batch.kubernetes.io/job-name"
_BACKOFF_S, _BACKOFF_MAX_S = 10.0, 600.0
_MET = ("CompletionsReached", "Reached expected number of succeeded pods")
_FAILED = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
_ENDS = ("Complete", "Failed")
_LATE = ("DeadlineExceeded", "Job was active longer than specified deadline")


class JobController(PodController):
    """Runs Jobs to their end."""

    name = "job"
    kind = "Job"
    component = "job-controller"
    watches = frozenset({"Job", "Pod"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._failed_at: dict[str, float] = {}

    def reconcile(self, namespace: str, name: str) -> None:
        """Count the pods and decide whether the Job has ended; if not, keep enough running."""
        job = self.store.find(self.kind, namespace, name)
        if job is None or deleting(job):
            self._release(self.store.list("Pod", namespace, {JOB_NAME: name}))
            return
        if left_out := _left_out(job):
            message = f"the sandbox's Jobs have no {', '.join(left_out)}"
            self.recorder.warning(job, "NotInSandbox", message)
            return
        pods = self._pods(job)
        status = self._counted(job, pods)
        if not _ended(status):
            self._advance(job, status, pods)
        active = [pod for pod in self._pods(job) if is_active(pod)]
        status |= {"active": len(active), "ready": sum(map(is_ready_pod, active))}
        if not active:
            del status["active"]
        self.write_status(job, status)
        # Only now: a pod that is not in the status must not be released.
        self._release(pod for pod in pods if not is_active(pod))
        if _ended(status):
            self._expire(job, status)

    def _pods(self, job: Object) -> list[Object]:
        labels = job["spec"]["selector"].get("matchLabels", {})
        pods = self.store.list("Pod", job["metadata"]["namespace"], labels)
        return [pod for pod in pods if owned_by(pod, job)]

    def _counted(self, job: Object, pods: list[Object]) -> Object:
        """Return the status with the pods that ended since the last one."""
        now = timestamp(utc_now())
        status: Object = {"startTime": now, **copied(job.get("status") or {})}
        for pod in pods:
            if is_active(pod) or TRACKING not in pod["metadata"].get("finalizers", []):
                continue
            good = at(pod, "status", "phase") == "Succeeded"
            if good and indexes.has_them(job):
                indexes.complete(status, pod)
                continue
            field = "succeeded" if good else "failed"
            status[field] = status.get(field, 0) + 1
            if not good:
                self._failed_at[job["metadata"]["uid"]] = self.context.clock.now()
        return status | {"terminating": terminating(pods), "uncountedTerminatedPods": {}}

    def _advance(self, job: Object, status: Object, pods: list[Object]) -> None:
        """Begin or complete the Job's end, or create the pods that are missing."""
        active = [pod for pod in pods if is_active(pod)]
        spec, failed = job["spec"], status.get("failed", 0)
        if _is(status, "FailureTarget"):
            pass
        elif failed > spec["backoffLimit"] or _restarts(active) > spec["backoffLimit"]:
            _mark(status, "FailureTarget", *_FAILED)
        elif self._late(job, status):
            _mark(status, "FailureTarget", *_LATE)
        elif status.get("succeeded", 0) >= spec["completions"]:
            _mark(status, "SuccessCriteriaMet", *_MET)
        else:
            self._create(job, status, active)
            return
        for pod in active:
            self.delete_pod(job, pod)
        if not active and not status["terminating"]:
            self._finish(job, status)

    def _late(self, job: Object, status: Object) -> bool:
        limit = job["spec"].get("activeDeadlineSeconds")
        if limit is None:
            return False
        clock = self.context.clock
        left: float = clock.moment(status["startTime"]) + limit - clock.now()
        if left > 0:
            self.after(key_of(job), left)
        return left <= 0

    def _create(self, job: Object, status: Object, active: list[Object]) -> None:
        spec = job["spec"]
        missing = min(spec["parallelism"], spec["completions"] - status.get("succeeded", 0))
        missing -= len(active)
        if missing > 0 and (wait := self._back_off(job, status)) > 0:
            self.after(key_of(job), wait)
            return
        if indexes.has_them(job):
            for index in islice(indexes.free(job, status, active), max(0, missing)):
                change = partial(indexes.give, index=index, job=job["metadata"]["name"])
                self.create_pod(job, finalizers=(TRACKING,), change=change)
            return
        for _ in range(missing):
            self.create_pod(job, finalizers=(TRACKING,))

    def _back_off(self, job: Object, status: Object) -> float:
        """Return the seconds until the next retry: twice as long after each failure."""
        since = self._failed_at.get(job["metadata"]["uid"])
        if since is None:
            return 0
        wait: float = min(_BACKOFF_S * 2 ** (status["failed"] - 1), _BACKOFF_MAX_S)
        return since + wait - self.context.clock.now()

    def _finish(self, job: Object, status: Object) -> None:
        self._failed_at.pop(job["metadata"]["uid"], None)
        if _is(status, "SuccessCriteriaMet"):
            _mark(status, "Complete", *_MET)
            status["completionTime"] = timestamp(utc_now())
            self.recorder.normal(job, "Completed", "Job completed")
            return
        why = condition({"status": status}, "FailureTarget")
        _mark(status, "Failed", why["reason"], why["message"])
        self.recorder.warning(job, why["reason"], why["message"])

    def _release(self, pods: Iterable[Object]) -> None:
        """Release pods that are counted, or whose Job is gone."""
        for pod in pods:
            pod["metadata"]["resourceVersion"] = None
            set_finalizer(self.store, "Pod", pod, TRACKING, present=False)

    def _expire(self, job: Object, status: Object) -> None:
        """Delete the Job ``ttlSecondsAfterFinished`` seconds after its end."""
        keep = job["spec"].get("ttlSecondsAfterFinished")
        if keep is None:
            return
        ended = next(c["lastTransitionTime"] for c in status["conditions"] if c["type"] in _ENDS)
        left = self.context.clock.moment(ended) + keep - self.context.clock.now()
        if left > 0:
            self.after(key_of(job), left)
        else:
            self.store.delete(self.kind, *key_of(job), propagation="Foreground")


def _ended(status: Object) -> bool:
    return any(_is(status, kind) for kind in _ENDS)


def _is(status: Object, kind: str) -> bool:
    return condition({"status": status}, kind).get("status") == TRUE


def _mark(status: Object, kind: str, reason: str, message: str) -> None:
    now = timestamp(utc_now())
    new = {
        "type": kind,
        "status": TRUE,
        "lastProbeTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }
    set_condition(status, new)


def _restarts(pods: list[Object]) -> int:
    """Return how often containers were restarted in place (``restartPolicy: OnFailure``)."""
    statuses = [one for pod in pods for one in at(pod, "status", "containerStatuses") or []]
    return sum(one.get("restartCount", 0) for one in statuses)


def _left_out(job: Object) -> list[str]:
    spec = job["spec"]
    fields = ("podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "managedBy")
    found = [field for field in fields if field in spec]
    return found + (["suspension"] if spec["suspend"] else [])

"""Job → Pods, until enough have succeeded or too many have failed.

Each pod carries a finalizer until the Job has counted it, so that none is missed. What would make
a Job more than a number of equal pods (indexes, policies, suspension) is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.events import Recorder
from qwenkit.sandbox.controllers.knative.conditions import TRUE
from qwenkit.sandbox.controllers.loop import Controller, World, deleting, key_of, owned_by
from qwenkit.sandbox.controllers.workloads.replica_set import is_active, is_ready_pod, pod_for
from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object, at, condition, copied, timestamp, utc_now

TRACKING = "batch.kubernetes.io/job-tracking"
JOB_NAME = "batch.kubernetes.io/job-name"
_BACKOFF_S, _BACKOFF_MAX_S = 10.0, 600.0
_MET = ("CompletionsReached", "Reached expected number of succeeded pods")
_FAILED = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
_ENDS = ("Complete", "Failed")
_LATE = ("DeadlineExceeded", "Job was active longer than specified deadline")


class JobController(Controller):
    """Runs Jobs to their end."""

    name = "job"
    kind = "Job"
    watches = frozenset({"Job", "Pod"})

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._recorder = Recorder(world.store, "job-controller")
        self._failed_at: dict[str, float] = {}

    def reconcile(self, namespace: str, name: str) -> None:
        """Count the pods, decide whether the Job has ended, else see that enough run."""
        job = self.store.find(self.kind, namespace, name)
        if job is None or deleting(job):
            self._release(self.store.list("Pod", namespace, {JOB_NAME: name}))
            return
        if left_out := _left_out(job):
            message = f"the sandbox's Jobs have no {', '.join(left_out)}"
            self._recorder.warning(job, "NotInSandbox", message)
            return
        pods = self._pods(job)
        status = self._counted(job, pods)
        if not _ended(status):
            self._advance(job, status, pods)
        active = [pod for pod in self._pods(job) if is_active(pod)]
        status |= {"active": len(active), "ready": sum(map(is_ready_pod, active))}
        self._write(job, status)
        # Only now: what is not written down must not be forgotten.
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
            field = "succeeded" if good else "failed"
            status[field] = status.get(field, 0) + 1
            if not good:
                self._failed_at[job["metadata"]["uid"]] = self.world.clock.now()
        gone = sum(deleting(pod) and not _finished(pod) for pod in pods)
        return status | {"terminating": gone, "uncountedTerminatedPods": {}}

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
            self._create(job, status, len(active))
            return
        for pod in active:
            self._delete(job, pod)
        if not active and not status["terminating"]:
            self._finish(job, status)

    def _late(self, job: Object, status: Object) -> bool:
        limit = job["spec"].get("activeDeadlineSeconds")
        if limit is None:
            return False
        clock = self.world.clock
        left: float = clock.moment(status["startTime"]) + limit - clock.now()
        if left > 0:
            self.after(key_of(job), left)
        return left <= 0

    def _create(self, job: Object, status: Object, active: int) -> None:
        spec = job["spec"]
        missing = min(spec["parallelism"], spec["completions"] - status.get("succeeded", 0))
        if missing > active and (wait := self._back_off(job, status)) > 0:
            self.after(key_of(job), wait)
            return
        for _ in range(missing - active):
            pod = pod_for(job)
            pod["metadata"]["finalizers"] = [TRACKING]
            try:
                created = self.store.create("Pod", pod)
            except ApiError as error:
                self._recorder.warning(job, "FailedCreate", f"Error creating: {error.message}")
                raise
            name = created["metadata"]["name"]
            self._recorder.normal(job, "SuccessfulCreate", f"Created pod: {name}")

    def _back_off(self, job: Object, status: Object) -> float:
        """Return the seconds that a retry still waits: twice as long after each failure."""
        since = self._failed_at.get(job["metadata"]["uid"])
        if since is None:
            return 0
        wait: float = min(_BACKOFF_S * 2 ** (status["failed"] - 1), _BACKOFF_MAX_S)
        return since + wait - self.world.clock.now()

    def _delete(self, job: Object, pod: Object) -> None:
        self.store.delete("Pod", *key_of(pod))
        name = pod["metadata"]["name"]
        self._recorder.normal(job, "SuccessfulDelete", f"Deleted pod: {name}")

    def _finish(self, job: Object, status: Object) -> None:
        self._failed_at.pop(job["metadata"]["uid"], None)
        if _is(status, "SuccessCriteriaMet"):
            _mark(status, "Complete", *_MET)
            status["completionTime"] = timestamp(utc_now())
            self._recorder.normal(job, "Completed", "Job completed")
            return
        why = condition({"status": status}, "FailureTarget")
        _mark(status, "Failed", why["reason"], why["message"])
        self._recorder.warning(job, why["reason"], why["message"])

    def _write(self, job: Object, status: Object) -> None:
        if not status["active"]:
            del status["active"]
        metadata = {**job["metadata"], "resourceVersion": None}
        self.store.update_status(self.kind, {**job, "metadata": metadata, "status": status})

    def _release(self, pods: Iterable[Object]) -> None:
        """Let go of pods that are counted, or that nobody counts any more."""
        for pod in pods:
            present = pod["metadata"].get("finalizers", [])
            if TRACKING in present:
                pod["metadata"]["finalizers"] = [one for one in present if one != TRACKING]
                pod["metadata"]["resourceVersion"] = None
                self.store.update("Pod", pod)

    def _expire(self, job: Object, status: Object) -> None:
        """Delete the Job when its time after the end is over."""
        keep = job["spec"].get("ttlSecondsAfterFinished")
        if keep is None:
            return
        ended = next(c["lastTransitionTime"] for c in status["conditions"] if c["type"] in _ENDS)
        left = self.world.clock.moment(ended) + keep - self.world.clock.now()
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
    status["conditions"] = [*status.get("conditions", []), new]


def _restarts(pods: list[Object]) -> int:
    """Return how often containers were started again in place, as OnFailure has it."""
    statuses = [one for pod in pods for one in at(pod, "status", "containerStatuses") or []]
    return sum(one.get("restartCount", 0) for one in statuses)


def _finished(pod: Object) -> bool:
    return at(pod, "status", "phase") in ("Succeeded", "Failed")


def _left_out(job: Object) -> list[str]:
    spec = job["spec"]
    fields = ("podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "managedBy")
    found = [field for field in fields if field in spec]
    found += ["suspension"] if spec["suspend"] else []
    return found + (["indexes"] if spec["completionMode"] == "Indexed" else [])

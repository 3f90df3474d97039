"""What ``kubectl get jobs`` and ``cronjobs`` show in their columns."""

from __future__ import annotations

from datetime import datetime

from qwenkit.sandbox.kube.objects import Object, at, parse_timestamp
from qwenkit.sandbox.kube.reads.ages import since


def status(job: Object) -> str:
    """Return the status of a Job in one word."""
    true = [one["type"] for one in at(job, "status", "conditions") or [] if one["status"] == "True"]
    going = ["Terminating"] if at(job, "metadata", "deletionTimestamp") else []
    # In kubectl's order.
    ended = [kind for kind in ("Complete", "Failed") if kind in true]
    ending = [kind for kind in ("FailureTarget", "SuccessCriteriaMet") if kind in true]
    return [*ended, *going, *ending, "Running"][0]


def completions(job: Object) -> str:
    """Return how many of its pods succeeded."""
    return f"{at(job, 'status', 'succeeded') or 0}/{at(job, 'spec', 'completions')}"


def duration(job: Object, now: datetime) -> str:
    """Return how long the Job ran, or has been running."""
    if not (started := at(job, "status", "startTime")):
        return ""
    ended = at(job, "status", "completionTime")
    return since(started, parse_timestamp(ended) if ended else now)


def last_schedule(cron_job: Object, now: datetime) -> str:
    """Return how long ago a CronJob made its last Job."""
    last = at(cron_job, "status", "lastScheduleTime")
    return since(last, now) if last else "<none>"

"""``load --in-cluster``: the same load from several pods beside the service, as one indexed Job."""

from __future__ import annotations

import time
from dataclasses import replace

from ruamel.yaml.comments import CommentedMap

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import KSVC
from qwenkit.cluster.wait import OnChange
from qwenkit.credentials import from_environment
from qwenkit.errors import NotReady
from qwenkit.in_cluster.job import running_job
from qwenkit.in_cluster.manifest import job_name, job_secret, require_image
from qwenkit.in_cluster.watch import JobWatch
from qwenkit.inference.load.shares import LoadPlan, merged
from qwenkit.inference.results import LoadResult
from qwenkit.manifests.storage import filled, ours
from qwenkit.settings import API_KEY, Settings

_MARGIN_S = 60.0


def load(
    cluster: Cluster,
    settings: Settings,
    plan: LoadPlan,
    *,
    start_in: float,
    on_change: OnChange | None = None,
) -> LoadResult:
    """Run a load by ``plan.workers`` pods that begin together; the Job is removed at the end.

    Args:
        cluster: where.
        settings: the Service, its timeout and the image of the pods.
        plan: what to send; its ``at`` is set here.
        start_in: seconds until it begins, in which all pods must run.
        on_change: called at each transition of the Job.

    Raises:
        SettingsError: no image is set.
        InvalidValue: more workers than clients or requests, or too many requests for a Job.
        NotFound: the Service does not exist.
        Conflict: another load of this Service runs so, or an object of its name is not ours.
        NotReady: the Job cannot start, or failed without an error message.
        QwenkitError: any error of a worker, such as a pod that began late.
    """
    plan.share(0)
    service = cluster.get(KSVC, settings.service)
    address = str((service.get("status", {}).get("address") or {}).get("url") or "")
    if not address:
        why = "its Route has not been reconciled"
        fix = f"qwenkit explain {settings.service}"
        raise NotReady(f"ksvc {settings.service} has no address in the cluster yet", why, fix)
    plan = replace(plan, at=round(time.time() + start_in, 3))
    lasts_s = plan.request.get("seconds") or plan.traffic.end_s
    deadline_s = start_in + lasts_s + plan.timeout_s + _MARGIN_S
    job = load_job(settings, plan, address, deadline_s)
    name = str(job["metadata"]["name"])
    watch = JobWatch(
        cluster,
        name,
        start_s=settings.timeout_s,
        on_line=lambda _line: None,
        on_change=on_change,
        container="load",
        again="repeat the same command",
        limit="send for a shorter time",
    )
    secret = job_secret(settings, name, {"OPENAI_API_KEY": from_environment("OPENAI_API_KEY")})
    with running_job(cluster, job, secret):
        logs = watch.wait(deadline_s=deadline_s)
    return merged(plan, logs)


def load_job(settings: Settings, plan: LoadPlan, address: str, deadline_s: float) -> CommentedMap:
    """Render the Job of a load.

    Raises:
        SettingsError: no image is set.
        InvalidValue: the plan is too long.
    """
    job = filled(
        "load-job.yaml",
        ours(settings)
        | {
            "name": job_name("load", f"{settings.namespace}/{settings.service}"),
            "namespace": settings.namespace,
            "target": address,
            "workers": plan.workers,
            "deadline_s": int(deadline_s),
            "image": require_image(settings),
        },
    )
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [address, *plan.words()]
    if settings.api_key_secret and not from_environment("OPENAI_API_KEY"):
        for each in container["env"]:
            if each["name"] == "OPENAI_API_KEY":
                each["valueFrom"]["secretKeyRef"] = {
                    "name": settings.api_key_secret,
                    "key": API_KEY,
                }
    return job

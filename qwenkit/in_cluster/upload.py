"""``upload --in-cluster``: run the same command as a Job beside the bucket."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import name_of
from qwenkit.cluster.wait import OnChange
from qwenkit.credentials import Credentials, hub_token
from qwenkit.errors import SettingsError
from qwenkit.in_cluster.job import running_job
from qwenkit.in_cluster.manifest import transfer_job, transfer_secret
from qwenkit.in_cluster.output import read_progress, read_report
from qwenkit.in_cluster.watch import JobWatch
from qwenkit.settings import Settings
from qwenkit.weights.hub.repository import parse_source
from qwenkit.weights.oss.url import oss_url
from qwenkit.weights.progress import Progress
from qwenkit.weights.report import RESUMES, UploadReport


def upload(
    cluster: Cluster,
    settings: Settings,
    flags: Sequence[str] = (),
    *,
    progress: Callable[[Progress], None] = lambda _progress: None,
    on_change: OnChange | None = None,
) -> UploadReport:
    """Upload ``settings.model_source`` from inside the cluster; the Job is removed at the end.

    ``flags`` are further arguments of ``qwenkit upload``. ``progress`` is called about once a
    second, ``on_change`` at each transition of the Job.

    Raises:
        SettingsError: the source is a folder of this machine, or no image is set.
        Conflict: the Job or Secret of that name is not ours, or the Job runs another command.
        NotReady: the Job cannot start, or failed without an error message.
        WaitTimeout: no pod started in time.
        QwenkitError: any error of the upload itself.
    """
    if parse_source(settings.model_source).kind == "folder":
        raise SettingsError(
            "source",
            settings.model_source,
            "is a folder of this machine, and the cluster cannot read it",
            "upload it from here, without --in-cluster",
        )
    settings.require("bucket", "oss_endpoint")
    target = oss_url(settings.bucket, settings.prefix)
    arguments = [settings.model_source, target, *flags, "--json", "--progress"]
    secret = transfer_secret(settings, Credentials.required(), hub_token(settings.model_source))
    job = transfer_job(settings, arguments)

    def on_line(line: str) -> None:
        if state := read_progress(line):
            progress(state)

    watch = JobWatch(cluster, name_of(job), settings.timeout_s, on_line, on_change)
    try:
        with running_job(cluster, job, secret):
            logs = watch.wait(deadline_s=job["spec"]["activeDeadlineSeconds"])
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(RESUMES)
        raise
    return read_report("".join(logs[-1:]), target)

"""``upload --in-cluster``: run the same command as a Job beside the bucket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import name_of
from qwenkit.cluster.wait import OnChange
from qwenkit.credentials import Credentials, hub_token
from qwenkit.errors import SettingsError
from qwenkit.in_cluster.job import running_job
from qwenkit.in_cluster.manifest import (
    in_volume,
    job_secret,
    transfer_job,
    transfer_secret,
    verify_job,
    volume_folder,
)
from qwenkit.in_cluster.output import read_progress, read_report, read_verified
from qwenkit.in_cluster.watch import JobWatch
from qwenkit.settings import Settings
from qwenkit.weights.hub.repository import parse_source
from qwenkit.weights.progress import Progress
from qwenkit.weights.report import RESUMES, UploadReport, VerifyReport


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
    require_hub(settings)
    keys, target, url = None, volume_folder(settings), settings.weights_url
    if settings.storage == "oss":
        settings.require("bucket", "oss_endpoint")
        keys, target = Credentials.required(), url
    arguments = [settings.model_source, target, *flags, "--json", "--progress"]
    secret = transfer_secret(settings, keys, hub_token(settings.model_source))
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
    found = read_report("".join(logs[-1:]), url)
    files = tuple(replace(file, key=in_volume(file.key)) for file in found.files)
    count, size = len(files), sum(file.size for file in files)
    progress(Progress(count, count, size, size, 0.0, None, found.retries, ""))
    at = found.url.replace(target, url)
    return replace(found, url=at, prefix=in_volume(found.prefix), files=files)


def require_hub(settings: Settings) -> None:
    """Refuse a source that no Job can read.

    Raises:
        SettingsError: it is a folder of this machine.
    """
    if parse_source(settings.model_source).kind == "folder":
        here = "upload it from here, without --in-cluster"
        raise SettingsError(
            "source",
            settings.model_source,
            "is a folder of this machine, and the cluster cannot read it",
            here if settings.storage == "oss" else "name modelscope:… or hf:…, or storage=oss",
        )


def verify(cluster: Cluster, settings: Settings) -> VerifyReport:
    """Check the weights in a volume by a Job, which is removed at the end.

    Raises:
        SettingsError: no image is set.
        NotFound: no upload completed there.
        QwenkitError: as for ``upload``.
    """
    job = verify_job(settings)
    name, quiet = name_of(job), lambda _line: None
    watch = JobWatch(cluster, name, settings.timeout_s, quiet, None, again="repeat it")
    with running_job(cluster, job, job_secret(settings, name, {})):
        logs = watch.wait(deadline_s=job["spec"]["activeDeadlineSeconds"])
    found = read_verified("".join(logs[-1:]), settings.weights_url)
    extra = tuple(map(in_volume, found.extra))
    stored = tuple((in_volume(key), size) for key, size in found.stored)
    return replace(found, prefix=settings.prefix, extra=extra, stored=stored)

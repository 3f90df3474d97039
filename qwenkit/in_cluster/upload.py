"""``upload --in-cluster``: the same command as a Job beside the bucket, watched from here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from qwenkit import errors
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.wait import OnChange
from qwenkit.credentials import Credentials, hub_token
from qwenkit.errors import QwenkitError, SettingsError, TransferError
from qwenkit.in_cluster.job import run_job
from qwenkit.in_cluster.manifest import transfer_job, transfer_secret
from qwenkit.in_cluster.watch import Hooks
from qwenkit.settings import Settings
from qwenkit.weights.hub.repository import parse_source
from qwenkit.weights.progress import Progress
from qwenkit.weights.report import FileReport, UploadReport

_RESUMES = "what arrived is kept: repeat the same upload, here or in the cluster, and it goes on"


def upload(
    cluster: Cluster,
    settings: Settings,
    flags: Sequence[str] = (),
    *,
    progress: Callable[[Progress], None] = lambda _progress: None,
    on_change: OnChange | None = None,
) -> UploadReport:
    """Upload ``settings.model_source`` from within the cluster; nothing of it stays there.

    Args:
        cluster: where the Job runs.
        settings: source, bucket, prefix, image and endpoints.
        flags: further arguments of ``qwenkit upload``.
        progress: called about once a second.
        on_change: called at each transition of the Job.

    Raises:
        SettingsError: the source is a folder of this machine, or no image is set.
        Conflict: a Job or Secret of that name is not ours, or the prefix holds something else.
        NotReady: the Job cannot start, or failed without saying why.
        QwenkitError: what the upload itself raised, as if it had run here.
    """
    if parse_source(settings.model_source).kind == "folder":
        raise SettingsError(
            "source",
            settings.model_source,
            "is a folder of this machine, and the cluster cannot read it",
            "upload it from here, without --in-cluster",
        )
    settings.require("bucket", "oss_endpoint")
    target = f"oss://{settings.bucket}/{settings.prefix}"
    command = [settings.model_source, target, *flags, "--json", "--progress"]
    secret = transfer_secret(settings, Credentials.required(), hub_token(settings.model_source))
    hooks = Hooks(lambda line: _show(line, progress), _error, on_change)
    job = transfer_job(settings, command)
    try:
        log = run_job(cluster, job, secret, start_s=settings.timeout_s, hooks=hooks)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(_RESUMES)
        raise
    return _report(log, target)


def _show(line: str, progress: Callable[[Progress], None]) -> None:
    state = _parsed(line).get("progress")
    if isinstance(state, dict):
        with suppress(TypeError):  # the image's version counts other things
            progress(Progress(**state))


def _report(log: str, target: str) -> UploadReport:
    for line in reversed(log.splitlines()):
        answer = _parsed(line)
        if "url" in answer:
            try:
                files = tuple(FileReport(**file) for file in answer["files"])
                return UploadReport(**answer | {"files": files})
            except (KeyError, TypeError):
                break
    raise TransferError(
        f"{target} is complete, but the Job's log does not tell what was done",
        "the image holds another version of qwenkit, or the log was cut",
        f"qwenkit verify {target} shows what is there",
    )


def _error(log: str) -> QwenkitError | None:
    """Return the error that the upload printed, as the class that it was."""
    for line in reversed(log.splitlines()):
        answer = _parsed(line)
        found = getattr(errors, str(answer.pop("error", "")), None)
        if isinstance(found, type) and issubclass(found, QwenkitError):
            error = found.__new__(found)
            what, why, fix = (str(answer.pop(part, "")) for part in ("what", "why", "fix"))
            QwenkitError.__init__(error, what, why, fix, **answer)
            return error
    return None


def _parsed(line: str) -> dict[str, Any]:
    try:
        answer = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}

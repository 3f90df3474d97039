"""``qwenkit upload`` and ``verify``: send weights to the bucket, and check them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.console import emit, progress_json, progress_line, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.course.interrupts import terminable

if TYPE_CHECKING:
    from qwenkit.settings import Settings
    from qwenkit.weights.progress import Progress
    from qwenkit.weights.report import UploadReport
    from qwenkit.weights.selection import Selection

_TARGETS = "oss://bucket/prefix, pvc://namespace/claim/prefix or an absolute folder."


def upload(
    source: Annotated[str, typer.Argument(help="modelscope:owner/name[@rev], hf:… or a folder.")],
    target: Annotated[str, typer.Argument(help=_TARGETS)],
    replace: Annotated[bool, typer.Option(help="Replace another revision at the target.")] = False,
    versioned: Annotated[bool, typer.Option(help="Append /<revision> to the prefix.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only files whose path matches; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Not these, even if --include matches; repeatable."),
    ] = None,
    in_cluster: Annotated[
        bool, typer.Option("--in-cluster", help="Run as a Job in the cluster, beside the bucket.")
    ] = False,
    progress: Annotated[
        bool, typer.Option("--progress", help="With --json: also a line of progress every second.")
    ] = False,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Stream a model to OSS: resumable, verified, nothing staged on disk."""
    from qwenkit.errors import SettingsError
    from qwenkit.in_cluster.weights import Weights
    from qwenkit.weights.progress import format_progress
    from qwenkit.weights.selection import Selection

    settings = _at(
        target, read_settings(params, set_, context, model_source=source, **_place(target))
    )
    selection = Selection(tuple(include or ()), tuple(exclude or ()))
    shown = progress_json(wanted=progress) if as_json else progress_line(format_progress)
    with shown as show, terminable():
        if in_cluster and target.startswith("/"):
            why = "is a folder of this machine, and no Job sees it"
            raise SettingsError("target", target, why, "leave --in-cluster out")
        if in_cluster and settings.storage == "oss":
            flags = ["--replace"] * replace + ["--versioned"] * versioned + selection.flags()
            report = _upload_in_cluster(settings, flags, show, quiet=as_json)
        elif target.startswith("/"):
            report = _copy(settings, target, replace, versioned, selection, show)
        else:
            report = Weights.of(settings).upload(
                replace=replace,
                versioned=versioned,
                selection=selection,
                progress=show,
            )
    emit(report, as_json=as_json)


def _place(target: str) -> dict[str, str]:
    """Return the settings that a target stands for; none for a folder."""
    from qwenkit.errors import SettingsError
    from qwenkit.weights.oss.url import parse_url

    if target.startswith("/"):
        return {}
    if not target.startswith("pvc://"):
        bucket, prefix = parse_url(target)
        return {"storage": "oss", "bucket": bucket, "prefix": prefix}
    namespace, _, rest = target.removeprefix("pvc://").partition("/")
    volume, _, prefix = rest.partition("/")
    if not prefix:
        raise SettingsError("target", target, "must be pvc://namespace/claim/prefix")
    return {"namespace": namespace, "volume": volume, "prefix": prefix}


def _at(target: str, settings: Settings) -> Settings:
    """A claim may be that of a NAS, which only the settings say."""
    other = target.startswith("pvc://") and settings.storage == "oss"
    return settings.model_copy(update={"storage": "pvc"}) if other else settings


def _copy(
    settings: Settings,
    folder: str,
    replace: bool,
    versioned: bool,
    selection: Selection,
    show: Callable[[Progress], None],
) -> UploadReport:
    from qwenkit.weights import folder_target
    from qwenkit.weights.store import source_of

    return folder_target.upload(
        source_of(settings),
        Path(folder),
        run=settings.run,
        replace=replace,
        versioned=versioned,
        selection=selection,
        progress=show,
        timeout_s=settings.seconds("upload"),
    )


def _upload_in_cluster(
    settings: Settings, flags: list[str], show: Callable[[Progress], None], *, quiet: bool
) -> UploadReport:
    from qwenkit.cluster.client import Cluster
    from qwenkit.in_cluster.upload import upload

    cluster = Cluster.connect(settings)
    return upload(cluster, settings, flags, progress=show, on_change=stderr_lines(quiet=quiet))


def verify(
    target: Annotated[str, typer.Argument(help=_TARGETS)],
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit 0 also if it is broken; the report says so.")
    ] = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Compare uploaded weights with their manifest: sizes, CRC, safetensors; exit 1 if broken."""
    from qwenkit.in_cluster.weights import Weights
    from qwenkit.weights import folder_target

    settings = _at(target, read_settings(None, set_, None, **_place(target)))
    if target.startswith("/"):
        report = folder_target.verify(Path(target), settings.signer)
    else:
        report = Weights.of(settings).verify()
    emit(report, as_json=as_json)
    raise typer.Exit(0 if report.ok or exit_zero else 1)

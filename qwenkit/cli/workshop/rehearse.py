"""``qwenkit workshop rehearse``: a workshop with scripted learners, before the people come."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from qwenkit.cli.console import emit, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, read_settings
from qwenkit.course.interrupts import terminable


def rehearse(
    participants: Annotated[int, typer.Option(min=1, max=500, help="Scripted learners.")] = 30,
    gpu_slots: Annotated[int, typer.Option(min=1, max=64, help="GPUs that they share.")] = 9,
    chapters: Annotated[str, typer.Option(help="Chapters and ranges of them.")] = "00-06,90",
    seed: Annotated[int, typer.Option(help="Of speeds, pauses and mistakes.")] = 1,
    time_scale: Annotated[
        float, typer.Option(min=0.1, max=1000, help="How fast the sandbox's time runs.")
    ] = 10,
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Let scripted learners go through a workshop, and report what broke; exit 0 if nothing did.

    They work on a sandbox of its own, or on the cluster of --context, where it takes hours.
    """
    from qwenkit.in_cluster.weights import Weights
    from qwenkit.sandbox import process, state_files
    from qwenkit.workshop.rehearsal import run

    wanted, show = run.chapters_of(chapters), stderr_lines(quiet=as_json)
    settings, clock = read_settings(params, set_, context), 1.0
    with terminable(), ExitStack() as stack:
        if settings.context == "sandbox":
            options = state_files.SandboxOptions(settings.gpu, gpu_slots, time_scale)
            root, _ = stack.enter_context(process.attached(options, on_note=show))
            os.environ.update(process.environment(root))
            settings, clock = read_settings(params, set_, context), time_scale
            Weights.of(settings).upload()
        folder = Path(stack.enter_context(TemporaryDirectory()))
        plan = run.Rehearsal(participants, gpu_slots, wanted, seed, clock)
        report = run.rehearse(settings, plan, folder, on_event=show)
    emit(report, as_json=as_json)
    raise typer.Exit(0 if report.ok else 1)

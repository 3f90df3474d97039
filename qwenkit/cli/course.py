"""``run`` and ``lab``: the notebooks, by papermill or in JupyterLab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from qwenkit.cli.console import stderr_lines
from qwenkit.cli.options import Context, Json, Params, Root, Set, read_settings
from qwenkit.cli.sandbox import Gpu, described
from qwenkit.sandbox import process, state_files


def run(
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    only: Annotated[str, typer.Option(help="Numbers of notebooks, such as 00,03.")] = "",
    output: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("runs"),
    notebooks: Annotated[Path | None, typer.Option(help="Folder of the notebooks.")] = None,
    as_json: Json = False,
) -> None:
    """Run the notebooks with papermill, always tear down, and write a report."""
    from qwenkit.course import runner
    from qwenkit.course.report import summarise, write_report

    settings = read_settings(params, set_, context)
    numbers = [number.strip() for number in only.split(",") if number.strip()]
    found = runner.find_notebooks(notebooks, numbers)
    chosen = runner.CourseRun(found, runner.new_folder(output))
    report = runner.run_course(chosen, settings, on_event=stderr_lines(quiet=as_json))
    index = write_report(report)
    if as_json:
        typer.echo(json.dumps(summarise(report), ensure_ascii=False))
    else:
        for problem in report.problems:
            typer.echo(f"problem: {problem}")
        typer.echo(
            f"course: {report.passed}/{len(report.notebooks)} notebooks passed "
            f"in {report.seconds:g} s → {index}"
        )
    raise typer.Exit(130 if report.interrupted else 0 if report.ok else 1)


def lab(root: Root = state_files.DEFAULT_ROOT, gpu: Gpu = state_files.SandboxOptions.gpu) -> None:
    """Open JupyterLab on the course, with the sandbox running; --gpu applies if it starts one."""
    from qwenkit.course.runner import find_notebooks

    notebooks, root = find_notebooks(None), root.absolute()
    process.sweep(lambda line: typer.echo(f"sandbox: {line}", err=True))
    with ExitStack() as stack:
        if state_files.find(root) is None:
            made = process.attached(state_files.SandboxOptions(gpu=gpu), root, on_note=typer.echo)
            typer.echo(described(stack.enter_context(made)[1], root))
        subprocess.run(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--notebook-dir",
                notebooks[0].parent,
                notebooks[0],
            ],
            env=os.environ | process.environment(root),
            check=False,
        )

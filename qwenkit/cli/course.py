"""``run`` and ``lab``: the notebooks, by papermill or in JupyterLab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli import consent
from qwenkit.cli.console import say, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Root, Set, Yes, read_settings
from qwenkit.cli.sandbox import Gpu, described
from qwenkit.sandbox import process, state_files

_LAB = """
import os, runpy, signal, sys, threading
end = int(sys.argv.pop(1))
wait = lambda: os.read(end, 1) or os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=wait, daemon=True).start()
runpy.run_module("jupyterlab", run_name="__main__", alter_sys=True)
"""

if TYPE_CHECKING:
    from qwenkit.cluster.occupants import Occupant
    from qwenkit.settings import Settings


def run(
    params: Params = None,
    set_: Set = None,
    context: Context = None,
    only: Annotated[str, typer.Option(help="Numbers of notebooks, such as 00,03.")] = "",
    output: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("runs"),
    notebooks: Annotated[Path | None, typer.Option(help="Folder of the notebooks.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run the notebooks with papermill, always tear down, and write a report.

    A run of all notebooks has a label of its own, unless --set or a params file gives one.
    """
    from qwenkit.course import runner
    from qwenkit.course.report import summarise, write_report

    settings = read_settings(params, set_, context)
    numbers = [number.strip() for number in only.split(",") if number.strip()]
    if not numbers and "run" not in settings.given:
        settings = read_settings(params, set_, context, run=runner.new_label())
    found = runner.find_notebooks(notebooks, numbers)
    rest = [path.stem for path in runner.find_notebooks(notebooks) if path not in found]
    chosen = runner.CourseRun(found, runner.new_folder(output), tuple(rest))
    evicted = _agreed(settings, yes=yes, ask=not as_json) if chosen.tears_down else []
    report = runner.run_course(
        chosen, settings, evicted=evicted, on_event=stderr_lines(quiet=as_json)
    )
    index = write_report(report)
    if as_json:
        typer.echo(json.dumps(summarise(report), ensure_ascii=False))
    else:
        for problem in report.problems:
            say(f"problem: {problem}")
        say(
            f"course: {report.passed}/{len(report.notebooks)} notebooks passed "
            f"in {report.seconds:g} s → {index}"
        )
    raise typer.Exit(130 if report.interrupted else 0 if report.ok else 1)


def _agreed(settings: Settings, *, yes: bool, ask: bool) -> list[Occupant]:
    """Return what other runs made that has to go first; a person agreed to that."""
    from qwenkit.course.target import taken_names

    taken = taken_names(settings)
    foreign = consent.others(taken, settings)
    consent.require(
        [*foreign, *(one for one in taken if one.live and one not in foreign)],
        settings,
        yes=yes,
        ask=ask,
        what="this run would remove these objects first; weights in the bucket stay"
        if foreign
        else "this run would remove them at its end, with everything else that has its label",
        fix="or choose names that are free: --set service=…, volume=… or namespace=…",
    )
    return foreign


def lab(root: Root = state_files.DEFAULT_ROOT, gpu: Gpu = state_files.SandboxOptions.gpu) -> None:
    """Open JupyterLab on the course, with the sandbox running; --gpu applies if it starts one."""
    from qwenkit.course.runner import find_notebooks

    notebooks, root = find_notebooks(None), root.absolute()
    process.sweep(lambda line: say(f"sandbox: {line}", err=True))
    with ExitStack() as stack:
        if state_files.find(root) is None:
            made = process.attached(state_files.SandboxOptions(gpu=gpu), root, on_note=say)
            say(described(stack.enter_context(made)[1], root))
        # JupyterLab reads from the pipe: it ends when this process does, however that ends.
        end, ours = os.pipe()
        stack.callback(os.close, ours)
        stack.callback(os.close, end)
        subprocess.run(
            [
                sys.executable,
                "-P",
                "-c",
                _LAB,
                str(end),
                "--notebook-dir",
                notebooks[0].parent,
                notebooks[0],
            ],
            env=os.environ | process.environment(root),
            pass_fds=[end],
            check=False,
        )

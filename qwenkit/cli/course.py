"""``run`` and ``lab``: the notebooks, by papermill or in JupyterLab."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli import consent
from qwenkit.cli.console import say, stderr_lines
from qwenkit.cli.options import Context, Json, Params, Set, Yes, read_settings
from qwenkit.cli.sandbox import Gpu, described
from qwenkit.errors import SandboxError
from qwenkit.language import language
from qwenkit.sandbox import process, root_lock, state_files

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
    lang: Annotated[
        str, typer.Option(help="Language of notebooks and report: en or zh.", show_default=False)
    ] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run the notebooks with papermill, always tear down, and write a report.

    A run of all notebooks has a label of its own, unless --set or a params file gives one.
    """
    from qwenkit.course import runner
    from qwenkit.course.report import summarise, write_report

    if lang:
        os.environ["QWENKIT_LANG"] = lang  # the kernels' too
    settings = read_settings(params, set_, context)
    numbers = [number.strip() for number in only.split(",") if number.strip()]
    if not numbers and "run" not in settings.given:
        settings = read_settings(params, set_, context, run=runner.new_label())
    found = runner.find_notebooks(notebooks, numbers, language())
    rest = [
        path.stem for path in runner.find_notebooks(notebooks, lang=language()) if path not in found
    ]
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
    """Return what other runs made that has to go first; a person agreed to that.

    A person is also asked where a lab uses the sandbox, though nothing is there yet.
    """
    from qwenkit.course.target import sandbox_of, taken_names

    root, taken = sandbox_of(settings), taken_names(settings)
    foreign = consent.others(taken, settings)
    named = [*foreign, *(one for one in taken if one.live and one not in foreign)]
    what = "this run would remove them at its end, with everything else that has its label"
    fix = "or choose names that are free: --set service=…, volume=… or namespace=…"
    if foreign:
        what = "this run would remove these objects first; weights in the bucket stay"
    elif not named:
        what = "this run would take its names and GPUs, and tear down at its end"
    if root:
        own = "in a shell without the variables of that sandbox, a run has one of its own"
        fix = f"{fix}; {own}"
    theirs = root and (named or root_lock.holder(root, root_lock.USES))
    where = [state_files.whose(root)] if root and theirs else []
    consent.require([*where, *named], settings, yes=yes, ask=ask, what=what, fix=fix)
    return foreign


def lab(
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION]...", help="Other options, as JupyterLab has them."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of a sandbox, also of one that runs; else a new one is started."),
    ] = None,
    gpu: Gpu = state_files.SandboxOptions.gpu,
    params: Params = None,
    ip: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all.")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address alone.")
    ] = False,
    allow_root: Annotated[
        bool, typer.Option("--allow-root", help="JupyterLab's option; as root it is given anyway.")
    ] = False,
) -> None:
    """Open JupyterLab on the course's start page, with a sandbox; exit as JupyterLab does.

    The sandbox is this lab's own and ends with it, unless --root names one that runs; --gpu is for
    one that is started. With --params there is none: the notebooks act on the target of that file.
    """
    from qwenkit.course import lab as course_lab

    options = [f"--ip={ip}"] * bool(ip) + [f"--port={port}"] * (port is not None)
    options += ["--no-browser"] * no_browser + ["--allow-root"] * (allow_root or not os.geteuid())
    if params:
        os.environ.update(read_settings(params, None, None).deliverable())
        raise typer.Exit(course_lab.serve(None, [*options, *(more or ())]))
    process.sweep(lambda line: say(f"sandbox: {line}", err=True))
    with ExitStack() as stack:
        if root is None or state_files.find(root.absolute()) is None:
            root, state = _own_sandbox(state_files.SandboxOptions(gpu=gpu), root, stack)
            say(described(state, root))
        else:
            say(f"sandbox: {state_files.whose(root)} is used, and stays")
        code = course_lab.serve(root.absolute(), [*options, *(more or ())])
    raise typer.Exit(code)


def _own_sandbox(
    options: state_files.SandboxOptions, root: Path | None, stack: ExitStack
) -> tuple[Path, state_files.SandboxState]:
    """Start a sandbox under ``root``, or the first free one of this user, until the stack ends."""
    roots = iter([root.absolute()]) if root else state_files.default_roots()
    while True:
        one = next(roots)
        try:
            return stack.enter_context(process.attached(options, one, on_note=say))
        except SandboxError:
            if root or not root_lock.is_locked(one):
                raise
            say(f"sandbox: not {state_files.whose(one)}, but another")

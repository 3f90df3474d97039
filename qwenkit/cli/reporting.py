"""``report``: what runs left under ``runs/``, compared and opened."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from qwenkit.cli.commands import Group
from qwenkit.cli.console import emit
from qwenkit.cli.options import Json
from qwenkit.errors import InvalidValue

app = typer.Typer(help="Reports of runs: compare two, open one.", no_args_is_help=True, cls=Group)
Runs = Annotated[Path, typer.Option("--output", help="Folder of the reports.")]
Run = Annotated[str, typer.Argument(help="An id under runs/, a run's folder or its summary.json.")]


@app.command()
def compare(
    a: Run,
    b: Run,
    noise: Annotated[float, typer.Option(help="A share; less is called the same.")] = 0.1,
    output: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show what changed from run A to run B, and what is better or worse."""
    from qwenkit.course.run_comparison import as_text, compare_runs, read_summary

    made = compare_runs(read_summary(a, output), read_summary(b, output), noise=noise)
    emit(made if as_json else as_text(made), as_json=as_json)


@app.command("open")
def open_(
    run: Annotated[str, typer.Argument(help="An id or a folder; default the newest.")] = "",
    print_: Annotated[bool, typer.Option("--print", help="Only print where it is.")] = False,
    output: Runs = Path("runs"),
) -> None:
    """Open a run's report in the browser, if there is one; print where it is."""
    given = [output / run, Path(run)] if run else output.glob("*")
    found = [page for path in given if os.path.isfile(page := path / "index.html")]
    if not found:
        raise InvalidValue("run", run, f"no report under {output}", "qwenkit run writes one")
    page = found[0] if run else max(found, key=os.path.getmtime)
    typer.echo(page)
    if not print_:
        webbrowser.open(page.absolute().as_uri())

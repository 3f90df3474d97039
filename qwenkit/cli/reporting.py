"""``report``: what runs left under ``runs/``, compared, opened, written anew."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from qwenkit.cli.console import emit
from qwenkit.cli.options import Json
from qwenkit.errors import InvalidValue

app = typer.Typer(no_args_is_help=True, help="Reports of runs: compare two, open one.")

Runs = Annotated[Path, typer.Option("--output", help="Folder of the reports.")]
_RUN = "a run: its id under runs/, its folder, or its summary.json"


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help=f"Before: {_RUN}.")],
    b: Annotated[str, typer.Argument(help="After.")],
    noise: Annotated[
        float, typer.Option(help="A share; smaller differences are called the same.")
    ] = 0.1,
    output: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show what changed from one run to another, and what is better or worse."""
    from qwenkit.course.run_comparison import compare_runs, read_summary

    summaries = read_summary(a, output), read_summary(b, output)
    emit(compare_runs(*summaries, noise=noise), as_json=as_json)


@app.command("open")
def open_(
    run: Annotated[str | None, typer.Argument(help="Its id or folder; default the newest.")] = None,
    print_: Annotated[bool, typer.Option("--print", help="Only print where it is.")] = False,
    output: Runs = Path("runs"),
) -> None:
    """Open a run's report in the browser; print where it is."""
    given = [output / run, Path(run)] if run else output.glob("*")
    found = [path / "index.html" for path in given if (path / "index.html").is_file()]
    if not found:
        rule = f"no report under {output}" + (" of this name" if run else "")
        raise InvalidValue(
            "run", run or "", rule, "qwenkit run writes one; --output names a folder"
        )
    page = found[0] if run else max(found, key=os.path.getmtime)
    typer.echo(page)
    if not print_:
        webbrowser.open(page.absolute().as_uri())

"""The steps of the course as commands. Only this package prints.

Exit codes: 0 success; 1 a negative answer or a failure; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from io import StringIO
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.main import get_command

from qwenkit import __version__
from qwenkit.cli.commands import COMMANDS, Group, Later
from qwenkit.cli.console import fail, say
from qwenkit.errors import QwenkitError
from qwenkit.errors.scrubbing import scrub
from qwenkit.language import CHINESE, language


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qwenkit {__version__}")
        raise typer.Exit


app = typer.Typer(
    help="Qwen from ModelScope to OSS, served by vLLM on Knative, scaled by real load.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # to import rich takes longer than all the rest of --help
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def _command_line() -> TyperGroup:
    """Return the app with every command of the list."""
    if language() == CHINESE:
        import_module("qwenkit.language.help").prepare()
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name, (place, line) in COMMANDS.items():
        group.add_command(Later(name, place, line))
    return group


def main() -> int:
    """Run one command; return its exit code."""
    try:
        code = _command_line()(standalone_mode=False, prog_name="qwenkit")
    except QwenkitError as error:
        return fail(error, as_json="--json" in sys.argv)
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error; typer brings its own copy of click
        if show is None:  # nobody has foreseen it: the traceback is what helps to mend it
            typer.echo(scrub("".join(traceback.format_exception(error))), err=True)
            return 1
        if "--json" in sys.argv:
            what = getattr(error, "format_message", error.__str__)()
            why = {"error": "UsageError", "what": what, "why": "wrong usage", "fix": "see --help"}
            typer.echo(json.dumps(why))
        show(shown := StringIO())
        say(shown.getvalue().rstrip(), err=True)
        return 2
    return code if isinstance(code, int) else 0

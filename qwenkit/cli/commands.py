"""The commands that commands.json lists, each imported when it is used.

The list has a line for each: its place in this package, and what ``qwenkit --help`` prints of it,
which is the first line of its own help (none: it is hidden). So help, completion and usage errors
come at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

COMMANDS: dict[str, list[str]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)


class Group(TyperGroup):
    """A group that imports a command when it is used, and prints whole lines in its help."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name, the command itself, and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Later) else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a line of each command; typer would cut it at the edge of the window."""
        shown = ((name, c) for name, c in self.commands.items() if not c.hidden)
        with formatter.section("Commands"):
            formatter.write_dl([(name, c.get_short_help_str(sys.maxsize)) for name, c in shown])


class Later(TyperCommand):
    """What stands for a command until it is used."""

    def __init__(self, name: str, place: str, line: str) -> None:
        super().__init__(name, help=line, hidden=not line)
        self._place = place

    def load(self) -> Any:
        """Import the command, or the group of commands, and return it."""
        module, _, attribute = self._place.partition(":")
        found = getattr(import_module(f"qwenkit.cli.{module}"), attribute)
        app = typer.Typer(rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            app.command(self.name)(_abortable(found))
        return get_group(app).commands[str(self.name)]


def _abortable(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn Ctrl-C into typer's Abort: of a KeyboardInterrupt typer returns 130 without a word."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Abort from None

    return run

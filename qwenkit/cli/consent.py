"""Ask before anything goes that another run made, or that serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from qwenkit.cli.console import agreed, can_ask, say
from qwenkit.errors import ConsentNeeded

if TYPE_CHECKING:
    from qwenkit.cluster.occupants import Occupant
    from qwenkit.settings import Settings


def others(taken: Sequence[Occupant], settings: Settings) -> list[Occupant]:
    """Return what other runs made."""
    return [one for one in taken if one.run != settings.run]


def require(
    taken: Sequence[object], settings: Settings, *, yes: bool, ask: bool, what: str, fix: str
) -> None:
    """Go on if nothing is taken, with ``--yes``, or if a person at the terminal agrees.

    ``what`` says what happens then, ``fix`` how to do without.

    Raises:
        ConsentNeeded: there is no terminal, or the answer is for a program.
        typer.Exit: the answer is no; nothing was changed.
    """
    if not taken or yes:
        return
    where = f"namespace {settings.namespace} of context {settings.context}"
    names = [str(one) for one in taken]
    if not (ask and can_ask()):
        raise ConsentNeeded(
            f"{where} is in use: {'; '.join(names)}",
            f"{what}, and there is no terminal to ask at; nothing was changed",
            f"repeat with --yes if that is right; {fix}",
        )
    lines = [f"{where} is in use:", *(f"  {name}" for name in names), f"{what}."]
    if not agreed("\n".join([*lines, "Go on?"]), err=True):
        say("nothing was changed", err=True)
        raise typer.Exit(1)

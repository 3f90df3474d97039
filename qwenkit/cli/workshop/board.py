"""``qwenkit workshop board``: the instructor's view in a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from qwenkit.cli.console import emit
from qwenkit.cli.options import Json

if TYPE_CHECKING:
    from qwenkit.workshop.front import Workshop

# To the first line; each line anew, and cut at the edge of the window; what was below goes.
_HOME, _LINE, _REST = "\x1b[H\x1b[?7l", "\x1b[K\n", "\x1b[J\x1b[?7h"


def board(
    workshop: Workshop,
    once: Annotated[
        bool, typer.Option("--once", help="Print it once, also on a terminal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show who is where, who holds or waits for a GPU, why a service is not ready, and the cost.

    On a terminal it refreshes until Ctrl-C, and keeps the GPU slots if nobody else does.
    """
    from qwenkit.workshop.board_reader import REFRESH_S, BoardReader

    read = BoardReader.connect(workshop.settings, workshop.name).read
    if once or as_json or not sys.stdout.isatty():
        return emit(read(), as_json=as_json)
    workshop.keep()
    with suppress(KeyboardInterrupt):
        typer.echo("\x1b[2J", nl=False)
        while True:
            lines = repr(read()).splitlines()
            typer.echo(_HOME + _LINE.join([*lines, _REST]), nl=False)
            time.sleep(REFRESH_S)

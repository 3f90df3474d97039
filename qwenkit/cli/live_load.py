"""A load test while it runs, in a terminal: figures that change in place, else a line at times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qwenkit.capacity.clock import clock_note
from qwenkit.cli.console import stderr_lines

if TYPE_CHECKING:
    from rich.table import Table

    from qwenkit.inference.load.running import RunningLoad
    from qwenkit.inference.results import LoadResult
    from qwenkit.loadtest.moment import Moment
    from qwenkit.loadtest.running import LoadTest
    from qwenkit.settings import Settings

_REDRAW_S, _LINE_S = 0.25, 5.0


def watch_load(
    settings: Settings, start: Callable[[], RunningLoad], *, quiet: bool = False
) -> LoadResult:
    """Run a load and, unless ``quiet``, show it and the replicas on stderr.

    An interrupt ends it early.
    """
    if quiet:
        return start().result()
    from qwenkit.cluster.client import Cluster
    from qwenkit.loadtest.running import LoadTest

    test = LoadTest(Cluster.connect(settings), settings.service, start)
    try:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        (_redraw if terminal else _print)(test)
    except KeyboardInterrupt:
        test.stop()
    return test.result().load


def _print(test: LoadTest) -> None:
    tell, due_s = stderr_lines(quiet=False), _LINE_S
    while not test.load.done:
        time.sleep(_REDRAW_S)
        if test.load_seconds >= due_s:
            due_s += _LINE_S
            now = test.snapshot()
            tell(f"{now.at_s:6.1f} s  {now}")


def _redraw(test: LoadTest) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(
        console=Console(stderr=True), auto_refresh=False, transient=True, redirect_stdout=False
    ) as live:
        while not test.load.done:
            live.update(_table(test.snapshot()), refresh=True)
            time.sleep(_REDRAW_S)


def _table(now: Moment) -> Table:
    from rich.table import Table

    table = Table(
        title=f"load: {now.at_s:.0f} s, Ctrl-C ends it",
        caption=clock_note(now.clock) or None,
        show_header=False,
        width=72,  # else it would grow and shrink with its figures
    )
    for name, value in now.figures().items():
        table.add_row(name, value)
    return table

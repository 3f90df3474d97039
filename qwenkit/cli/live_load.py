"""A load test while it runs, in a terminal: figures that change in place, else a line at times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qwenkit.capacity.simulation.clock import clock_note
from qwenkit.cli.console import tell, throttled
from qwenkit.language import said

if TYPE_CHECKING:
    from rich.table import Table

    from qwenkit.inference.load.running import RunningLoad
    from qwenkit.inference.results import LoadResult
    from qwenkit.loadtest.moment import Moment
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
        with _shown() as show:
            while not test.load.done:
                show(test.snapshot())
                time.sleep(_REDRAW_S)
    except KeyboardInterrupt:
        test.stop()
    return test.result().load


@contextmanager
def _shown() -> Iterator[Callable[[Moment], None]]:
    """Yield what shows a moment: a table that is redrawn, or a line from time to time."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield throttled(lambda now: tell(f"{now.at_s:6.1f} s  {now}"), _LINE_S)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        yield lambda now: live.update(_table(now), refresh=True)


def _table(now: Moment) -> Table:
    from rich.table import Table

    table = Table(
        title=said(f"load: {now.at_s:.0f} s, Ctrl-C ends it"),
        caption=said(clock_note(now.clock)) or None,
        show_header=False,
        width=72,  # else it would grow and shrink with its figures
    )
    for name, value in now.figures().items():
        table.add_row(said(name), said(value))
    return table

"""Run a coroutine in time that stands still while the machine lets nothing of it run.

What then happens first depends on the program, not on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

_TURN_S = 0.001
"""What one turn of the loop may take of its time, however long it took."""
T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Waits as ever; ``now`` counts what was waited for, and a little for each turn of work."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._woke = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        begun = time.monotonic()
        found = super().select(timeout)
        worked, self._woke = begun - self._woke, time.monotonic()
        waited = self._woke - begun
        self.now += min(worked, _TURN_S) + (waited if timeout is None else min(waited, timeout))
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._paced = _Selector()
        super().__init__(self._paced)

    def time(self) -> float:
        return self._paced.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end on a loop whose time is paced and begins at 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)

"""When to try again, and how long to wait: exponential back-off with full jitter."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from qwenkit.errors import TransferError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Backoff:
    """Wait a random time up to ``base_s * 2**failures``, never more than ``cap_s``."""

    attempts: int = 12
    base_s: float = 0.2
    cap_s: float = 20.0

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after this many failures in a row."""
        return random.uniform(0, min(self.cap_s, self.base_s * 2.0 ** (failures - 1)))


class Stop:
    """Why work should end early: somebody cancelled, or a sibling failed."""

    def __init__(self, cancel: threading.Event | None = None) -> None:
        self._cancel = cancel
        self._failed = threading.Event()

    def set(self) -> None:
        """Ask every thread to end at its next check."""
        self._failed.set()

    def check(self) -> None:
        """Raise if the work should end."""
        if self._failed.is_set() or (self._cancel and self._cancel.is_set()):
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than the work should go on."""
        event = self._cancel or self._failed
        while seconds > 0:
            self.check()
            # Two events cannot be waited for at once: look at the other one often.
            event.wait(min(seconds, 0.2))
            seconds -= 0.2
        self.check()


class Stopped(TransferError):
    """Raised inside worker threads only: the reason is elsewhere."""

    def __init__(self) -> None:
        super().__init__("the transfer was stopped")


@dataclass(frozen=True)
class Patience:
    """How often to try, what ends the trying early, and who is told of every new attempt."""

    backoff: Backoff = field(default_factory=lambda: Backoff(attempts=6))
    stop: Stop = field(default_factory=Stop)
    on_retry: Callable[[], None] = lambda: None


def retry(
    action: Callable[[], Result],
    patience: Patience,
    retryable: Callable[[Exception, int], bool],
) -> Result:
    """Run ``action`` until it returns, its error is final, or the attempts are used up.

    Args:
        action: run anew each time, so that it rebuilds whatever it sends.
        patience: how often, and until when.
        retryable: told the error and how many attempts failed.
    """
    for failures in range(1, patience.backoff.attempts):
        patience.stop.check()
        try:
            return action()
        except Exception as error:
            if not retryable(error, failures):
                raise
        patience.on_retry()
        patience.stop.wait(patience.backoff.delay_s(failures))
    return action()

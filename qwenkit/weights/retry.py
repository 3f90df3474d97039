"""When a request is repeated, and after how long: exponential back-off with full jitter."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from qwenkit.errors import TransferError, Unreachable

Result = TypeVar("Result")


class Stop:
    """Tells all threads of an upload to end: one file failed, or the user interrupted it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Tell every thread to end at its next check."""
        self._event.set()

    def check(self) -> None:
        """Raise ``Stopped`` if the work should end."""
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Sleep, or raise ``Stopped`` as soon as the work should end."""
        if self._event.wait(seconds):
            raise Stopped("the transfer was stopped")


class Stopped(TransferError):
    """Raised in worker threads only: another error is the reason."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try, and how long to wait: a random time up to ``base_s * 2**failures``.

    It is never more than ``cap_s``. ``stop`` ends the attempts early, ``on_retry`` is called
    before each new one.
    """

    attempts: int = 6
    base_s: float = 0.2
    cap_s: float = 20.0
    stop: Stop = field(default_factory=Stop)
    on_retry: Callable[[], None] = lambda: None

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after this many failures in a row."""
        return random.uniform(0, min(self.cap_s, self.base_s * 2.0 ** (failures - 1)))


def retry(
    action: Callable[[], Result],
    policy: RetryPolicy,
    retryable: Callable[[Exception, int], bool],
) -> Result:
    """Run ``action`` until it returns, its error is final, or no attempt is left.

    ``action`` must rebuild what it sends. ``retryable`` gets the error and the number of failed
    attempts.
    """
    for failures in range(1, policy.attempts):
        policy.stop.check()
        try:
            return action()
        except Exception as error:
            if not retryable(error, failures):
                raise
        policy.on_retry()
        policy.stop.wait(policy.delay_s(failures))
    return action()


def no_answer(what: str, endpoint: str, error: Exception) -> Unreachable:
    """Return the error for a server that does not answer.

    It has only the type of ``error``, whose message may contain a signature.
    """
    return Unreachable(
        f"{what}: {endpoint} does not answer",
        type(error).__name__,
        "check the network, the endpoint and the proxy variables",
    )

"""When a request is repeated, and after how long: exponential back-off with full jitter."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from qwenkit.errors import TransferError, Unreachable, WaitTimeout
from qwenkit.untrusted.pauses import asked_pause

Result = TypeVar("Result")


LONGEST_PAUSE_S = 300.0  # the window of Hugging Face's limits; who asks for more is left
_log = logging.getLogger("qwenkit.weights")
_of_thread = threading.local()


class Stop:
    """Tells all threads of an upload to end: a file failed, time is up, or the user says so.

    ``limit_s`` is the time that the whole may take.
    """

    def __init__(self, limit_s: float = math.inf) -> None:
        self._event = threading.Event()
        self._limit_s, self._ends = limit_s, time.monotonic() + limit_s

    def activate(self) -> None:
        """Let this thread's requests, and the policies that it makes, end with this signal."""
        _of_thread.stop = self

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let this thread's requests end with this signal, until the block ends."""
        before = active_stop()
        self.activate()
        try:
            yield
        finally:
            before.activate()

    def set(self) -> None:
        """Tell every thread to end at its next check."""
        self._event.set()

    def check(self) -> None:
        """Raise ``Stopped`` or ``WaitTimeout`` if the work should end."""
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Sleep, or raise ``Stopped`` or ``WaitTimeout`` as soon as the work should end."""
        left = max(0.0, self._ends - time.monotonic())
        if self._event.wait(min(seconds, left)):
            raise Stopped(
                "the transfer was stopped",
                "another file failed, or it was interrupted",
                "repeat it: it resumes",
            )
        if self._ends <= time.monotonic():
            raise WaitTimeout(
                f"the upload did not end within {self._limit_s:g} s",
                "upload_timeout_s limits the whole of it",
                "raise upload_timeout_s",
            )


def active_stop() -> Stop:
    """Return the signal of this thread; one that is never given if it works for no upload."""
    found: Stop | None = getattr(_of_thread, "stop", None)
    return found or Stop()


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
    stop: Stop = field(default_factory=active_stop)
    on_retry: Callable[[], None] = lambda: None

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after this many failures in a row."""
        return random.uniform(0, min(self.cap_s, self.base_s * 2.0 ** (failures - 1)))

    def pause(self, failures: int, error: Exception) -> None:
        """Wait before the next attempt, at least as long as the server's answer asks for."""
        if asked := asked_s(error):
            said = getattr(error, "what", "") or f"the answer was {getattr(error, 'status', error)}"
            _log.warning("%s; waiting %.0f s, as it asks", said, asked)
        self.stop.wait(max(asked, self.delay_s(failures)))


def asked_s(error: Exception) -> float:
    """Return the seconds that a hub or OSS asked to wait; 0 if it did not."""
    stated = getattr(error, "context", {}).get("pause_s")
    return float(asked_pause(getattr(error, "headers", {})) if stated is None else stated)


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
            policy.pause(failures, error)
    return action()


def no_answer(what: str, endpoint: str, error: Exception) -> Unreachable:
    """Return the error for a server that does not answer.

    It has only the type of ``error``, whose message may contain a signature.
    """
    why, fix = type(error).__name__, "check the network, the endpoint and the proxy variables"
    if "SOCKS" in str(error):
        why = "a SOCKS proxy (ALL_PROXY, HTTPS_PROXY) needs a package that is not installed"
        fix = "pip install pysocks, or unset the variable; NO_PROXY names hosts without a proxy"
    return Unreachable(f"{what}: {endpoint} does not answer", why, fix)

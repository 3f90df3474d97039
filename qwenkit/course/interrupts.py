"""Let SIGTERM end a program as Ctrl-C does: it cleans up first.

As process 1 of a container a Python program would otherwise ignore SIGTERM, and be killed once
the pod's grace period is over.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: object) -> None:
        if number == signal.SIGHUP:  # the shell repeats the kernel's: not to end the cleaning up
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise KeyboardInterrupt

    # An ignored signal stays ignored, as nohup requires.
    before = {n: handler for n in _ENDS if (handler := signal.getsignal(n)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)

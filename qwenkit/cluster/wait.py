"""Wait for a state by polling, with a deadline, an early failure and what was seen on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from qwenkit.errors import QwenkitError, Unreachable, WaitTimeout

T = TypeVar("T")

# An API server that restarts is silent for a while; the objects behind it go on.
SILENCE_S = 60.0


@dataclass(frozen=True)
class Transition:
    """A state that was first seen ``at_s`` seconds into the wait."""

    at_s: float
    state: str

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.state}"


OnChange = Callable[[Transition], None]


@dataclass(frozen=True, repr=False)
class Waited(Generic[T]):
    """How a wait ended well: the last value, the seconds, the states on the way."""

    value: T
    seconds: float
    transitions: tuple[Transition, ...]

    def __str__(self) -> str:
        return f"{self.transitions[-1].state} after {self.seconds:.1f} s"

    __repr__ = __str__


def wait(
    poll: Callable[[], T],
    *,
    what: str,
    ready: Callable[[T], bool],
    describe: Callable[[T], str],
    timeout_s: float,
    failed: Callable[[T], QwenkitError | None] = lambda _value: None,
    every_s: float = 1.0,
    on_change: OnChange | None = None,
    fix: Callable[[T], tuple[str, str]] = lambda _value: ("", ""),
) -> Waited[T]:
    """Poll until ``ready``; at least once, even with no time left.

    Args:
        poll: reads the state; it changes nothing, so an interrupt leaves nothing half done.
        what: what is waited for, for the message.
        ready: whether a value is the goal.
        describe: a value in a few words; a change of it is a transition.
        timeout_s: deadline on the monotonic clock.
        failed: the error if waiting longer is useless.
        every_s: seconds between two polls.
        on_change: called at each transition.
        fix: why and fix for the timeout's message, from the last value.

    Raises:
        WaitTimeout: the deadline passed; its context holds ``last`` and ``transitions``.
        QwenkitError: whatever ``failed`` returned, with the same context.
    """
    read = _patiently(poll, every_s)
    start = time.monotonic()
    seen: list[Transition] = []
    while True:
        value = read()
        elapsed = time.monotonic() - start
        state = describe(value)
        if not seen or seen[-1].state != state:
            seen.append(Transition(elapsed, state))
            if on_change is not None:
                on_change(seen[-1])
        if ready(value):
            return Waited(value, elapsed, tuple(seen))
        facts = {"last": state, "transitions": [str(transition) for transition in seen]}
        error = failed(value)
        if error is not None:
            error.context |= facts
            raise error
        if elapsed >= timeout_s:
            why, advice = fix(value)
            raise WaitTimeout(
                f"{what}: not after {timeout_s:g} s", why or f"last state: {state}", advice, **facts
            )
        time.sleep(min(every_s, max(timeout_s - elapsed, 0)))


def _patiently(poll: Callable[[], T], every_s: float) -> Callable[[], T]:
    """Return ``poll`` that sits out a silence, once a first answer has come."""
    heard: float | None = None

    def read() -> T:
        nonlocal heard
        while True:
            try:
                value = poll()
            except Unreachable:
                if heard is None or time.monotonic() - heard > SILENCE_S:
                    raise
                time.sleep(every_s)
            else:
                heard = time.monotonic()
                return value

    return read

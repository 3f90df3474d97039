"""Wait for a state by polling, with a deadline, early failure and a record of transitions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from qwenkit.cluster.api.retries import within
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.errors import QwenkitError, WaitTimeout
from qwenkit.language import Shown

T = TypeVar("T")
# What the last look at the state, and the explanation of it, may take after the deadline.
_POLL_S, _EXPLAIN_S = 3.0, 10.0


@dataclass(frozen=True, repr=False)
class Transition(Shown):
    """A state that was first seen ``at_s`` seconds into the wait."""

    at_s: float
    state: str

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.state}"


OnChange = Callable[[Transition], None]


@dataclass(frozen=True, repr=False)
class Waited(Shown, Generic[T]):
    """A wait that reached its goal: the last value, the seconds, the transitions."""

    value: T
    seconds: float
    transitions: tuple[Transition, ...]

    def __str__(self) -> str:
        return f"{self.transitions[-1].state} after {self.seconds:.1f} s"


def wait(
    poll: Callable[[], T],
    *,
    what: str,
    ready: Callable[[T], bool],
    describe: Callable[[T], str],
    timeout_s: float,
    failed: Callable[[T], QwenkitError | None] = lambda _value: None,
    late: Callable[[T], Explanation | None] = lambda _value: None,
    every_s: float = 1.0,
    on_change: OnChange | None = None,
) -> Waited[T]:
    """Poll until ``ready``; at least once, even with no time left.

    Args:
        poll: reads the state and changes nothing.
        what: the goal, for the message.
        ready: whether a value is the goal.
        describe: a value in a few words; a change of it is a transition.
        timeout_s: deadline on the monotonic clock.
        failed: the error if waiting longer is useless.
        late: explains the last value when the deadline has passed.
        every_s: seconds between two polls.
        on_change: called at each transition.

    Raises:
        WaitTimeout: the deadline passed; its context holds ``last`` and ``transitions``.
        QwenkitError: the error that ``failed`` returned, with the same context.
    """
    start = time.monotonic()
    transitions: list[Transition] = []
    while True:
        with within(max(timeout_s - (time.monotonic() - start), _POLL_S)):
            value = poll()
        now = Transition(time.monotonic() - start, describe(value))
        if not transitions or transitions[-1].state != now.state:
            transitions.append(now)
            if on_change is not None:
                on_change(now)
        if ready(value):
            return Waited(value, now.at_s, tuple(transitions))
        with within(max(timeout_s - now.at_s, _POLL_S)):
            error = failed(value)
        if error is None and now.at_s >= timeout_s:
            found = _explained(late, value) or Explanation("late", f"last state: {now.state}")
            error = found.error(f"{what}: not after {timeout_s:g} s", WaitTimeout)
        if error is not None:
            error.context |= {"last": now.state, "transitions": list(map(str, transitions))}
            raise error
        time.sleep(min(every_s, max(timeout_s - now.at_s, 0)))


def _explained(late: Callable[[T], Explanation | None], value: T) -> Explanation | None:
    """Return the explanation of the last value, None if the cluster does not answer for it."""
    try:
        with within(_EXPLAIN_S):
            return late(value)
    except QwenkitError:
        return None

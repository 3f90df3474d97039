"""Repeat a request to the API server: what is repeated, how often, how long.

As client-go, 429 and 5xx are repeated with the pause that ``Retry-After`` asks for; beyond it, so
are lost connections and answers that are no API server's, because every request of ours may be
sent twice: reads, server-side apply, merge patches, and deletions that name the uid.
"""

from __future__ import annotations

import logging
import math
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TypeVar

from qwenkit.cluster.api.transport import Reply
from qwenkit.errors import QwenkitError
from qwenkit.untrusted.pauses import asked_pause

log = logging.getLogger("qwenkit.cluster")
T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
# A server may ask for a longer pause than ours, but is not believed beyond this.
_LONGEST_ASKED_S = 30.0
# The object or the list changed meanwhile: reading it again helps soon or never.
_CHANGED = (409, 410)
_CHANGED_TRIES = 6
_PERMANENT_5XX = (501, 505)
_NOTICE_S = 2.0
# A server that was away for so long is not waited for again until it answers.
_OUTAGE_S = 30.0
# Of the time left a try gets half, but this much if it is there, and in any case the least.
_SHORT_S, _LEAST_S = 3.0, 1.0
_DENIED = r"denied the request|exceeded quota"
_TLS, _BROKEN = r"SSL|X509|certificate", r"EOF|timed out|reset|closed"

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
# Whether a request is a part of another one that is repeated with it, as a look before a change.
_is_part: ContextVar[bool] = ContextVar("is_part", default=False)


class Transient(Exception):
    """A try that failed and may be repeated; ``error`` says why, ``after_s`` when."""

    def __init__(self, error: QwenkitError, *, after_s: float = 0.0, changed: bool = False) -> None:
        super().__init__(error.what)
        self.error, self.after_s, self.changed = error, after_s, changed


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit all requests of the block together; the shortest of several limits holds."""
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def is_transient(reply: Reply, message: str) -> bool:
    """Return whether the same request may be answered otherwise a little later."""
    status = reply.status
    if reply.is_html:
        return status < 300 or status in (404, 429) or status >= 500
    if status == 422:  # the uid that we name is another object's: look again
        return "metadata.uid" in message
    if status >= 500:
        return status not in _PERMANENT_5XX and not is_denied(message)
    return status in (408, 429, *_CHANGED)


def is_denied(message: str) -> bool:
    """Return whether a message of a 403 or 500 is admission's decision."""
    return re.search(_DENIED, message) is not None


def is_untrusted(why: str) -> bool:
    """Return whether TLS failed for good, as by a certificate, and not because of the network."""
    return bool(re.search(_TLS, why)) and not re.search(_BROKEN, why)


def failed(reply: Reply, error: QwenkitError) -> Transient:
    """Return the transient failure of an answer."""
    after_s = min(asked_pause(reply.headers), _LONGEST_ASKED_S)
    return Transient(error, after_s=after_s, changed=reply.status in (*_CHANGED, 422))


class Retries:
    """The retries of one cluster; says once in each outage that it waits.

    ``patience_s`` limits each request where no shorter ``within`` does, ``try_s`` each try.
    """

    def __init__(self, *, patience_s: float, try_s: float) -> None:
        self._patience_s, self._try_s = patience_s, try_s
        self._given_up = self._said = False

    def run(self, once: Callable[[], T]) -> T:
        """Return what ``once`` returns; repeat it while it raises ``Transient``.

        Raises:
            QwenkitError: that of the last try, or the first that is not transient.
        """
        began = time.monotonic()
        patience_s = _SHORT_S if self._given_up else self._patience_s
        is_part, tries = _is_part.get(), 0
        with within(patience_s):
            while True:
                tries += 1
                try:
                    found = _called(once)
                except Transient as failure:
                    waited_s = time.monotonic() - began
                    left_s = _deadline.get() - time.monotonic()
                    if left_s <= 0 or (failure.changed and tries >= _CHANGED_TRIES):
                        self._given_up = waited_s >= min(self._patience_s, _OUTAGE_S)
                        raise _last(failure.error, tries, waited_s) from None
                    if waited_s >= _NOTICE_S:
                        self.say(_seen(failure.error), failure.error.fix)
                    time.sleep(_pause(failure.after_s, tries, left_s))
                else:
                    self._given_up = False
                    self._said = self._said and is_part
                    return found

    def limit_s(self) -> float:
        """Return how long the next try may take: half of the time left, so that two fit."""
        left_s = _deadline.get() - time.monotonic()
        return min(self._try_s, max(left_s / 2, min(left_s, _SHORT_S), _LEAST_S))

    def say(self, what: str, fix: str = "") -> None:
        """Say once in each outage that a request takes longer."""
        if self._said:
            return
        self._said = True
        until = datetime.now() + timedelta(seconds=max(_deadline.get() - time.monotonic(), 0))
        text = f"{what}; trying again until {until:%H:%M:%S}. {fix}"
        log.warning(text.rstrip())


def _called(once: Callable[[], T]) -> T:
    token = _is_part.set(True)
    try:
        return once()
    finally:
        _is_part.reset(token)


def _pause(asked_s: float, tries: int, left_s: float) -> float:
    """Return the seconds before the next try; the last one comes shortly before the deadline."""
    pause = min(_FIRST_PAUSE_S * 2 ** min(tries - 1, 10), _LONGEST_PAUSE_S)
    wanted = max(asked_s, pause * random.uniform(0.8, 1.2))
    return min(wanted, left_s - 0.75) if left_s > 1 else left_s


def _seen(error: QwenkitError) -> str:
    status = error.context.get("status")
    seen = f"answers {status}" if status else "does not answer"
    return f"the API server {seen} ({error.why})"


def _last(error: QwenkitError, tries: int, seconds: float) -> QwenkitError:
    error.context |= {"tries": tries}
    if tries > 1:
        error.why = f"{error.why}; {tries} tries in {seconds:.0f} s"
    return error

"""The pause that a server asks for in the headers of its answer."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_RESETS = ("RateLimit-Reset", "X-RateLimit-Reset", "X-Rate-Limit-Reset")
_EPOCH_S = 1e9  # a larger number is a time since 1970


def asked_pause(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait; 0 if the headers ask for no pause that can be understood.

    ``RateLimit`` is ``"api";r=0;t=55``, of several policies those that have nothing left.

    Sources: RFC 9110; the IETF's draft of RateLimit headers, with its older forms.
    """
    policies = headers.get("RateLimit", "").split(",")
    empty = [one for one in policies if re.search(r";\s*r=0\b", one)] or policies
    limits = re.findall(r"[;\s](?:t|reset)=(\d{1,12})\b", "".join(empty))
    resets = [headers.get(name, "") for name in _RESETS]
    asked = (headers.get("Retry-After", ""), str(max(map(int, limits), default="")), *resets)
    return next(filter(None, map(_seconds, asked)), 0.0)


def _seconds(text: str) -> float:
    """Return a number of seconds, or those until a date or a time since 1970; 0 for others."""
    try:
        seconds = float(text)
        seconds -= time.time() if seconds > _EPOCH_S else 0.0
    except ValueError:
        try:
            date = parsedate_to_datetime(text.strip())
            seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0

"""What an answer tells about the clock of its server."""

from __future__ import annotations

import math
from collections.abc import Mapping

HEADER = "x-qwenkit-clock"


def told_clock(headers: Mapping[str, str], otherwise: float = 1.0) -> float:
    """Return how many times faster than the GPU that it models the server runs.

    A real gateway does not tell: then it is ``otherwise``, as it is for what is no such number.
    """
    try:
        clock = float(headers.get(HEADER, ""))
    except ValueError:
        return otherwise
    return clock if 0 < clock < math.inf else otherwise

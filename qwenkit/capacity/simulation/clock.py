"""What a server's clock does to its figures, said in one place.

A server that stands in for a GPU may run ``clock`` times faster than the GPU that it models: its
figures are then not the GPU's. Nothing here knows who stands in for whom: a clock of 1 says
nothing, as on any real cluster.
"""

from __future__ import annotations


def clock_note(clock: float) -> str:
    """Return the sentence for figures that were measured at a clock; empty at 1.

    >>> clock_note(10)
    "clock × 10: a stand-in for the GPU; the GPU's own times are 10 × longer, its rates 10 × lower"
    """
    if clock == 1:
        return ""
    return (
        f"clock × {clock:g}: a stand-in for the GPU; the GPU's own times are {clock:g} × longer, "
        f"its rates {clock:g} × lower"
    )


def on_gpu(seconds: float, clock: float) -> str:
    """Return a time as it was measured and, if the clock is not 1, in the GPU's own time.

    >>> on_gpu(0.0042, 10)
    '4.2 ms (42 ms on the GPU)'
    """
    measured = _shown(seconds)
    return measured if clock == 1 else f"{measured} ({_shown(seconds * clock)} on the GPU)"


def _shown(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"

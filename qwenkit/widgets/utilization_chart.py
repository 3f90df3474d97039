"""The chart of GPU utilisation beside the load that it does not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenkit.widgets.svg import (
    AMBER,
    BLUE,
    FOOT,
    LEFT,
    RED,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Chart,
    Plot,
    peaks,
)

if TYPE_CHECKING:
    from qwenkit.capacity.result import SimulationResult

_UPPER, _LOWER, _MEAN_S = 90, 130, 15


def utilization_chart(result: SimulationResult) -> Chart:
    """Draw GPU utilisation (means of 15 s) above, requests running and waiting below."""
    x = Axis(0, result.t[-1], LEFT, WIDTH - RIGHT)
    foot = 2 * TOP + _UPPER + _LOWER
    most = max(1, *result.concurrency)
    upper = Plot(x, Axis(0, 100, TOP + _UPPER, TOP))
    lower = Plot(x, Axis(0, most, foot, foot - _LOWER))
    upper.grid("GPU, %", count=2)
    lower.grid("requests", whole=True)
    lower.foot("seconds")
    starts = range(0, len(result.t), _MEAN_S)
    seconds = [result.gpu_utilization[start : start + _MEAN_S] for start in starts]
    means = [100 * sum(each) / len(each) for each in seconds]
    upper.area(zip(starts, means, strict=True), RED, "GPU utilization")
    upper.legend({"GPU utilization": RED})
    lower.area(peaks(result.t, result.concurrency), AMBER, "in flight")
    lower.area(peaks(result.t, result.queue), BLUE, "of them waiting")
    lower.legend({"in flight": AMBER, "of them waiting": BLUE})
    busy = sum(share > 0.99 for share in result.gpu_utilization) / len(result.t)
    text = (
        f"GPU utilization is 100 % in {100 * busy:.0f} % of the seconds; up to {most} requests "
        f"are in flight, and up to {max(result.queue)} of them wait"
    )
    return Chart([*upper.parts, *lower.parts], foot + FOOT, text)

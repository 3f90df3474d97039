"""The chart of a cold start: its steps as bars on one time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenkit.widgets.svg import BLUE, FOOT, WIDTH, Axis, Chart, Plot, text_width

if TYPE_CHECKING:
    from qwenkit.cluster.diagnosis.cold_start import ColdStart

_ROW = 24


def cold_start_chart(started: ColdStart) -> Chart:
    """Draw the steps of a cold start as bars on one time axis.

    >>> from qwenkit import Cluster, Settings, cold_start, cold_start_chart
    >>> cold_start_chart(cold_start(Cluster.connect(Settings()), Settings().service))
    cold start: ... s, longest: ...
    """
    left = 16 + max((text_width(step.name) for step in started.steps), default=0.0)
    foot = 10 + _ROW * max(1, len(started.steps))
    # Room at the right for the seconds behind the longest bar.
    x = Axis(0, max(started.total_s, 1.0), left, WIDTH - 64)
    plot = Plot(x, Axis(0, 1, foot, 10))
    plot.foot("seconds since the pod was created")
    for number, step in enumerate(started.steps):
        y = 10 + _ROW * (number + 0.5)
        plot.words(left - 6, y + 4, step.name, anchor="end")
        tip = f"{step.name}: {step.seconds:.1f} s, done at {step.at_s:.1f} s {step.note}".rstrip()
        plot.bar(step.at_s - step.seconds, step.at_s, y, BLUE, tip)
        plot.words(max(x.at(step.at_s), x.start + 2) + 5, y + 4, f"{step.seconds:.1f} s")
    text = f"cold start: {started.total_s:.1f} s"
    if started.steps:
        longest = max(started.steps, key=lambda step: step.seconds)
        text += f", longest: {longest.name} {longest.seconds:.1f} s"
    return Chart(plot.parts, foot + FOOT, text)

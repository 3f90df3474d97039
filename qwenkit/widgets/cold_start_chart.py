"""The chart of a cold start: a waterfall of its steps on one time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenkit.capacity.simulation.clock import clock_note
from qwenkit.widgets.svg import AMBER, BLUE, FOOT, GREY, TOP, WIDTH, Axis, Chart, Plot, text_width

if TYPE_CHECKING:
    from qwenkit.cluster.diagnosis.cold_start import ColdStart

_ROW, _RIGHT = 24, 150
_COLORS = {"cluster": BLUE, "server": AMBER, "not attributed": GREY}


def cold_start_chart(started: ColdStart) -> Chart:
    """Draw the steps of a cold start as bars, each from where the one before it ended.

    Behind each bar: its seconds, in brackets those of the modelled GPU if the node's clock is
    faster, and its share of the whole.

    >>> from qwenkit import Cluster, Settings, cold_start, cold_start_chart
    >>> cold_start_chart(cold_start(Cluster.connect(Settings()), Settings().service))
    cold start: ... s, longest: ...
    """
    fast = started.clock != 1
    steps = started.steps
    left = 16 + max((text_width(step.name) for step in steps), default=40.0)
    foot = TOP + _ROW * (len(steps) + 1)
    x = Axis(0, max(started.total_s, 1.0), left, WIDTH - _RIGHT)
    plot = Plot(x, Axis(0, 1, foot, TOP))
    groups = {step.group for step in steps}
    plot.legend({name: color for name, color in _COLORS.items() if name in groups})
    note = f"; clock × {started.clock:g}: in brackets the GPU's own" if fast else ""
    plot.foot(f"seconds since the pod was created{note}")

    def row(number: int, name: str, end_s: float, times: tuple[float, float], share: str) -> None:
        y = TOP + _ROW * (number + 0.5) + 4
        plot.words(left - 6, y, name, anchor="end")
        own = f" ({_seconds(times[1])})" if fast else ""
        plot.words(max(x.at(end_s), left + 2) + 5, y, f"{_seconds(times[0])}{own}{share}")

    for number, step in enumerate(steps):
        tip = f"{step.name}: {step.seconds:.1f} s, done at {step.at_s:.1f} s {step.note}".rstrip()
        y = TOP + _ROW * (number + 0.5)
        plot.bar(step.at_s - step.seconds, step.at_s, y, _COLORS[step.group], tip)
        own = (step.seconds, started.own_s(step))
        row(number, step.name, step.at_s, own, f" · {started.percent(step):.0f} %")
    row(len(steps), "total", started.total_s, (started.total_s, started.own_s(*steps)), "")
    text = f"cold start: {started.total_s:.1f} s"
    if steps:
        longest = max(steps, key=lambda step: step.seconds)
        text += f", longest: {longest.name} {longest.seconds:.1f} s"
    whole = "; ".join(filter(None, [text, clock_note(started.clock)]))
    return Chart(plot.parts, foot + FOOT, whole)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 99.95 else f"{value:.0f} s"

"""A simulated run as a picture: requests in flight above, replicas below, on one time axis.

Drawn here and not by ``charts``: a slider waits for this one, and it takes a millisecond where a
Vega-Lite description takes a hundred, and the first in a process a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from qwenkit.capacity.result import SimulationResult
from qwenkit.widgets.charts import AMBER, BLUE, GREY, TEXT, WIDTH, changes

_LEFT, _RIGHT, _HEIGHT, _GAP, _FOOT = 44, 70, 110, 24, 36
_POINTS = 1500  # more than the pixels of the width are drawn in vain
_STEPS = (1, 2, 5)


class Picture:
    """A drawn run; ``text`` says in a line what it shows."""

    def __init__(self, svg: str, text: str) -> None:
        self._svg, self.text = svg, text

    def __repr__(self) -> str:
        return self.text

    def svg(self) -> str:
        """Return the picture as SVG."""
        return self._svg

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": self.text, "image/svg+xml": self._svg}


def draw_run(result: SimulationResult) -> Picture:
    """Draw a simulated run."""
    end, lower = max(1, *result.t), _HEIGHT + _GAP
    text = f"at most {max(result.ready, default=0)} replicas ready"
    load = _Plot(10, end, max(1, *result.concurrency))
    most = max(1, *result.desired, *result.ready)
    replicas = _Plot(10 + lower, end, most)
    parts = [
        *load.axes("requests in flight"),
        load.area(_peaks(result.t, result.concurrency), AMBER),
        *replicas.axes("replicas"),
        *replicas.seconds(),
        replicas.line(zip(result.t, result.desired, strict=True), GREY, dashes="4 3"),
        replicas.line(zip(result.t, result.ready, strict=True), BLUE),
        _label(WIDTH + _LEFT + 8, lower + 24, "start", "desired", GREY),
        _label(WIDTH + _LEFT + 8, lower + 42, "start", "ready", BLUE),
    ]
    width, height = _LEFT + WIDTH + _RIGHT, 10 + lower + _HEIGHT + _FOOT
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}" '
        f'font-family="system-ui, sans-serif" font-size="11">{"".join(parts)}</svg>',
        text,
    )


@dataclass(frozen=True, slots=True)
class _Plot:
    """One of the two plots: where it begins, and how far its axes go."""

    top: int
    end: float
    most: int

    def _x(self, t: float) -> float:
        return round(_LEFT + WIDTH * t / self.end, 1)

    def _y(self, value: float) -> float:
        return round(self.top + _HEIGHT * (1 - value / self.most), 1)

    def axes(self, title: str) -> Iterator[str]:
        """Draw the value axis with its grid and the frame's lower edge."""
        for value in _ticks(self.most, 4):
            y = self._y(value)
            yield f'<path d="M{_LEFT} {y}h{WIDTH}" stroke="#8884"/>'
            yield _label(_LEFT - 6, y + 4, "end", str(value))
        x, y = 11, self.top + _HEIGHT / 2
        turned = f'transform="rotate(-90 {x} {y:g})"'
        yield _label(x, y, "middle", title, more=turned)

    def seconds(self) -> Iterator[str]:
        """Draw the time axis below."""
        below = self.top + _HEIGHT
        for second in _ticks(math.floor(self.end), 8):
            yield f'<path d="M{self._x(second)} {below}v4" stroke="#8888"/>'
            yield _label(self._x(second), below + 16, "middle", str(second))
        yield _label(_LEFT + WIDTH / 2, below + 32, "middle", "seconds")

    def line(self, points: Iterable[tuple[float, int]], color: str, *, dashes: str = "") -> str:
        """Draw a step line."""
        return (
            f'<path d="{self._steps(points)}" fill="none" stroke="{color}" '
            f'stroke-width="2" stroke-dasharray="{dashes}"/>'
        )

    def area(self, points: Iterable[tuple[float, int]], color: str) -> str:
        """Draw a step line and fill what lies below it."""
        path, foot = self._steps(points), self.top + _HEIGHT
        return (
            f'<path d="{path}V{foot}H{_LEFT}Z" fill="{color}" fill-opacity="0.35"/>'
            f'<path d="{path}" fill="none" stroke="{color}"/>'
        )

    def _steps(self, points: Iterable[tuple[float, int]]) -> str:
        (first, value), *rest = changes(points)
        path = [f"M{self._x(first)} {self._y(value)}"]
        path += [f"H{self._x(t)}V{self._y(value)}" for t, value in rest]
        return "".join(path)


def _ticks(most: int, count: int) -> range:
    """Return round whole numbers from 0 to at most ``most``, about ``count`` of them."""
    rough = max(1.0, most / count)
    unit = 10 ** math.floor(math.log10(rough))
    step = next((unit * each for each in _STEPS if unit * each >= rough), unit * 10)
    return range(0, most + 1, step)


def _peaks(seconds: Sequence[int], values: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Thin a long series: of the seconds that share a pixel, keep the highest."""
    step = math.ceil(len(seconds) / _POINTS)
    for first in range(0, len(seconds), step):
        yield seconds[first], max(values[first : first + step])


def _label(
    x: float, y: float, anchor: str, words: str, color: str = TEXT, *, more: str = ""
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}" {more}>'
        f"{escape(words)}</text>"
    )

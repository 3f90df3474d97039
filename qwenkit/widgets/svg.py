"""Draw a chart as one SVG: axes, lines, areas, dots, bars and text.

There is nothing to install or to load: a chart takes a millisecond, also in Pyodide, and is the
same in JupyterLab, in an HTML report and in a file. Text and grid take the colour of the
page's text; the other colours are readable on white and on JupyterLab's dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from qwenkit.language import said

GREY, BLUE, AMBER, RED, GREEN = "#8c959f", "#2f81f7", "#bf8700", "#e5534b", "#2da44e"
VIOLET = "#986ee2"
WIDTH, LEFT, RIGHT, TOP, FOOT = 720, 52, 14, 30, 38
_FACTORS = (1, 2, 5)


class Chart:
    """A drawn chart; ``text`` describes in a line what it shows."""

    def __init__(self, parts: Iterable[str], height: float, text: str) -> None:
        self.text = text = said(text)
        # Not wider than the page: a chart that is too wide shrinks instead of being cut.
        self._svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
            f'width="{WIDTH}" style="max-width:100%;height:auto" role="img" '
            f'aria-label="{escape(text)}" font-family="system-ui, sans-serif" '
            f'font-size="12" fill="currentColor">{"".join(parts)}</svg>'
        )

    def __repr__(self) -> str:
        return self.text

    def svg(self) -> str:
        """Return the chart as SVG."""
        return self._svg

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        # As HTML and not as an image: only then do tooltips work and words follow the theme.
        return {"text/plain": self.text, "text/html": self._svg}


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values from ``low`` to ``high`` onto pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, value = (
            math.log10(each) if self.log else each for each in (self.low, self.high, value)
        )
        return round(self.start + (self.end - self.start) * (value - low) / (high - low), 1)

    def ticks(self, count: int, *, whole: bool = False) -> list[float]:
        """Return round values inside the axis, about ``count`` of them."""
        if self.log:
            first, last = (math.floor(math.log10(each)) for each in (self.low, self.high))
            marks = [f * 10.0**power for power in range(first, last + 1) for f in _FACTORS]
            inside = [mark for mark in marks if self.low <= mark <= self.high]
            powers = [mark for mark in inside if math.log10(mark).is_integer()]
            return powers if len(powers) > 2 else inside
        rough = max((self.high - self.low) / count, 1 if whole else 0)
        unit = 10.0 ** math.floor(math.log10(rough))
        step = min(
            (unit * each for each in (*_FACTORS, 10)), key=lambda s: abs(math.log(s / rough))
        )
        first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
        return [round(number * step, 9) for number in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Plot:
    """A rectangle with two axes, and what is drawn in it so far."""

    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)

    def grid(self, title: str, *, count: int = 4, whole: bool = False) -> None:
        """Draw the lines and labels of the y axis."""
        for value in self.y.ticks(count, whole=whole):
            y = self.y.at(value)
            self._rule(f"M{self.x.start:g} {y}H{self.x.end:g}")
            self.words(self.x.start - 6, y + 4, f"{value:g}", anchor="end")
        middle = (self.y.start + self.y.end) / 2
        turned = f' transform="rotate(-90 12 {middle:g})"'
        self.words(12, middle, title, anchor="middle", more=turned)

    def foot(self, title: str, *, count: int = 8) -> None:
        """Draw the ticks and labels of the x axis."""
        y = self.y.start
        for value in self.x.ticks(count):
            x = self.x.at(value)
            self._rule(f"M{x} {y:g}v4")
            self.words(x, y + 17, f"{value:g}", anchor="middle")
        self.words((self.x.start + self.x.end) / 2, y + 33, title, anchor="middle")

    def legend(self, colors: Mapping[str, str], more: str = "") -> None:
        """Name the colours above the plot, at the right; ``more`` is said behind them."""
        names = "\u00a0\u00a0\u00a0".join(
            f'<tspan fill="{color}" fill-opacity="1">■</tspan>\u00a0'
            f"<tspan>{escape(said(name))}</tspan>"
            for name, color in colors.items()
        )
        names += f"\u00a0\u00a0\u00a0<tspan>{escape(said(more))}</tspan>" if more else ""
        self.parts.append(
            f'<text x="{self.x.end:g}" y="{self.y.end - 10:g}" text-anchor="end" '
            f'fill-opacity="0.8">{names}</text>'
        )

    def steps(
        self, points: Iterable[tuple[float, float]], color: str, name: str, *, dashes: str = ""
    ) -> None:
        """Draw a line that keeps each value until the next point."""
        self.parts.append(
            f'<path d="{self._path(points)}" fill="none" stroke="{color}" stroke-width="2" '
            f'stroke-dasharray="{dashes}"><title>{escape(said(name))}</title></path>'
        )

    def area(self, points: Iterable[tuple[float, float]], color: str, name: str) -> None:
        """Draw steps and fill what is below them."""
        points = list(points)
        path, first = self._path(points), self.x.at(points[0][0])
        self.parts.append(
            f'<path d="{path}V{self.y.start:g}H{first}Z" fill="{color}" fill-opacity="0.4">'
            f"<title>{escape(said(name))}</title></path>"
            f'<path d="{path}" fill="none" stroke="{color}"/>'
        )

    def dot(self, x: float, y: float, color: str, tip: str, *, radius: float = 3.5) -> None:
        """Draw a dot whose tooltip is ``tip``."""
        self.parts.append(
            f'<circle cx="{self.x.at(x)}" cy="{self.y.at(y)}" r="{radius:g}" fill="{color}" '
            f'fill-opacity="0.7"><title>{escape(said(tip))}</title></circle>'
        )

    def bar(self, start: float, end: float, y: float, color: str, tip: str) -> None:
        """Draw a horizontal bar, at least 2 pixels long, around the pixel ``y``."""
        x = self.x.at(start)
        self.parts.append(
            f'<rect x="{x}" y="{y - 7:g}" width="{max(2, self.x.at(end) - x):g}" height="14" '
            f'fill="{color}"><title>{escape(said(tip))}</title></rect>'
        )

    def band(self, start: float, end: float, color: str, tip: str) -> None:
        """Shade the plot between two values of x, at least a pixel."""
        x = self.x.at(start)
        self.parts.append(
            f'<rect x="{x}" y="{self.y.end:g}" width="{max(1, self.x.at(end) - x):g}" '
            f'height="{self.y.start - self.y.end:g}" fill="{color}" fill-opacity="0.35">'
            f"<title>{escape(said(tip))}</title></rect>"
        )

    def words(
        self, x: float, y: float, text: str, *, anchor: str = "start", more: str = ""
    ) -> None:
        """Write a text at a pixel."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill-opacity="0.8"{more}>'
            f"{escape(said(text))}</text>"
        )

    def _rule(self, path: str) -> None:
        self.parts.append(f'<path d="{path}" stroke="currentColor" stroke-opacity="0.2"/>')

    def _path(self, points: Iterable[tuple[float, float]]) -> str:
        (first, value), *rest = changes(points)
        path = [f"M{self.x.at(first)} {self.y.at(value)}"]
        path += [f"H{self.x.at(t)}V{self.y.at(value)}" for t, value in rest]
        return "".join(path)


def changes(points: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Keep the points at which a step line changes, and the last."""
    kept = last = None
    for point in points:
        if kept is None or point[1] != kept[1]:
            yield point
            kept = point
        last = point
    if last is not None and last != kept:
        yield last


def peaks(times: Sequence[float], values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Thin a long series: of the points that share a pixel, keep the highest value."""
    step = math.ceil(len(times) / (2 * WIDTH))
    for first in range(0, len(times), step):
        yield times[first], max(values[first : first + step])


def around(values: Sequence[float], *, log: bool = False) -> tuple[float, float]:
    """Return the ends of an axis that shows all values with some room on both sides."""
    low, high = min(values), max(values)
    if log:
        return low / 1.5, high * 1.5
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def text_width(text: str) -> float:
    """Estimate the width of a text in pixels; Chinese characters take a square each."""
    return sum(12.0 if ord(letter) > 0x2E80 else 7.0 for letter in said(text))

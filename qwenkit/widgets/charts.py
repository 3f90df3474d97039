"""Charts: data in, chart out. One Vega-Lite description, three outputs.

JupyterLab draws the description itself, interactively and without network; HTML reports and
everything else get the SVG; a terminal gets one line of text. The descriptions are plain
dictionaries: importing a library to write them costs more than the rest of a notebook.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a chart of a simulation needs no client of a cluster
    from qwenkit.capacity.candidates import Candidate
    from qwenkit.cluster.diagnosis.timeline import Timeline
    from qwenkit.cluster.scale import Replicas
    from qwenkit.inference.results import LoadResult

WIDTH = 640
GREY, BLUE, AMBER, RED, GREEN = "#8c959f", "#0969da", "#bf8700", "#cf222e", "#2da44e"
TEXT = "#6e7781"  # readable on white and on JupyterLab's dark theme
_MIME = "application/vnd.vegalite.v5+json"  # what JupyterLab's own renderer answers to
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_WORDS = {"labelColor": TEXT, "titleColor": TEXT}
_CONFIG = {
    "background": None,
    "view": {"stroke": None},
    "axis": {"gridColor": "#8883", "domainColor": "#8888", "tickColor": "#8888", **_WORDS},
    "legend": _WORDS,
}

Spec = dict[str, Any]


class Chart:
    """A drawn chart; ``text`` says in a line what it shows."""

    def __init__(self, spec: Spec, text: str) -> None:
        self.spec = {"$schema": _SCHEMA, "config": _CONFIG, **spec}
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def svg(self) -> str:
        """Return the chart as SVG."""
        return self._svg

    @cached_property
    def _svg(self) -> str:
        import vl_convert  # half of what importing the panels takes, and they need no chart

        return str(vl_convert.vegalite_to_svg(self.spec, vl_version="5.21"))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": self.text, "image/svg+xml": self.svg(), _MIME: self.spec}


def cold_start_chart(timeline: Timeline) -> Chart:
    """Draw the steps of a cold start as bars on one time axis."""
    rows = [
        {"step": step.name, "from": step.at_s - step.seconds, "to": step.at_s, "s": step.seconds}
        for step in timeline.steps
    ]
    step = {"field": "step", "type": "nominal", "sort": None, "title": None}
    end = _number("to", "seconds since the pod was created")
    bar = {
        "mark": {"type": "bar", "color": BLUE, "height": 14, "minBandSize": 2},
        "encoding": {"y": step, "x": _number("from", end["title"]), "x2": {"field": "to"}},
    }
    label = {
        "mark": {"type": "text", "align": "left", "dx": 4},
        "encoding": {"y": step, "x": end, "text": {"field": "s", "format": ".1f"}},
    }
    longest = max(timeline.steps, key=lambda step: step.seconds, default=None)
    text = f"cold start: {timeline.total_s:.1f} s"
    if longest:
        text += f", longest: {longest.name} {longest.seconds:.1f} s"
    spec = {"data": _rows(rows), "width": WIDTH, "height": {"step": 24}, "layer": [bar, label]}
    return Chart(spec, text)


def load_chart(load: LoadResult, samples: Sequence[Replicas]) -> Chart:
    """Draw each request's latency above, and desired and ready replicas below, on one axis."""
    requests = [
        {"t": round(request.start_s, 3), "latency": request.latency_s, "outcome": request.outcome}
        for request in load.requests
    ]
    end = max((sample.at_s for sample in samples), default=1.0)
    dots = {
        "data": _rows(requests),
        "width": WIDTH,
        "height": 180,
        "mark": {"type": "circle", "size": 28, "opacity": 0.6, "tooltip": True},
        "encoding": {
            "x": _seconds(end, labels=False),
            "y": _number("latency", "latency, s"),
            "color": _colors("outcome", {"ok": BLUE, "failed": RED}),
        },
    }
    steps = replica_steps(
        ((sample.at_s, sample.desired, sample.ready) for sample in samples), end=end
    )
    peak = max((sample.ready for sample in samples), default=0)
    return Chart(_above(dots, steps), f"{len(requests)} requests, at most {peak} replicas ready")


def front_chart(candidates: Sequence[Candidate], chosen: Candidate, now: Candidate) -> Chart:
    """Draw what settings cost against how long the first token takes, this and that marked."""
    kinds = {"tried": GREY, "recommended": GREEN, "these settings": AMBER}
    marked = [(each, "tried") for each in candidates if each is not chosen]
    rows = [
        {"cost": each.cost_per_hour, "ttft": each.ttft_p95_s, "kind": kind, "is": str(each.choice)}
        for each, kind in [*marked, (now, "these settings"), (chosen, "recommended")]
        if math.isfinite(each.ttft_p95_s)
    ]
    dots = {
        "data": _rows(rows),
        "width": WIDTH,
        "height": 200,
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.8, "tooltip": True},
        "encoding": {
            "x": _number("cost", "cost per hour") | {"scale": {"zero": False, "padding": 20}},
            "y": _number("ttft", "TTFT p95, s")
            | {"scale": {"type": "log", "padding": 10}, "axis": {"tickCount": 4}},
            "color": _colors("kind", kinds),
        },
    }
    return Chart(dots, f"{len(rows)} settings by cost and TTFT p95")


def replica_steps(rows: Iterable[tuple[float, int, int]], *, end: float) -> Spec:
    """Describe desired and ready replicas over seconds as two step lines."""
    values = [
        {"t": t, "replicas": count, "kind": kind}
        for t, (desired, ready) in changes((t, (desired, ready)) for t, desired, ready in rows)
        for kind, count in (("desired", desired), ("ready", ready))
    ]
    most = max((row["replicas"] for row in values), default=0)
    # Whole replicas only: left alone, the axis of at most one replica counts 0, 1, 1.
    axis = {"values": list(range(0, most + 1, math.ceil(most / 6) or 1)), "format": "d"}
    return {
        "data": _rows(values),
        "width": WIDTH,
        "height": 110,
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "tooltip": True},
        "encoding": {
            "x": _seconds(end, labels=True),
            "y": _number("replicas", "replicas") | {"axis": axis},
            "color": _colors("kind", {"desired": GREY, "ready": BLUE}),
            "strokeDash": {
                "field": "kind",
                "legend": None,
                "scale": {"domain": ["desired", "ready"], "range": [[4, 3], [1, 0]]},
            },
        },
    }


def changes(points: Iterable[tuple[float, Any]]) -> list[tuple[float, Any]]:
    """Keep the points at which a step line changes, and the last."""
    kept: list[tuple[float, Any]] = []
    last: tuple[float, Any] | None = None
    for point in points:
        if last is None or point[1] != last[1]:
            kept.append(point)
        last = point
    if last is not None and kept[-1] != last:
        kept.append(last)
    return kept


def _number(field: str, title: str | None) -> Spec:
    return {"field": field, "type": "quantitative", "title": title}


def _seconds(end: float, *, labels: bool) -> Spec:
    """Describe the time axis."""
    return _number("t", "seconds" if labels else None) | {
        "scale": {"domain": [0, end], "nice": False},
        "axis": {"tickCount": 8, "format": "d", "labels": labels},
    }


def _colors(field: str, colors: Mapping[str, str]) -> Spec:
    scale = {"domain": list(colors), "range": list(colors.values())}
    return {"field": field, "type": "nominal", "title": None, "scale": scale}


def _rows(values: list[dict[str, Any]]) -> Spec:
    # Inline: a chart travels in one file, with no server behind it.
    return {"values": values}


def _above(upper: Spec, lower: Spec) -> Spec:
    return {"vconcat": [upper, lower], "resolve": {"scale": {"color": "independent"}}}

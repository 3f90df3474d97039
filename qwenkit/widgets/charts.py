"""Charts: data in, chart out. One Vega-Lite description, three outputs.

JupyterLab draws the description itself, interactively and without network; HTML reports and
everything else get the SVG; a terminal gets one line of text. The descriptions are plain
dictionaries: importing a library to write them costs more than the rest of a notebook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import vl_convert

from qwenkit.autoscaling.result import Result
from qwenkit.cluster.scale import Replicas
from qwenkit.cluster.timeline import Timeline
from qwenkit.inference.results import LoadResult

WIDTH = 640
GREY, BLUE, AMBER, RED = "#8c959f", "#0969da", "#bf8700", "#cf222e"
_MIME = "application/vnd.vegalite.v5+json"  # what JupyterLab's own renderer answers to
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_CONFIG = {"view": {"stroke": None}, "axis": {"gridColor": "#8883", "domainColor": "#8888"}}

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
            "x": _number("t", None, end),
            "y": _number("latency", "latency, s"),
            "color": _colors("outcome", {"ok": BLUE, "failed": RED}),
        },
    }
    steps = replica_steps(
        ((sample.at_s, sample.desired, sample.ready) for sample in samples), end=end
    )
    peak = max((sample.ready for sample in samples), default=0)
    return Chart(_above(dots, steps), f"{len(requests)} requests, at most {peak} replicas ready")


def whatif_chart(result: Result) -> Chart:
    """Draw a simulated run: load above, replicas below."""
    end = max(result.t, default=1)
    load = [
        {"t": t, "concurrency": value}
        for t, value in _changes(zip(result.t, result.concurrency, strict=True))
    ]
    area = {
        "data": _rows(load),
        "width": WIDTH,
        "height": 110,
        "mark": {
            "type": "area",
            "interpolate": "step-after",
            "color": AMBER,
            "opacity": 0.35,
            "line": {"color": AMBER},
        },
        "encoding": {
            "x": _number("t", None, end),
            "y": _number("concurrency", "requests in flight"),
        },
    }
    steps = replica_steps(zip(result.t, result.desired, result.ready, strict=True), end=end)
    return Chart(_above(area, steps), f"at most {max(result.ready, default=0)} replicas ready")


def replica_steps(rows: Iterable[tuple[float, int, int]], *, end: float) -> Spec:
    """Describe desired and ready replicas over seconds as two step lines."""
    values = [
        {"t": t, "replicas": count, "kind": kind}
        for t, (desired, ready) in _changes((t, (desired, ready)) for t, desired, ready in rows)
        for kind, count in (("desired", desired), ("ready", ready))
    ]
    return {
        "data": _rows(values),
        "width": WIDTH,
        "height": 110,
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "tooltip": True},
        "encoding": {
            "x": _number("t", "seconds", end),
            "y": _number("replicas", "replicas") | {"axis": {"tickMinStep": 1, "format": "d"}},
            "color": _colors("kind", {"desired": GREY, "ready": BLUE}),
            "strokeDash": {
                "field": "kind",
                "legend": None,
                "scale": {"domain": ["desired", "ready"], "range": [[4, 3], [1, 0]]},
            },
        },
    }


def _changes(points: Iterable[tuple[float, Any]]) -> list[tuple[float, Any]]:
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


def _number(field: str, title: str | None, end: float | None = None) -> Spec:
    channel: Spec = {"field": field, "type": "quantitative", "title": title}
    if end is not None:
        channel["scale"] = {"domain": [0, end], "nice": False}
    return channel


def _colors(field: str, colors: Mapping[str, str]) -> Spec:
    scale = {"domain": list(colors), "range": list(colors.values())}
    return {"field": field, "type": "nominal", "title": None, "scale": scale}


def _rows(values: list[dict[str, Any]]) -> Spec:
    # Inline: a chart travels in one file, with no server behind it.
    return {"values": values}


def _above(upper: Spec, lower: Spec) -> Spec:
    return {"vconcat": [upper, lower], "resolve": {"scale": {"color": "independent"}}}

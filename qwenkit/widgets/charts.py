"""Charts: data in, chart out. One description, three outputs.

JupyterLab draws the Vega-Lite description itself, interactively and without network; HTML
reports and everything else get the SVG; a terminal gets one line of text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import vl_convert

from qwenkit.autoscaling.simulate import Result
from qwenkit.cluster.scale import Replicas
from qwenkit.cluster.timeline import Timeline
from qwenkit.inference.load import LoadResult

WIDTH = 640
DESIRED, READY, LOAD, FAILED = "#8c959f", "#0969da", "#bf8700", "#cf222e"

# JupyterLab's own renderer answers to the v5 name; the charts below use nothing newer.
_LAB_MIME = "application/vnd.vegalite.v5+json"
_LAB_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


class Chart:
    """A drawn chart; ``text`` says in a line what it shows."""

    def __init__(self, drawing: Any, text: str) -> None:
        self.spec: dict[str, Any] = drawing.to_dict()
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def svg(self) -> str:
        """Return the chart as SVG."""
        return str(vl_convert.vegalite_to_svg(self.spec))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "text/plain": self.text,
            "image/svg+xml": self.svg(),
            _LAB_MIME: self.spec | {"$schema": _LAB_SCHEMA},
        }


def cold_start_chart(timeline: Timeline) -> Chart:
    """Draw the steps of a cold start as bars on one time axis."""
    rows, at = [], 0.0
    for step in timeline.steps:
        rows.append({"step": step.name, "from": at, "to": at + step.seconds, "s": step.seconds})
        at += step.seconds
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("from:Q", title="seconds since the Service was created"),
        y=alt.Y("step:N", sort=None, title=None),
    )
    bars = base.mark_bar(color=READY, height=14).encode(
        x2="to:Q", tooltip=["step:N", alt.Tooltip("s:Q", format=".2f", title="seconds")]
    )
    labels = base.mark_text(align="left", dx=4).encode(
        x="to:Q", text=alt.Text("s:Q", format=".1f")
    )
    drawing = (bars + labels).properties(width=WIDTH, height=alt.Step(24))
    longest = max(timeline.steps, key=lambda step: step.seconds, default=None)
    text = f"cold start: {at:.1f} s"
    if longest:
        text += f", longest: {longest.name} {longest.seconds:.1f} s"
    return Chart(drawing, text)


def load_chart(load: LoadResult, samples: Sequence[Replicas]) -> Chart:
    """Draw each request's latency above, and desired and ready replicas below, on one axis."""
    requests = [
        {"t": request.start_s, "latency": request.latency_s, "outcome": request.outcome}
        for request in load.requests
    ]
    end = max((sample.at_s for sample in samples), default=1.0)
    axis = alt.Scale(domain=[0, end], nice=False)
    dots = (
        alt.Chart(_data(requests))
        .mark_circle(size=28, opacity=0.6)
        .encode(
            x=alt.X("t:Q", title=None, scale=axis),
            y=alt.Y("latency:Q", title="latency, s"),
            color=alt.Color(
                "outcome:N",
                title=None,
                scale=alt.Scale(
                    domain=["ok", "failed"], range=[READY, FAILED]
                ),
            ),
            tooltip=["t:Q", "latency:Q", "outcome:N"],
        )
        .properties(width=WIDTH, height=180)
    )
    steps = replica_steps(
        ((sample.at_s, sample.desired, sample.ready) for sample in samples), axis=axis
    )
    peak = max((sample.ready for sample in samples), default=0)
    drawing = alt.vconcat(dots, steps).resolve_scale(color="independent")
    return Chart(drawing, f"{len(requests)} requests, at most {peak} replicas ready")


def whatif_chart(result: Result) -> Chart:
    """Draw a simulated run: load above, replicas below."""
    rows = [
        {"t": t, "concurrency": value}
        for t, value in zip(result.t, result.concurrency, strict=True)
    ]
    axis = alt.Scale(domain=[0, max(result.t, default=1)], nice=False)
    area = (
        alt.Chart(_data(rows))
        .mark_area(color=LOAD, opacity=0.35, line={"color": LOAD})
        .encode(
            x=alt.X("t:Q", title=None, scale=axis),
            y=alt.Y("concurrency:Q", title="requests in flight"),
        )
        .properties(width=WIDTH, height=120)
    )
    steps = replica_steps(zip(result.t, result.desired, result.ready, strict=True), axis=axis)
    return Chart(alt.vconcat(area, steps), f"at most {max(result.ready, default=0)} replicas ready")


def replica_steps(rows: Iterable[tuple[float, int, int]], *, axis: alt.Scale) -> Any:
    """Draw desired and ready replicas over seconds as two step lines."""
    values = [
        {"t": t, "replicas": count, "kind": kind}
        for t, desired, ready in rows
        for kind, count in (("desired", desired), ("ready", ready))
    ]
    return (
        alt.Chart(_data(values))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("t:Q", title="seconds", scale=axis),
            y=alt.Y("replicas:Q", title="replicas", axis=alt.Axis(tickMinStep=1, format="d")),
            color=alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=["desired", "ready"], range=[DESIRED, READY]),
            ),
            strokeDash=alt.StrokeDash(
                "kind:N",
                scale=alt.Scale(domain=["desired", "ready"], range=[[4, 3], [1, 0]]),
                legend=None,
            ),
        )
        .properties(width=WIDTH, height=120)
    )


def _data(rows: list[dict[str, Any]]) -> Any:
    # Inline values: a chart travels in one file, with no server behind it.
    return alt.Data(values=json.loads(json.dumps(rows)))

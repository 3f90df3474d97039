"""The result of a notebook: one JSON output, written and read here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidValue, NotFound
from qwenkit.language import as_html, said
from qwenkit.widgets.svg import Chart

MIME = "application/vnd.qwenkit.record+json"
_NOTHING: tuple[Any, ...] = (None, "", [], {})  # not worth a line


class Record:
    """A notebook's result. As the last expression of a cell it shows what was found."""

    def __init__(
        self, result: Mapping[str, Any], waited: Mapping[str, float], pictures: Mapping[str, Chart]
    ) -> None:
        self.result = {name: _plain(value) for name, value in result.items()}
        self.waited = {name: round(float(seconds), 2) for name, seconds in waited.items()}
        self.pictures = {name: _svg(name, chart) for name, chart in pictures.items()}

    def __repr__(self) -> str:
        found = {name: value for name, value in self.result.items() if value not in _NOTHING}
        lines = [said(f"{name}: {_short(value)}") for name, value in found.items()]
        lines += [said(f"waited {seconds:g} s for {name}") for name, seconds in self.waited.items()]
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "text/plain": repr(self),
            "text/html": as_html(repr(self)),
            MIME: {"result": self.result, "waited": self.waited, "pictures": self.pictures},
        }


def record(
    *,
    waited: Mapping[str, float] | None = None,
    pictures: Mapping[str, Chart] | None = None,
    **result: Any,
) -> Record:
    """Record a notebook's result; make it the last expression of the last code cell.

    ``result`` holds JSON-ready values and frozen dataclasses, never a secret. ``waited`` holds
    the seconds of each wait, which the run's report sums up; ``pictures`` are charts by name,
    which the report shows and ``summary.json`` leaves out.

    Raises:
        InvalidValue: a picture is no chart.

    >>> from qwenkit import record
    >>> record(waited={"load": 30}, peak_replicas=3)
    peak_replicas: 3
    waited 30 s for load
    """
    return Record(result, waited or {}, pictures or {})


def read_record(notebook: Path) -> dict[str, Any]:
    """Return ``{"result": …, "waited": …, "pictures": {name: SVG}}`` of an executed notebook.

    The last record of the notebook counts.

    Raises:
        NotFound: the notebook recorded nothing.
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    for cell in reversed(cells):
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                found: dict[str, Any] = output["data"][MIME]
                return {"pictures": {}} | found
    raise NotFound(
        f"{notebook.name} recorded no result",
        "no output of its cells is a record",
        "let its last code cell call record(…)",
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, ensure_ascii=False, default=_fields))


def _fields(value: Any) -> Any:
    known = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if known else str(value)


def _svg(name: str, chart: Chart) -> str:
    if hasattr(chart, "svg") and (drawn := chart.svg()).startswith("<svg"):
        return drawn
    raise InvalidValue(f"pictures[{name!r}]", chart, "a chart, such as load_chart returns")


def _short(value: Any) -> str:
    text = _read(value)
    return text if len(text) <= 100 else text[:97] + "…"


def _read(value: Any) -> str:
    """Return a JSON value as a person reads it."""
    if isinstance(value, Mapping):
        value = [f"{name} {_read(part)}" for name, part in value.items()]
    if isinstance(value, list):
        value = ", ".join(map(_read, value))
    return said(value) or "-" if isinstance(value, str) else json.dumps(value).replace("null", "-")

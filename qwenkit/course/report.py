"""Write the report of a run, for people and for CI: HTML, JUnit and JSON in ``runs/<id>/``."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, PackageLoader

from qwenkit.course import findings
from qwenkit.course.junit import junit
from qwenkit.course.pages import write_page
from qwenkit.course.record import read_record
from qwenkit.course.runner import DIAGNOSTICS, RunReport
from qwenkit.errors import NotFound

SCHEMA = "urn:qwenkit:run-summary:1"
PACKAGES = ("qwenkit", "kubernetes", "oss2", "openai", "papermill", "jupyterlab", "ipywidgets")
_SVG = "{http://www.w3.org/2000/svg}"
_DRAWN = {"svg", "g", "defs", "title", "desc", "text", "tspan", "path", "rect", "circle", "line"}
_DRAWN |= {"ellipse", "polyline", "polygon", "clipPath", "linearGradient", "stop", "pattern"}
_REACHES_OUT = re.compile(r"(?i)javascript:|@import|url\((?!['\"]?#)")


def write_report(report: RunReport) -> Path:
    """Write the report of a run beside its executed notebooks; return ``index.html``."""
    for notebook in report.notebooks:
        write_page(report.folder / f"{notebook.name}.ipynb")
    summary = summarise(report)
    (report.folder / "summary.json").write_text(
        json.dumps(summary, ensure_ascii=False, indent=2) + "\n", "utf-8"
    )
    junit(report).write(report.folder / "junit.xml", encoding="utf-8", xml_declaration=True)
    return write_index(report.folder, summary)


def write_index(folder: Path, summary: dict[str, Any]) -> Path:
    """Write ``index.html`` of a summary and the charts in the executed notebooks beside it."""
    page = Environment(
        loader=PackageLoader("qwenkit.course", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["plain"] = lambda value: (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    )
    html = page.get_template("index.html").render(
        run=summary,
        f=findings,
        pictures={number: _pictures(folder, summary, number) for number in ("03", "05", "06")},
        json=json.dumps(summary, ensure_ascii=False, indent=2),
    )
    index = folder / "index.html"
    index.write_text(html, "utf-8")
    return index


def summarise(report: RunReport) -> dict[str, Any]:
    """Return the run as JSON-ready values: the content of ``summary.json``.

    ``summary.schema.json`` beside this module describes it.
    """
    waited: dict[str, float] = {}
    pages = {path.name for path in report.folder.glob("*.html")}
    for notebook in report.notebooks:
        for what, seconds in notebook.waited.items():
            waited[what] = round(waited.get(what, 0.0) + seconds, 2)
    return {
        "schema": SCHEMA,
        "id": report.id,
        "began": report.began,
        "context": report.context,
        "ok": report.ok,
        "interrupted": report.interrupted,
        "passed": report.passed,
        "total": len(report.notebooks),
        "seconds": report.seconds,
        "waited": waited,
        "notebooks": [
            asdict(notebook) | {"html": page if (page := f"{notebook.name}.html") in pages else ""}
            for notebook in report.notebooks
        ],
        "unchosen": list(report.unchosen),
        "teardown": report.teardown and asdict(report.teardown),
        "leaks": list(report.leaks.found) if report.leaks else None,
        "problems": list(report.problems),
        "diagnostics": DIAGNOSTICS if (report.folder / DIAGNOSTICS).exists() else None,
        "settings": report.settings,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }


def _pictures(folder: Path, summary: dict[str, Any], number: str) -> dict[str, str]:
    """Return the charts that the notebook of a number recorded, by name: SVG that is only SVG."""
    for notebook in summary["notebooks"]:
        executed = folder / f"{notebook['name']}.ipynb"
        if notebook["name"].startswith(number) and executed.is_file():
            try:
                drawn: dict[str, str] = read_record(executed)["pictures"]
            except NotFound:
                return {}
            first = sorted(drawn, key=lambda name: (name == "latency", name))
            return {name: drawn[name] for name in first if _is_harmless(drawn[name])}
    return {}


def _is_harmless(svg: str) -> bool:
    """True if a picture draws and does nothing else: no script, no link, nothing loaded."""
    try:
        elements = list(ElementTree.fromstring(svg).iter())
    except ElementTree.ParseError:
        return False
    attributes = [pair for element in elements for pair in element.attrib.items()]
    return all(element.tag.removeprefix(_SVG) in _DRAWN for element in elements) and not any(
        name.lower().startswith("on") or "href" in name or _REACHES_OUT.search(value)
        for name, value in attributes
    )

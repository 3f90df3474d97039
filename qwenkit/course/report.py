"""Write the report of a run, for people and for CI: HTML, JUnit and JSON in ``runs/<id>/``."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from qwenkit.course import findings
from qwenkit.course.junit import junit
from qwenkit.course.pages import write_page
from qwenkit.course.record import read_record
from qwenkit.course.runner import EVIDENCE, RunReport
from qwenkit.errors import NotFound
from qwenkit.language.page import said_page

SCHEMA = "urn:qwenkit:run-summary:1"
PACKAGES = ("qwenkit", "kubernetes", "oss2", "openai", "papermill", "jupyterlab", "ipywidgets")


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
    page = Environment(loader=PackageLoader("qwenkit.course", ""), autoescape=True)
    page.trim_blocks = page.lstrip_blocks = True
    books = summary["notebooks"]
    html = page.get_template("index.html").render(
        run=summary,
        f=findings,
        pictures={each["name"][:2]: _pictures(folder, each["name"]) for each in books},
        json=json.dumps(summary, ensure_ascii=False, indent=2),
    )
    index = folder / "index.html"
    index.write_text(said_page(html), "utf-8")
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
        "evidence": EVIDENCE if (report.folder / EVIDENCE).exists() else None,
        "settings": report.settings,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }


def _pictures(folder: Path, name: str) -> dict[str, str]:
    """Return the charts that an executed notebook recorded, by name; the latencies come last."""
    try:
        drawn: dict[str, str] = read_record(folder / f"{name}.ipynb")["pictures"]
    except (NotFound, OSError, ValueError):  # it recorded nothing, never ran, or was cut off
        return {}
    return {key: drawn[key] for key in sorted(drawn, key=lambda key: (key == "latency", key))}

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

import nbformat
from jinja2 import Environment, PackageLoader
from nbconvert import HTMLExporter

from qwenkit.course.runner import DIAGNOSTICS, RunReport

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
PACKAGES = ("qwenkit", "kubernetes", "oss2", "openai", "papermill", "jupyterlab", "ipywidgets")


def write_report(report: RunReport) -> Path:
    """Write the report of a run beside its executed notebooks; return ``index.html``."""
    for notebook in report.notebooks:
        _write_html(report.folder / f"{notebook.name}.ipynb")
    summary = summarise(report)
    (report.folder / "summary.json").write_text(
        json.dumps(summary, ensure_ascii=False, indent=2) + "\n", "utf-8"
    )
    _junit(report).write(report.folder / "junit.xml", encoding="utf-8", xml_declaration=True)
    index = report.folder / "index.html"
    page = Environment(loader=PackageLoader("qwenkit.course", ""), autoescape=True)
    index.write_text(page.get_template("index.html").render(run=summary), "utf-8")
    return index


def summarise(report: RunReport) -> dict[str, Any]:
    """Return the run as JSON-ready values: the content of ``summary.json``."""
    waited: dict[str, float] = {}
    pages = {path.name for path in report.folder.glob("*.html")}
    for notebook in report.notebooks:
        for what, seconds in notebook.waited.items():
            waited[what] = round(waited.get(what, 0.0) + seconds, 2)
    return {
        "id": report.id,
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
        "teardown": report.teardown and asdict(report.teardown),
        "leaks": list(report.leaks.found) if report.leaks else None,
        "problems": list(report.problems),
        "diagnostics": DIAGNOSTICS if (report.folder / DIAGNOSTICS).exists() else None,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }


def _write_html(executed: Path) -> None:
    if not executed.exists():
        return
    exporter = HTMLExporter(template_name="lab")
    # The page loads nothing: the course has no formulas, and panels include a static picture.
    exporter.mathjax_url = exporter.require_js_url = exporter.jquery_url = ""
    exporter.widget_renderer_url = exporter.jupyter_widgets_base_url = ""
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": executed.stem}})
    executed.with_suffix(".html").write_text(_offline(body), "utf-8")


def _offline(body: str) -> str:
    """Drop the script tags that the exporter's template would still load from a CDN."""
    return re.sub(r'<script[^>]+src="(https?:)?//[^"]*"[^>]*>\s*</script>', "", body)


def _junit(report: RunReport) -> ElementTree.ElementTree[ElementTree.Element]:
    suite = ElementTree.Element(
        "testsuite",
        name=f"qwenkit course on {report.context}",
        tests=str(len(report.notebooks) + 1),
        failures=str(len(report.notebooks) - report.passed + bool(report.problems)),
        time=f"{report.seconds}",
    )
    for notebook in report.notebooks:
        case = ElementTree.SubElement(
            suite, "testcase", classname="notebooks", name=notebook.name, time=f"{notebook.seconds}"
        )
        if notebook.error:
            what = notebook.error.get("what", "failed")
            failure = ElementTree.SubElement(case, "failure", message=_printable(what))
            failure.text = json.dumps(notebook.error)
    last = ElementTree.SubElement(suite, "testcase", classname="run", name="teardown-and-leaks")
    if report.problems:
        text = _printable("\n".join(report.problems))
        message = _printable(report.problems[0])
        ElementTree.SubElement(last, "failure", message=message).text = text
    return ElementTree.ElementTree(suite)


def _printable(text: str) -> str:
    """Replace characters that XML does not allow, such as a traceback's colour codes."""
    return _NO_XML.sub("\ufffd", text)

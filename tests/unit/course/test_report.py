"""The report of a run: true, complete, safe to open, and readable by CI."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from qwenkit.cluster.teardown import Leaks, TeardownReport, TeardownStep
from qwenkit.course.report import summarise, write_report
from qwenkit.course.runner import NotebookResult, RunReport

EVIL = "<script>alert('x')</script> & \x1b[31mred\x00 西湖"
ELSEWHERE = re.compile(r"""(src|href)=["']?(https?:)?//|@import|url\(["']?(https?:)?//""")


def notebook(folder: Path, name: str, text: str = "done") -> None:
    cells = [
        new_markdown_cell(f"# {name}"),
        new_code_cell("1", outputs=[new_output("stream", text=text)]),
    ]
    made = new_notebook(cells=cells, metadata={"widgets": {"state": {}}})
    nbformat.write(made, folder / f"{name}.ipynb")


def passed(name: str, **more: Any) -> NotebookResult:
    given = {"waited": {"upload": 1.5}, "result": {"peak": 3, "words": EVIL, "list": [1]}} | more
    return NotebookResult(name, f"{name} title", True, 2.0, **given)


def run(folder: Path, *results: NotebookResult, **more: Any) -> RunReport:
    given: dict[str, Any] = {
        "teardown": TeardownReport((TeardownStep("ksvc qwen", True, "deleted"),), 1.0),
        "leaks": Leaks(),
        "problems": (),
        "interrupted": False,
    }
    return RunReport("20261122-1", folder, "sandbox", 9.5, results, **(given | more))


def failed(name: str, what: str = EVIL, **more: str) -> NotebookResult:
    return NotebookResult(name, EVIL, False, 1.0, error={"what": what, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("00-preflight", "01-model-to-oss"):
        notebook(tmp_path, name, EVIL)
    return tmp_path


def suite(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / "junit.xml").getroot()


def test_a_run_that_passed(folder: Path) -> None:
    report = run(folder, passed("00-preflight"), passed("01-model-to-oss"))
    index = write_report(report)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert (summary["ok"], summary["passed"], summary["total"]) == (True, 2, 2)
    assert summary["waited"] == {"upload": 3.0}
    assert summary["leaks"] == []
    assert summary["diagnostics"] is None
    assert summary["notebooks"][0]["html"] == "00-preflight.html"
    assert summary["teardown"]["steps"][0]["outcome"] == "deleted"
    assert {"python", "qwenkit", "kubernetes"} <= summary["versions"].keys()
    assert (suite(folder).get("tests"), suite(folder).get("failures")) == ("3", "0")
    assert not suite(folder).findall(".//failure")
    page = index.read_text("utf-8")
    assert "2/2 notebooks passed" in page
    assert "nothing left behind" in page
    assert 'href="01-model-to-oss.html"' in page
    assert "diagnostics" not in page


def test_a_run_that_failed(folder: Path) -> None:
    (folder / "diagnostics.txt").write_text("==== explain\n")
    bad = failed("01-model-to-oss", cell="upload")
    rest = failed("90-teardown", "not run")
    report = run(folder, passed("00-preflight"), bad, rest, problems=(f"leaked: {EVIL}",))
    index = write_report(report)
    assert not report.ok
    cases = {case.get("name"): case.find("failure") for case in suite(folder)}
    assert cases["00-preflight"] is None
    assert "alert" in (cases["01-model-to-oss"].get("message") or "")  # type: ignore[union-attr]
    assert json.loads(cases["01-model-to-oss"].text or "")["cell"] == "upload"  # type: ignore[union-attr]
    assert "leaked" in (cases["teardown-and-leaks"].text or "")  # type: ignore[union-attr]
    assert suite(folder).get("failures") == "3"
    page = index.read_text("utf-8")
    assert "1/3 notebooks passed" in page
    assert 'href="diagnostics.txt"' in page
    assert "<code>upload</code>" in page
    summary = summarise(report)
    assert (summary["diagnostics"], summary["notebooks"][2]["html"]) == ("diagnostics.txt", "")


def test_a_run_that_was_interrupted(folder: Path) -> None:
    stopped = failed("01-model-to-oss", "interrupted")
    report = run(folder, stopped, interrupted=True, leaks=None, teardown=None)
    page = write_report(report).read_text("utf-8")
    assert "interrupted" in page
    assert "not run (the teardown notebook was not selected)" in page
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary["interrupted"]
    assert (summary["leaks"], summary["teardown"]) == (None, None)


def test_leaks_are_named(folder: Path) -> None:
    leaks = Leaks(("pvc/llm-model", "<b>"))
    page = write_report(run(folder, passed("00-preflight"), leaks=leaks)).read_text("utf-8")
    assert "pvc/llm-model, &lt;b&gt;" in page


def test_nothing_in_a_page_runs_or_comes_from_elsewhere(folder: Path) -> None:
    report = run(folder, passed("00-preflight"), failed("01-model-to-oss"), problems=(EVIL,))
    write_report(report)
    pages = sorted(folder.glob("*.html"))
    assert [page.name for page in pages] == [
        "00-preflight.html",
        "01-model-to-oss.html",
        "index.html",
    ]
    for page in pages:
        text = page.read_text("utf-8")
        assert "<script>alert" not in text, page.name
        assert "alert(" in text, page.name
        assert not ELSEWHERE.search(text), (page.name, ELSEWHERE.search(text))


def test_no_notebook_is_no_success(tmp_path: Path) -> None:
    assert not run(tmp_path).ok
    assert write_report(run(tmp_path)).exists()

"""The report of a run: true, complete, safe to open, and readable by CI."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from xml.etree import ElementTree

import nbformat
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from qwenkit.cli.course import run as command
from qwenkit.cluster.teardown import Leaks, TeardownReport, TeardownStep
from qwenkit.course import findings, runner
from qwenkit.course import report as course_report
from qwenkit.course.record import MIME
from qwenkit.course.report import summarise, write_index, write_report
from qwenkit.course.runner import NotebookResult, RunReport
from qwenkit.errors import NotFound

Whole = Callable[..., RunReport]
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


def counted(folder: Path) -> dict[str, int]:
    """Return the counts that the suite states; they are those of its cases."""
    root = suite(folder)
    stated = {name: int(root.get(name, "")) for name in ("tests", "failures", "skipped")}
    cases = root.findall("testcase")
    for count, kind in (("tests", "."), ("failures", "failure"), ("skipped", "skipped")):
        assert stated[count] == sum(case.find(kind) is not None for case in cases), count
    return stated


def test_a_report_in_chinese_is_so_for_people_and_not_for_programs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(folder, passed("00-preflight"), failed("01-model-to-oss", "the pod is gone"))
    monkeypatch.setenv("QWENKIT_LANG", "zh")
    page = write_report(report).read_text("utf-8")
    assert '<html lang="zh-CN">' in page
    assert "1/2 个 Notebook 通过" in page
    told = (folder / "summary.json").read_text("utf-8")
    monkeypatch.setenv("QWENKIT_LANG", "en")
    write_report(report)
    assert (folder / "summary.json").read_text("utf-8") == told


def test_the_language_chosen_for_a_run_is_that_of_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = Mock(side_effect=NotFound("no target"))
    monkeypatch.setattr(runner, "run_course", course)
    monkeypatch.setenv("QWENKIT_LANG", "en")  # to be taken back: the command sets it
    with pytest.raises(NotFound):
        command(lang="zh", only="00", output=tmp_path)
    (path,) = course.call_args.args[0].notebooks
    assert (path.parent.name, os.environ["QWENKIT_LANG"]) == ("zh", "zh")


def test_a_run_that_passed(folder: Path) -> None:
    report = run(folder, passed("00-preflight"), passed("01-model-to-oss"))
    index = write_report(report)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert (summary["ok"], summary["passed"], summary["total"]) == (True, 2, 2)
    assert summary["waited"] == {"upload": 3.0}
    assert summary["leaks"] == []
    assert summary["evidence"] is None
    assert summary["notebooks"][0]["html"] == "00-preflight.html"
    assert summary["teardown"]["steps"][0]["outcome"] == "deleted"
    assert {"python", "qwenkit", "kubernetes"} <= summary["versions"].keys()
    assert counted(folder) == {"tests": 3, "failures": 0, "skipped": 0}
    assert suite(folder).get("time") == "9.5"
    page = index.read_text("utf-8")
    assert "2/2 notebooks passed" in page
    assert "nothing left behind" in page
    assert 'href="01-model-to-oss.html"' in page
    assert 'href="evidence' not in page
    executed = (folder / "00-preflight.html").read_text("utf-8")
    dark = executed.partition("@media screen and (prefers-color-scheme: dark)")[2]
    assert "--jp-layout-color0: #111;" in dark, "it follows the scheme of the reader"
    assert 'href="index.html"' in executed


def test_a_run_that_failed(folder: Path) -> None:
    (folder / "evidence").mkdir()
    bad = failed("01-model-to-oss", cell="upload", why="no key", fix="give <one>")
    rest = failed("90-teardown", "not run", why="a notebook before it failed")
    rest = dataclasses.replace(rest, skipped=True)
    report = run(
        folder,
        passed("00-preflight"),
        bad,
        rest,
        problems=(f"leaked: {EVIL}",),
        unchosen=("04-query",),
    )
    index = write_report(report)
    assert not report.ok
    cases = {case.get("name"): case.find("failure") for case in suite(folder)}
    assert cases["00-preflight"] is None
    assert "alert" in (cases["01-model-to-oss"].get("message") or "")  # type: ignore[union-attr]
    said = cases["01-model-to-oss"].text or ""  # type: ignore[union-attr]
    assert said.splitlines()[-3:] == ["cell: upload", "why: no key", "fix: give <one>"]
    assert "leaked" in (cases["teardown-and-leaks"].text or "")  # type: ignore[union-attr]
    assert counted(folder) == {"tests": 5, "failures": 2, "skipped": 2}
    page = index.read_text("utf-8")
    assert "give &lt;one&gt;" in page
    assert 'href="01-model-to-oss.html#cell-id=upload"' in page
    assert "1/3 notebooks passed" in page
    assert 'href="evidence/README.txt"' in page
    assert "<code>upload</code>" in page
    summary = summarise(report)
    assert (summary["evidence"], summary["notebooks"][2]["html"]) == ("evidence", "")


def test_a_run_that_was_interrupted(folder: Path) -> None:
    stopped = failed("01-model-to-oss", "interrupted")
    index = write_report(run(folder, stopped, interrupted=True, leaks=None, teardown=None))
    assert counted(folder)["skipped"] == 1, "nobody looked for leaks"
    page = index.read_text("utf-8")
    assert "interrupted" in page
    assert "not run (the teardown notebook was not selected)" in page
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary["interrupted"]
    assert (summary["leaks"], summary["teardown"]) == (None, None)


def test_leaks_are_named(tmp_path: Path) -> None:
    made = run(tmp_path, passed("00-preflight"), leaks=Leaks(("pvc/llm-model", "<b>")))
    page = write_index(tmp_path, summarise(made)).read_text("utf-8")
    assert "pvc/llm-model, &lt;b&gt;" in page


def test_nothing_in_a_page_runs_or_comes_from_elsewhere(folder: Path) -> None:
    bad = failed("01-model-to-oss", why=EVIL, fix=EVIL)
    made = run(folder, passed("00-preflight"), bad, problems=(EVIL,), unchosen=(EVIL,))
    write_report(made)
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


SCHEMA = json.loads(
    (Path(course_report.__file__).parent / "summary.schema.json").read_text("utf-8")
)


def valid(summary: dict[str, Any]) -> list[str]:
    """Return what the schema finds wrong with a summary, as it is read from a file."""
    read = json.loads(json.dumps(summary))
    found = Draft202012Validator(SCHEMA, format_checker=FormatChecker()).iter_errors(read)
    return [error.message for error in found]


def test_the_schema_takes_every_run_and_knows_a_wrong_one(tmp_path: Path, whole_run: Whole) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == course_report.SCHEMA
    made = whole_run(tmp_path)
    one, stopped = made.notebooks[0], failed("01-model-to-oss", "interrupted")
    for notebooks in (made.notebooks, (one,), (one, failed("01", cell="x")), (stopped,), ()):
        assert valid(summarise(dataclasses.replace(made, notebooks=notebooks))) == []
    found = summarise(made)
    del found["notebooks"][6]["result"]["served_by"]
    assert valid(found) == ["'served_by' is a required property"]
    found["notebooks"][0] |= {"error": {"what": ""}, "seconds": -1}
    assert len(valid(found)) == 4


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<body>")[2]))


def test_the_first_screen_is_for_a_manager(tmp_path: Path, whole_run: Whole) -> None:
    page = write_index(tmp_path, summarise(whole_run(tmp_path))).read_text("utf-8")
    text = text_of(page)
    assert "Objective met: TTFT p95 0.83 s of at most 5 s" in text.partition("What was")[0]
    for figure in (
        "3 GPUs at most",
        "4.14 CNY per million",
        "52.1 s cold start",
        "8/8",
        "nothing left",
    ):
        assert figure in text.partition("What was deployed")[0], figure
    sections = ("What was deployed", "Preflight", "Cold start", "Load against replicas")
    sections += ("Predicted beside measured", "Which autoscaler", "Notebooks", "Environment")
    places = [text.index(f" {title}") for title in sections]
    assert places == sorted(places)
    assert page.count("<svg") == 4
    for words in (
        "Clock × 10: a stand-in",
        "The model is a stand-in of 2.7 MB.",
        "modelscope:qwen/Qwen-7B-Chat-Int8",
        "target 2 a replica",
    ):
        assert words in text
    assert "TTFT p95 about 6 s (3 to 9) 6.3 s +7 % 0.83 s" in text
    assert "The change to target 8: TTFT p95 6.3 s → 0.83 s, within the objective" in text
    assert "210 answers" in text
    assert "630 sent, 628 ok, 2 failed, 0 cancelled" in text
    assert "autoscaler target gpu hours within percent KPA on concurrency 2 0.11 97" in text
    assert "the third pod waited for its image" in text


@pytest.mark.parametrize("after", [{}, {"ttft_p95_s": 0.75}])
def test_a_missed_objective_is_the_headline(
    tmp_path: Path, whole_run: Whole, after: dict[str, float]
) -> None:
    made = summarise(whole_run(tmp_path))
    made["notebooks"][6]["result"]["after"] = after
    assert findings.verdict(made)[1].startswith("Objective missed: TTFT p95 ")


def test_a_page_needs_no_field_that_a_notebook_of_yours_lacks(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"cold_start": 3, "checks": [1], "measured": "much", "after": None}
    odd |= {"served_by": [], "autoscalers": {"a": 1}, "requests": 7, "clock": "fast"}
    names = ("00-mine", "03-mine", "05-mine", "06-mine")
    made = run(tmp_path, *(passed(name, result=odd) for name in names))
    text = text_of(write_report(made).read_text("utf-8"))
    assert "Passed: 4/4 notebooks passed" in text
    for title in ("What was deployed", "Preflight", "Cold start", "Load against", "Which"):
        assert title not in text.partition("Everything")[0], title


def test_a_notebook_that_was_cut_off_costs_its_page_alone(folder: Path) -> None:
    (folder / "01-model-to-oss.ipynb").write_text('{"cells": [')
    write_report(run(folder, passed("00-preflight"), failed("01-model-to-oss", "disk full")))
    assert [page.name for page in sorted(folder.glob("*.html"))] == [
        "00-preflight.html",
        "index.html",
    ]


def test_the_browser_is_told_that_nothing_in_the_page_runs(
    tmp_path: Path, whole_run: Whole
) -> None:
    summary = summarise(whole_run(tmp_path))
    bundle = {"result": {}, "waited": {}, "pictures": {"mine": "<svg onload='alert(1)'></svg>"}}
    cell = new_code_cell("", outputs=[new_output("display_data", data={MIME: bundle})])
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "06-load-test.ipynb")
    head, _, body = write_index(tmp_path, summary).read_text("utf-8").partition("</head>")
    assert "onload" in body
    assert (
        "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline';" in head
    )
    assert "<script" not in head + body

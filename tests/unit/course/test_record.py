"""A notebook's record goes out as one JSON output and comes back as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from qwenkit.cluster.wait import Transition
from qwenkit.course.record import MIME, read_record, record
from qwenkit.errors import InvalidValue, NotFound
from qwenkit.widgets.svg import Chart


@dataclass(frozen=True)
class Kept:
    objects: int
    path: Path


def saved(tmp_path: Path, *bundles: dict[str, Any] | None) -> Path:
    """Write a notebook with a cell for each bundle, as a kernel's outputs."""
    cells: list[Any] = [new_markdown_cell("words")]
    for bundle in bundles:
        outputs = [new_output("execute_result", data=bundle)] if bundle else []
        cells.append(new_code_cell("record()", outputs=outputs))
    path = tmp_path / "04-query.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    made = record(waited={"upload": 1.23456}, kept=Kept(3, Path("a/b")), words="西湖", none=None)
    assert read_record(saved(tmp_path, made._repr_mimebundle_())) == {
        "result": {"kept": {"objects": 3, "path": "a/b"}, "words": "西湖", "none": None},
        "waited": {"upload": 1.23},
        "pictures": {},
    }


def test_pictures_are_kept_beside_the_result(tmp_path: Path) -> None:
    chart = Chart(["<text>西湖</text>"], 20, "words")
    made = record(pictures={"latency": chart}, peak=3)
    found = read_record(saved(tmp_path, made._repr_mimebundle_()))
    assert found == {"result": {"peak": 3}, "waited": {}, "pictures": {"latency": chart.svg()}}
    assert repr(made) == "peak: 3"


@pytest.mark.parametrize("wrong", ["<svg/>", None, 3])
def test_a_picture_that_is_no_chart_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match=r"pictures\['latency'\]"):
        record(pictures={"latency": wrong})


def test_the_last_record_counts(tmp_path: Path) -> None:
    bundles = [record(n=n)._repr_mimebundle_() for n in (1, 2)]
    assert read_record(saved(tmp_path, *bundles, {"text/plain": "3"}))["result"] == {"n": 2}


@pytest.mark.parametrize("bundle", [None, {"text/plain": "x"}])
def test_a_notebook_without_a_record_says_what_is_missing(
    tmp_path: Path, bundle: dict[str, Any] | None
) -> None:
    with pytest.raises(NotFound, match=r"04-query\.ipynb") as caught:
        read_record(saved(tmp_path, bundle))
    assert "record(" in caught.value.fix


def test_people_see_lines_and_long_ones_are_cut() -> None:
    made = record(waited={"load": 20.0}, peak=3, text="a" * 500)
    assert repr(made).splitlines() == ["peak: 3", "text: " + "a" * 97 + "…", "waited 20 s for load"]
    assert made._repr_mimebundle_()["text/plain"] == repr(made)
    assert len(made._repr_mimebundle_()[MIME]["result"]["text"]) == 500


def test_what_is_empty_is_recorded_but_takes_no_line() -> None:
    made = record(errors={}, parts_why="", parts=None, failed=[], count=0, good=False)
    assert repr(made).splitlines() == ["count: 0", "good: false"]
    assert made.result["errors"] == {}


def test_words_of_a_record_stay_whole_in_a_narrow_window() -> None:
    shown = record(body="a < b")._repr_mimebundle_()
    assert shown["text/html"].endswith(">body: a &lt; b</pre>")
    assert "word-break: normal" in shown["text/html"]
    assert Transition(1, "a < b")._repr_html_().endswith("1.0 s  a &lt; b</pre>")

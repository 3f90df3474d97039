"""Two runs compared: what is better, what is worse, what is noise, and what is no run at all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.cli.main import main
from qwenkit.course.report import summarise, write_index
from qwenkit.course.run_comparison import as_text, compare_runs
from qwenkit.course.runner import RunReport

Whole = Callable[..., RunReport]
Cli = Callable[..., tuple[int, str, str]]
Summary = dict[str, Any]


@pytest.fixture
def runs(tmp_path: Path, whole_run: Whole) -> Path:
    """Return a folder of two runs; the second missed its objective, and wants another target."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for name, ttft, target in (("1", 0.083, 2.0), ("2", 0.71, 8.0)):
        made = summarise(whole_run(folder / name))
        made["notebooks"][6]["result"]["after"] |= {
            "ttft_p95_s": ttft,
            "cost_cny": 1.37 * ttft**0.01,
        }
        made["settings"]["scale_target"] = target
        (folder / name / "summary.json").write_text(json.dumps(made), "utf-8")
        os.utime(write_index(folder / name, made), (int(name), int(name)))
    return folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path) -> Cli:
    """Return what runs a command beside ``runs``: its exit code, stdout and stderr."""
    monkeypatch.chdir(runs.parent)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["qwenkit", "report", *words])
        return main(), *capsys.readouterr()

    return run


def test_what_changed_is_named_and_noise_is_not(cli: Cli) -> None:
    code, out, _ = cli("compare", "1", "2", "--json")
    found = json.loads(out)
    said = {line["what"]: line for line in found["differences"]}
    assert code == 0
    assert (found["a"], found["b"], found["noise_percent"]) == ("1", "2", 10.0)
    assert said["verdict"]["verdict"] == "worse"
    assert said["verdict"]["b"].startswith("Objective missed")
    assert said["TTFT p95"] == {
        "what": "TTFT p95",
        "a": "0.83 s",
        "b": "7.1 s",
        "verdict": "worse",
        "percent": 755.4,
    }
    assert said["cost of the load"]["verdict"] == "same"
    assert said["scale_target"]["verdict"] == "changed"
    assert {"cold start", "06-load-test", "the whole run", "goodput"} <= said.keys()
    assert "run" not in said


def test_a_failure_is_worse_than_a_missed_objective(cli: Cli, runs: Path) -> None:
    failed = json.loads((runs / "1" / "summary.json").read_text("utf-8"))
    failed["ok"] = failed["notebooks"][6]["passed"] = False
    (runs / "3").mkdir()
    (runs / "3" / "summary.json").write_text(json.dumps(failed), "utf-8")
    for other, word in (("1", "worse"), ("2", "worse"), ("3", "same")):
        _, out, _ = cli("compare", other, "3", "--json")
        assert json.loads(out)["differences"][0]["verdict"] == word


def test_people_read_columns(cli: Cli, runs: Path) -> None:
    code, out, _ = cli("compare", str(runs / "2"), str(runs / "1" / "summary.json"))
    assert code == 0
    assert "-88 % better" in next(line for line in out.splitlines() if line.startswith("TTFT p95"))
    assert out.splitlines()[-1] == "better and worse mean a difference of more than 10 %"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        '{"notebooks": [3]}',
        "not JSON",
        None,
        '{"notebooks": [{}]}',
        '{"notebooks": [{"name": 1}]}',
    ],
)
def test_what_is_no_run_is_refused(cli: Cli, runs: Path, text: str | None) -> None:
    if text is not None:
        (runs / "3").mkdir()
        (runs / "3" / "summary.json").write_text(text)
    name = "3" if text is not None else "3" * 300
    code, out, err = cli("compare", "1", name, "--json")
    assert code == 2
    assert json.loads(out).keys() >= {"what", "why", "fix"}
    assert err.startswith("error: run: '3")


def test_a_threshold_is_a_share(cli: Cli) -> None:
    code, _, err = cli("compare", "1", "2", "--noise", "-1")
    assert (code, "a share from 0" in err) == (2, True)


def test_the_newest_report_is_opened(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert cli("open", "--print")[:2] == (0, "runs/2/index.html\n")
    assert opened == []
    assert cli("open", "1")[:2] == (0, "runs/1/index.html\n")
    assert cli("open", str(runs / "2"))[0] == 0
    assert opened == [(runs / name / "index.html").as_uri() for name in "12"]
    code, _, err = cli("open", "3" * 300)
    assert (code, "no report under runs" in err) == (2, True)


FIGURE = st.none() | st.floats() | st.sampled_from([-1, 0, 10**400, "", "much"])


@settings(max_examples=30)
@given(FIGURE, FIGURE, st.floats(0, 0.99))
def test_any_two_figures_compare(a: Any, b: Any, noise: float) -> None:
    def run(value: Any) -> Summary:
        notebook = {"name": "06-x", "passed": True, "seconds": 1.0, "error": None}
        made = {"id": "x", "ok": True, "passed": 1, "total": 1, "seconds": 1.0, "leaks": None}
        made |= {"interrupted": False, "versions": {}, "settings": {}, "context": "c"}
        return made | {"notebooks": [notebook | {"result": {"measured": {"ttft_p50_s": value}}}]}

    there, back = (
        compare_runs(run(a), run(b), noise=noise),
        compare_runs(run(b), run(a), noise=noise),
    )
    verdicts = [
        [each["verdict"] for each in made["differences"] if each["what"] == "TTFT p50"]
        for made in (there, back)
    ]
    assert len(verdicts[0]) == len(verdicts[1]) <= 1
    if verdicts[0] == ["better"] and noise == 0:
        assert verdicts[1] == ["worse"]
    assert as_text(there)

"""A rehearsal as a command: scripted learners on a sandbox of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from qwenkit.errors import InvalidValue
from qwenkit.workshop.rehearsal.run import chapters_of


def rehearsed(*words: str, seconds: float, fair: bool = True) -> dict[str, Any]:
    """Rehearse as the command does; nothing may break.

    ``fair``: the GPU minutes must be shared fairly, too.
    """
    command = [sys.executable, "-m", "qwenkit", "workshop", "rehearse", *words, "--json"]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    problems = [one for one in report["problems"] if fair or "unfairly" not in one]
    assert (problems, done.returncode) == ([], 1 if report["problems"] else 0)
    return report


def check(report: dict[str, Any], learners: int) -> None:
    assert [one["passed"] for one in report["chapters"]] == [learners] * len(report["chapters"])
    assert all(seconds > 0 for seconds in report["gpu_s"].values())
    assert report["slips"]["made"] == report["slips"]["refused"] > 0
    assert report["api_per_s"] > 0 < report["gateway_per_s"]
    assert report["leaks"] == []


def test_five_learners_share_two_gpus() -> None:
    words = ("--participants", "5", "--gpu-slots", "2", "--time-scale", "200")
    # A slot lasts seconds here: how busy this machine is becomes a part of the GPU minutes.
    report = rehearsed(*words, "--chapters", "00-04,90", seconds=300, fair=False)
    check(report, 5)
    assert report["fairness"] >= 0.8
    # Somebody had to wait: there are fewer GPUs than learners.
    deploy = next(one for one in report["chapters"] if one["chapter"] == "03")
    assert deploy["GPU wait p95, s"] > deploy["GPU wait p50, s"] > 0


@pytest.mark.long
def test_thirty_learners_share_nine_gpus_within_a_quarter_of_an_hour() -> None:
    report = rehearsed(seconds=900)
    check(report, 30)
    assert report["fairness"] >= 0.95
    assert report["bill_error_percent"] <= 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("00-06,90", ("00", "01", "02", "03", "04", "05", "06", "90")),
        ("90,00", ("00", "90")),
        ("03", ("03",)),
        (" 02 - 03 ", ("02", "03")),
    ],
)
def test_chapters(text: str, found: tuple[str, ...]) -> None:
    assert chapters_of(text) == found


@pytest.mark.parametrize("text", ["", "8", "05-02", "00-99", "a", "00,,03"])
def test_what_is_no_chapter(text: str) -> None:
    with pytest.raises(InvalidValue, match="chapters"):
        chapters_of(text)

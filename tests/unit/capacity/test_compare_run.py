"""Recorded cluster runs beside their simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import DATA

from qwenkit.autoscaling.recording import read_recording
from qwenkit.capacity.compare_run import main, simulate_run

CLOSED, OPEN = DATA / "kpa-real-run.json", DATA / "kpa-real-run-open.json"


def saved(tmp_path: Path, content: Any) -> str:
    file = tmp_path / "recording.json"
    file.write_text(json.dumps(content))
    return str(file)


@pytest.mark.parametrize("run", [CLOSED, OPEN])
def test_a_recorded_run_is_predicted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    ready, desired = capsys.readouterr().out.splitlines()
    assert ready.startswith("ready replicas: ")
    assert ready.endswith(" % of seconds equal")
    assert desired.startswith("desired: ")
    assert min(simulate_run(read_recording(run))) >= 0.95


def test_nothing_but_settings_and_traffic_is_taken_from_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = read_recording(CLOSED)
    for sample in recording["samples"]:
        sample[5] = 7  # a recording that no prediction can match
    recording["requests"] = []
    assert main([saved(tmp_path, recording)]) == 1
    assert "ready replicas: 0.0 %" in capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, [], [{}], {"samples": []}, 3])
def test_files_that_are_no_runs(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([saved(tmp_path, content)]) == 2
    assert "recording" in capsys.readouterr().err

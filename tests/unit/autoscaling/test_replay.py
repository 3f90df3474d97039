"""Recordings of the real autoscaler, decision for decision."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from places import DATA

from qwenkit.autoscaling.recording import read_recording
from qwenkit.autoscaling.replay import main, replay

GOLDEN = DATA / "kpa-golden.json.gz"
# Decided by Knative's own code on odd but legal settings: Go's spellings, borders in the last bit,
# gaps, repeated ticks, loads and totals that 32 bits or a double have no room for.
EDGES = DATA / "kpa-edges.json.gz"


def saved(tmp_path: Path, content: Any) -> str:
    file = tmp_path / "recording.json"
    file.write_text(json.dumps(content))
    return str(file)


@pytest.mark.parametrize(("recording", "decisions"), [(GOLDEN, 5760), (EDGES, 2553)])
def test_every_recorded_decision_is_equal(
    recording: Path, decisions: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recording)]) == 0
    assert capsys.readouterr().out == f"decisions: {decisions}/{decisions} equal\n"


@pytest.mark.parametrize(
    ("field", "change"),
    [("stable", 1e-6), ("panic", 1e-6), ("desired", 1), ("bounded", 1), ("ebc", -1)],
)
def test_the_first_difference_is_shown_field_by_field(
    field: str, change: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = read_recording(GOLDEN)[1]
    scenario["ticks"][7][field] += change
    scenario["ticks"][9][field] += change
    assert main([saved(tmp_path, [scenario])]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{scenario['name']} t=14 {field}: recorded ")
    total = len(scenario["ticks"])
    assert last == f"decisions: {total - 2}/{total} equal"


def test_wrong_validity_and_wrong_resolution_are_differences() -> None:
    scenario = read_recording(GOLDEN)[1]
    scenario["ticks"][3]["valid"] = False
    assert any(" valid: " in each for tick in replay(scenario) for each in tick)
    scenario = read_recording(GOLDEN)[1]
    scenario["panic_window_s"] += 1
    assert any(" panic_window_s: " in each for each in next(replay(scenario)))


@pytest.mark.parametrize("content", [{}, [], [{}], {"samples": []}, 3])
def test_files_that_are_no_recordings(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([saved(tmp_path, content)]) == 2
    assert "recording" in capsys.readouterr().err


def test_unreadable_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "missing.json")]) == 2
    broken = tmp_path / "broken.json.gz"
    broken.write_bytes(gzip.compress(b"[1, 2")[:-4])
    assert main([str(broken)]) == 2
    assert "broken.json.gz" in capsys.readouterr().err


def test_a_recording_in_several_gzip_members_is_read_whole(tmp_path: Path) -> None:
    text = json.dumps(read_recording(GOLDEN)).encode()
    path = tmp_path / "joined.json.gz"
    path.write_bytes(gzip.compress(text[:1000]) + gzip.compress(text[1000:]))
    assert read_recording(path) == read_recording(GOLDEN)


def test_a_bad_annotation_in_a_recording_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = read_recording(GOLDEN)[1]
    scenario["annotations"]["autoscaling.knative.dev/target"] = "NaN"
    assert main([saved(tmp_path, [scenario])]) == 2
    assert "autoscaling.knative.dev/target" in capsys.readouterr().err

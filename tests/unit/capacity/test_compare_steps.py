"""vLLM's own schedulers, recorded step by step, beside the model of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import DATA

from qwenkit.autoscaling.recording import read_recording
from qwenkit.capacity.compare_steps import main

TRACES = sorted((DATA / "scheduler").glob("*.json.gz"))


def saved(tmp_path: Path, content: Any) -> str:
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(content))
    return str(file)


@pytest.mark.parametrize("trace", TRACES, ids=lambda file: file.name)
def test_every_step_is_equal(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = read_recording(trace)["steps"]
    assert any(preempted for *_, preempted in recorded)
    assert main([str(trace)]) == 0
    assert capsys.readouterr().out == f"steps: {len(recorded)}/{len(recorded)} equal\n"


def test_the_first_difference_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = read_recording(DATA / "scheduler" / "0.32.0.json.gz")
    trace["steps"] = trace["steps"][:100]
    trace["steps"][7][4] += 1
    trace["steps"][8][5] = [12]
    trace["steps"][9][1] = []
    assert main([saved(tmp_path, trace)]) == 1
    *differences, last = capsys.readouterr().out.splitlines()
    free = trace["steps"][7][4]
    assert differences == [f"step 7 free blocks: recorded {free}, computed {free - 1}"]
    assert last == "steps: 97/100 equal"


def test_v1_names_its_sequences_in_any_order(tmp_path: Path) -> None:
    trace = read_recording(DATA / "scheduler" / "0.32.0.json.gz")
    for step in trace["steps"]:
        step[1].reverse()
    assert main([saved(tmp_path, trace)]) == 0


CONFIG = {
    "block_size": 16,
    "num_blocks": 8,
    "max_num_seqs": 2,
    "max_num_batched_tokens": 64,
    "max_model_len": 64,
}
GOOD = {"version": "0.32.0", "config": CONFIG, "arrivals": [], "steps": [[0, [], 0, 0, 7, []]]}


def test_a_step_of_nothing_is_a_step(tmp_path: Path) -> None:
    assert main([saved(tmp_path, GOOD)]) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": []}, "one trace"),
        ({"steps": [[0, []]]}, "not such a recording"),
        ({"steps": [3]}, "not such a recording"),
        ({"arrivals": [[0, 1]]}, "not such a recording"),
        ({"arrivals": [[0, 1, 0, 4]]}, "prompt"),
        ({"version": "main"}, "version"),
        ({"config": {}}, "block_size"),
        ({"config": CONFIG | {"block_size": 0}}, "block_size"),
        ({"config": CONFIG | {"prefix_caching": True}}, "prefix_caching"),
        ({"version": "0.4.1", "config": CONFIG | {"chunked_prefill": True}}, "chunked_prefill"),
    ],
)
def test_files_that_are_no_traces(
    changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([saved(tmp_path, GOOD | changes)]) == 2
    assert said in capsys.readouterr().err

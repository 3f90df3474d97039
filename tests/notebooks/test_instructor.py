"""The instructor's notebook: run when it is named, as it says, and nothing of it is left."""

from __future__ import annotations

import json

import observe
import pytest
from course_runs import finish, start, summary

from qwenkit.course.runner import find_notebooks


def test_a_learner_s_course_leaves_it_out():
    names = [path.stem for path in find_notebooks(None)]
    assert "80-instructor" not in names
    assert [path.stem for path in find_notebooks(None, ["80"])] == ["80-instructor"]


@pytest.mark.long  # nbval runs it, too; here its output is read
def test_it_runs_on_a_sandbox_and_cleans_up(tmp_path):
    running = start(tmp_path, "--only", "80")
    _, err = finish(running)
    assert running.returncode == 0, err
    folder, run = summary(tmp_path)
    executed = json.loads((folder / "80-instructor.ipynb").read_text("utf-8"))
    assert list(observe.mismatches(executed)) == []
    (found,) = run["notebooks"]
    assert found["seconds"] <= 300
    assert found["result"]["gpu_seconds"].keys() == {"p01", "p02"}

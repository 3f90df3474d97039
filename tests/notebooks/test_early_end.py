"""A course that ends early: it fails well, and tears down when interrupted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from xml.etree import ElementTree

import pytest
from course_runs import ROOT, finish, start, summary

from qwenkit.sandbox import process, state_files


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """Run against a sandbox that outlives the run, so that what is left can be looked at."""
    root = tmp_path / "sandbox"
    process.up(root, state_files.SandboxOptions(time_scale=20))
    for name, value in process.environment(root).items():
        monkeypatch.setenv(name, value)
    yield root
    process.down(root)


def left(tmp_path):
    kinds = "ksvc,pods,pv,pvc,secrets"
    command = ["kubectl", "--cache-dir", str(tmp_path / "cache"), "get", kinds, "-o", "name"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_failing_notebook_fails_the_run_and_everything_is_torn_down(tmp_path, sandbox):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01-model-to-oss", "02-storage", "90-teardown"):
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder)
    broken = folder / "02-storage.ipynb"
    notebook = json.loads(broken.read_text("utf-8"))
    result = next(cell for cell in notebook["cells"] if cell["id"] == "result")
    result["source"] = ["1 / 0"]
    broken.write_text(json.dumps(notebook), "utf-8")

    running = start(tmp_path / "runs", "--notebooks", str(folder))
    out, err = finish(running)
    assert running.returncode == 1
    assert "course: 1/3 notebooks passed" in out
    assert "02-storage: FAILED" in err
    folder, run = summary(tmp_path / "runs")
    failed = run["notebooks"][1]
    assert failed["error"] == {"what": "ZeroDivisionError: division by zero", "cell": "result"}
    assert (folder / "02-storage.html").exists(), "the failing notebook is there to be read"
    suite = ElementTree.parse(folder / "junit.xml").getroot()
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
    assert run["leaks"] == []
    assert left(tmp_path) == ""


def test_only_leaves_what_it_made_unless_teardown_is_named(tmp_path, sandbox):
    running = start(tmp_path / "runs", "--only", "01,02")
    out, err = finish(running)
    assert running.returncode == 0, err
    assert "course: 2/2" in out
    assert "persistentvolumeclaim/llm-model" in left(tmp_path)
    assert summary(tmp_path / "runs")[1]["leaks"] is None
    running = start(tmp_path / "again", "--only", "90")
    _, err = finish(running)
    assert running.returncode == 0, err
    assert left(tmp_path) == ""


def test_a_second_run_beside_a_first_is_refused_and_ctrl_c_tears_down(tmp_path, sandbox):
    output = tmp_path / "runs"
    first = start(output, "--only", "01,02,03,90")
    wait_for(lambda: "persistentvolumeclaim/llm-model" in left(tmp_path))
    second = start(output, "--only", "00")
    _, err = finish(second)
    assert second.returncode == 1
    assert "another run is writing" in err

    wait_for(lambda: "service.serving.knative.dev/qwen" in left(tmp_path))
    first.send_signal(signal.SIGINT)
    out, err = finish(first)
    assert first.returncode == 130, out + err
    assert "interrupted; tearing down" in err
    assert left(tmp_path) == ""
    run = summary(output)[1]
    assert run["interrupted"]
    assert run["leaks"] == []


def wait_for(condition, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.3)

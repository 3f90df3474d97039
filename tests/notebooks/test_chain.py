"""The papermill chain as CI runs it: it passes, it fails well, it tears down when interrupted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import observe
import pytest
from jsonschema import Draft202012Validator

from qwenkit.sandbox import process, state_files

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "qwenkit" / "course" / "summary.schema.json").read_text("utf-8"))
PARAMS = ROOT / "notebooks" / "params" / "sandbox.yaml"


def start(output, *words):
    command = [sys.executable, "-m", "qwenkit", "run", "-p", str(PARAMS), "--output", str(output)]
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(running, timeout=400):
    out, err = running.communicate(timeout=timeout)
    return out, err


def summary(output):
    (folder,) = [path for path in output.iterdir() if path.is_dir()]
    found = json.loads((folder / "summary.json").read_text("utf-8"))
    Draft202012Validator(SCHEMA).validate(found)
    return folder, found


def test_the_whole_course_passes(tmp_path):
    running = start(tmp_path)
    out, err = finish(running)
    assert running.returncode == 0, err
    last = out.strip().splitlines()[-1]
    found = re.fullmatch(r"course: 9/9 notebooks passed in [\d.]+ s → (.+)/index\.html", last)
    assert found, last

    folder, run = summary(tmp_path)
    assert Path(found[1]) == folder
    assert run["ok"]
    assert run["leaks"] == []
    assert run["waited"].keys() >= {
        "upload",
        "revision ready",
        "new revision ready",
        "load",
        "scale down",
    }
    by_name = {notebook["name"]: notebook for notebook in run["notebooks"]}
    assert all(notebook["seconds"] > 0 for notebook in by_name.values())
    verdicts = by_name["00-preflight"]["result"]["checks"]
    # All GPUs are in use at full scale, and an image is known once it was pulled.
    assert (verdicts.pop("rollout"), verdicts.pop("image")) == ("warn", "unknown")
    assert set(verdicts.values()) == {"ok", "not applicable"}
    assert verdicts["gpus"] == verdicts["bucket"] == verdicts["pvc-flag"] == "ok"
    assert by_name["01-model-to-oss"]["result"]["bytes_sent"] > 2_000_000
    assert by_name["02-storage"]["result"]["phase"] == "Bound"
    assert by_name["04-query"]["result"]["answer"] == "西湖位于中国浙江省杭州市,是中国著名的风景名"
    predicted = by_name["05-autoscaling"]["result"]
    assert predicted["effective_target"] == pytest.approx(1.4)
    assert predicted["predicted"]["max_ready"] == 3
    assert len(predicted["autoscalers"]) == 5
    _went_from_one_to_three_and_down(by_name["06-load-test"]["result"])
    steps = by_name["07-rollout"]["result"]["steps"]
    assert [(each["share"], each["gate"]) for each in steps] == [
        (10, "passed"),
        (50, "passed"),
        (100, "passed"),
        (10, "held"),
    ]
    assert by_name["90-teardown"]["result"]["leaks"] == []

    suite = ElementTree.parse(folder / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("10", "0")
    for name in by_name:
        page = (folder / f"{name}.html").read_text("utf-8")
        assert not re.search(r'src="(https?:)?//', page), "a report must not need the network"
        executed = json.loads((folder / f"{name}.ipynb").read_text("utf-8"))
        assert list(observe.mismatches(executed)) == [], name
    assert str(os.getpid()) not in err or "Traceback" not in err


def _went_from_one_to_three_and_down(found):
    assert (found["start_ready"], found["peak_ready"], found["final_ready"]) == (1, 3, 0)
    assert len(found["served_by"]) == 3
    assert all(pod.startswith("qwen-00001-") for pod in found["served_by"])
    assert found["agreement_percent"] >= 90
    assert found["clock"] == 10
    requests = found["requests"]
    assert requests["sent"] == requests["ok"] == sum(found["served_by"].values())
    assert found["errors"] == {}
    assert found["predicted"].keys() == found["measured"].keys() == found["after"].keys()
    assert found["after"]["max_ready"] == 1
    assert found["after"]["gpu_seconds"] < found["measured"]["gpu_seconds"] / 2
    assert found["changed"]["autoscaling.knative.dev/target"] == "8"


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
    first = start(output)
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

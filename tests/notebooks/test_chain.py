"""The papermill chain as CI runs it: it passes, and its outputs are what the notebooks say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import observe
import pytest
from course_runs import finish, start, summary

pytestmark = pytest.mark.alone


def bare(notebook):
    """Return the cells that end in something for programs: a repr where a sentence would serve."""
    plain = [
        (cell["id"], "".join(output["data"]["text/plain"]))
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if output.get("data", {}).keys() == {"text/plain"}
    ]
    return [name for name, text in plain if re.match(r"[\[{('\"<]|[A-Z]\w*\(", text)]


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
        assert bare(executed) == [], name
        assert by_name[name]["seconds"] <= 300, f"{name} is longer than a learner waits"
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

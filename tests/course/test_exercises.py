"""The exercises' commands against a running sandbox."""

from __future__ import annotations

import json

import pytest

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import KSVC, PVC
from qwenkit.settings import Settings


@pytest.fixture
def own(qwenkit, tmp_path):
    """Return ``qwenkit`` for a learner of this test, with a Service and a volume of its own."""
    names = {"service": "learner", "volume": "learner", "run": "learner"}
    env = {f"QWENKIT_{name.upper()}": value for name, value in names.items()}
    env["QWENKIT_PROGRESS"] = str(tmp_path / "progress.json")
    yield lambda *words: qwenkit(*words, env=env)
    assert qwenkit("teardown", "--now", "--delete-weights", env=env).returncode == 0


def test_answer_check_progress(own):
    assert own("answer", "05.1", "3").returncode == 1
    hinted = own("check", "05.1", "--hint", "2")
    assert "hint 2" in hinted.stdout
    assert "hint 3" not in hinted.stdout
    assert own("answer", "05.1", "4").returncode == 0
    (checked,) = json.loads(own("check", "05.1", "--json").stdout)
    assert checked["verdict"] == "passed"
    shown = json.loads(own("progress", "--json").stdout)
    assert shown["passed"] == 1
    assert own("check", "77.1").returncode == 2


def test_reset_brings_the_target_to_the_start_of_a_chapter(own, environment, monkeypatch):
    for name in ("KUBECONFIG", "QWENKIT_CONTEXT"):
        if name in environment:
            monkeypatch.setenv(name, environment[name])
    cluster = Cluster.connect(Settings(run="learner"))
    kinds = ["Secret", "PersistentVolume", "PersistentVolumeClaim", "Service"]
    for chapter, made in [("04", 4), ("03", 3), ("03", 3), ("02", 0), ("00", 0), ("05", 4)]:
        done = own("reset", chapter, "--json")
        assert done.returncode == 0, done.stderr
        steps = json.loads(done.stdout)["steps"]
        shown = [step["name"].split()[0] for step in steps if step["outcome"].startswith("as the")]
        assert shown == kinds[:made]
        assert bool(cluster.find(PVC, "learner")) == (made > 0)
        assert bool(cluster.find(KSVC, "learner")) == (made == 4)
    assert own("deploy").returncode == 0
    cluster.patch(KSVC, "learner", {"metadata": {"labels": {"team": "me"}}})
    service = cluster.get(KSVC, "learner")
    assert own("reset", "04").returncode == 0
    found = cluster.get(KSVC, "learner")
    assert found["metadata"]["uid"] == service["metadata"]["uid"]
    assert "team" not in found["metadata"]["labels"]
    assert own("reset", "01", "--set", "bucket=").returncode == 0
    cluster.close()
    assert own("reset", "12").returncode == 2

"""A change of a Service that serves, on a whole sandbox with three GPUs of which none is spare."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenkit.cluster.change.proposal import ProposedChange, propose_change
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import deploy, propose
from qwenkit.cluster.kinds import CONFIGURATION, KSVC, REVISION
from qwenkit.cluster.rollout import wait_ready
from qwenkit.credentials import Credentials
from qwenkit.errors import NotReady
from qwenkit.manifests.render import render, secret
from qwenkit.sandbox import process
from qwenkit.sandbox.faults.client import time_scale
from qwenkit.settings import Settings

FOLDER = "Qwen-7B-Chat-Int8"
SLOW, FAST = 5, 1000


def command(*arguments: str) -> str:
    words = [sys.executable, "-m", "qwenkit", *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("sandbox")
    command("sandbox", "up", "--detach", "--time-scale", str(SLOW), "--root", str(root))
    try:
        bucket = root / "oss" / process.environment(root)["OSS_BUCKET"]
        shutil.copytree(root / "hub" / "qwen" / FOLDER, bucket / FOLDER)
        yield root
    finally:
        command("sandbox", "down", "--root", str(root))


@pytest.fixture
def settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in process.environment(root).items():
        monkeypatch.setenv(name, value)
    return Settings(min_scale=3, max_scale=3, stable_window="6s", timeout_s=60.0)


@pytest.fixture
def cluster(settings: Settings) -> Iterator[Cluster]:
    cluster = Cluster.connect(settings)
    yield cluster
    cluster.close()


def documents(settings: Settings) -> list[Any]:
    return [secret(settings, Credentials.required()), *render(settings)[1:]]


def works(change: ProposedChange) -> dict[str, bool]:
    return {one.mode: one.works for one in change.modes}


def test_without_a_spare_gpu_a_change_is_refused_and_replaced_with_the_gap_that_was_predicted(
    cluster: Cluster, settings: Settings
) -> None:
    assert propose(cluster, settings, documents(settings)) is None, "nothing serves yet"
    deploy(cluster, settings, documents(settings))
    other = settings.model_copy(update={"max_model_len": 4096})
    with pytest.raises(NotReady, match="surge does not work now") as refused:
        deploy(cluster, other, documents(other))
    assert "--mode replace" in refused.value.fix
    change = propose(cluster, other, documents(other), clock=lambda: SLOW)
    assert change is not None
    assert [str(each).partition(": ")[2] for each in change.diff] == [
        "--max-model-len=6144 → --max-model-len=4096"
    ]
    assert (change.revision, change.next_revision) == ("qwen-00001", "qwen-00002")
    assert (change.gpus_needed, str(change.gpus)) == (3, "0 of 3 free")
    assert works(change) == {"surge": False, "replace": True, "in-place": False}

    done = change.apply("replace", timeout_s=60)
    assert (done.old_revision, done.new_revision) == ("qwen-00001", "qwen-00002")
    assert done.predicted_gap_s is not None
    assert done.gap_s == pytest.approx(done.predicted_gap_s, rel=0.25), str(change)
    assert cluster.find(REVISION, "qwen-00001") is None


def test_what_does_not_start_is_rolled_back(
    cluster: Cluster, settings: Settings, root: Path
) -> None:
    before = cluster.get(KSVC, "qwen")["spec"]["template"]
    with time_scale(root, FAST):
        bad = settings.model_copy(update={"extra_args": "--no-such-flag 3"})
        with pytest.raises(NotReady, match="rolled back: qwen-00004 serves") as failed:
            deploy(cluster, bad, documents(bad), mode="replace")
        assert "--no-such-flag" in str(failed.value)
        assert failed.value.context["rolled_back_to"] == "qwen-00004"
        assert cluster.get(KSVC, "qwen")["spec"]["template"] == before
        assert cluster.find(REVISION, "qwen-00003") is None

        one = propose_change(cluster, "qwen", {"min-scale": "1"}, clock=FAST)
        done = one.apply("replace", timeout_s=60)
        assert done.new_revision == "qwen-00005"
        done = propose_change(cluster, "qwen", {"target": "4"}).apply(timeout_s=60)
        back = propose_change(cluster, "qwen", {"target": "2"})
        assert works(back) == {"surge": True, "replace": True, "in-place": True}
        routed = back.apply("in-place", timeout_s=60)
        assert (routed.old_revision, routed.new_revision) == ("qwen-00006", "qwen-00005")
        assert routed.undo(timeout_s=60).new_revision == done.new_revision == "qwen-00006"

        missing = render(settings.model_copy(update={"min_scale": 1, "max_scale": 2}))[-1]
        container = missing["spec"]["template"]["spec"]["containers"][0]
        container["image"] = "example.com/none:1"
        with pytest.raises(NotReady, match="rolled back: qwen-00006 serves on") as failed:
            propose_change(cluster, "qwen", document=missing).apply(timeout_s=60)
        assert failed.value.context["rolled_back_to"] == "qwen-00006"


def test_an_interrupted_replacement_goes_on_by_itself_and_can_be_taken_back(
    cluster: Cluster, root: Path
) -> None:
    def interrupt(_line: object) -> None:
        raise KeyboardInterrupt

    with time_scale(root, FAST):
        settled = cluster.get(KSVC, "qwen")["metadata"]["generation"]
        wait_ready(cluster, "qwen", generation=settled, timeout_s=60)
        same = propose_change(cluster, "qwen", {"target": "4"})
        assert same.apply("replace", timeout_s=60).new_revision == same.revision, "no change"
        change = propose_change(cluster, "qwen", {"target": "8"}, clock=FAST)
        with pytest.raises(KeyboardInterrupt) as stopped:
            change.apply("replace", timeout_s=60, on_change=interrupt)
        assert "has the new template" in "".join(stopped.value.__notes__)
        wait_ready(cluster, "qwen", generation=settled + 1, timeout_s=60)
        newest = cluster.get(CONFIGURATION, "qwen")["status"]["latestReadyRevisionName"]
        assert newest == change.next_revision
        assert cluster.find(REVISION, change.revision) is None

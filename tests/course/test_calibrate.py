"""``qwenkit calibrate`` whole, against a sandbox; what it measures depends on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from qwenkit.sandbox import process, state_files

CALIBRATE = (sys.executable, "-m", "qwenkit", "calibrate", "--quick", "--name", "mine")


@pytest.fixture
def services(qwenkit, environment):
    """Return what lists the services, once the course's own serves."""
    bucket = f"oss://{environment['OSS_BUCKET']}/Qwen-7B-Chat-Int8"
    assert qwenkit("upload", "modelscope:qwen/Qwen-7B-Chat-Int8", bucket).returncode == 0
    assert qwenkit("deploy").returncode == 0
    listed = ["kubectl", "get", "ksvc", "-o", "name"]

    def services():
        return subprocess.check_output(listed, env=environment, text=True).split()

    yield services
    assert qwenkit("teardown", "--delete-weights").returncode == 0


def test_a_copy_is_measured_also_after_an_interrupt_and_its_card_is_used(
    services, environment, tmp_path, monkeypatch
):
    running = subprocess.Popen(CALIBRATE, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
    assert any(b"vLLM: " in line for line in running.stderr)
    assert "service.serving.knative.dev/qwen-calibrate" in services()
    running.send_signal(signal.SIGINT)
    running.communicate()
    assert running.returncode == 130
    assert services() == ["service.serving.knative.dev/qwen"]
    assert not (tmp_path / "cards").exists()
    done = subprocess.run(
        [*CALIBRATE, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["points"] >= 8
    assert services() == ["service.serving.knative.dev/qwen"]
    run = json.loads((tmp_path / "cards" / "mine.json").read_text())["measured"]["runs"]["measured"]
    assert len(run["prefill_s"]) == 3
    assert {one["batch"] for one in run["decode"]} > {1}
    root = tmp_path / "other"
    monkeypatch.chdir(tmp_path)
    try:
        process.up(root, state_files.SandboxOptions(gpu=f"card:{tmp_path / 'cards' / 'mine.json'}"))
        other = environment | process.environment(root)
        assert other["QWENKIT_GPU"].startswith("card:/")
        nodes = subprocess.check_output(["kubectl", "get", "nodes", "-o", "json"], env=other)
        labels = json.loads(nodes)["items"][0]["metadata"]["labels"]
        assert labels["aliyun.accelerator/nvidia_name"] == "Tesla-V100-SXM2-16GB"
    finally:
        process.down(root)

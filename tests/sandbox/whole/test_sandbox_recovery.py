"""A sandbox that was killed comes up again as it was; nothing of one stays behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_sandbox import RealSandbox, alive, eventually, obj

from qwenkit.errors import SandboxError
from qwenkit.sandbox import process, state_files


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    process.down(tmp_path / "root")


def test_after_a_crash_the_cluster_is_as_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A person's file in the working folder is no module of the sandbox.
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    first = process.up(root, began=time.monotonic() - 1000)
    assert not first.recovered
    assert first.seconds > 1000  # all that somebody waited for it, not only its own start
    sandbox = RealSandbox(root)
    sandbox.apply(obj("ConfigMap", "kept", data={"a": "b"}))
    eventually(lambda: '"kept"' in (root / "cluster.json").read_text())
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: state_files.find(root) is None)

    second = process.up(root)
    assert second.recovered
    # Volumes and shells name these addresses.
    assert (second.api, second.oss, second.hub, second.gateway) == (
        first.api,
        first.oss,
        first.hub,
        first.gateway,
    )
    assert sandbox.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
    for name in ("cluster.json", "previous.json"):
        assert (root / name).stat().st_mode & 0o077 == 0


def test_a_sandbox_whose_folder_is_gone_stops(root: Path) -> None:
    pid = process.up(root).pid
    shutil.rmtree(root, ignore_errors=True)  # it may write this very moment
    shutil.rmtree(root, ignore_errors=True)
    eventually(lambda: not alive(pid))


def test_down_stops_one_that_does_not_answer_yet(root: Path) -> None:
    """The folder must not be removed under a process that goes on."""
    pid = process.up(root).pid
    (root / "sandbox.json").unlink()
    assert state_files.find(root) is None
    assert process.down(root)
    assert not alive(pid)
    assert not root.exists()


def test_a_second_one_is_refused_and_the_first_stays(root: Path) -> None:
    first = process.up(root)
    with pytest.raises(SandboxError, match=f"its process is {first.pid}"):
        process.up(root)
    # Past the first check too: the lock decides.
    command = [sys.executable, "-m", "qwenkit.sandbox", str(root), "{}", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "already running" in done.stderr
    assert state_files.running(root) == first


def test_another_version_s_state_is_no_running_sandbox(root: Path) -> None:
    process.prepare(root)
    (root / "sandbox.json").write_text('{"options": {"colour": "red"}}')
    with pytest.raises(SandboxError, match="no state"):
        state_files.read_state(root / "sandbox.json")


def test_a_folder_is_not_removed_under_an_unknown_holder(root: Path) -> None:
    process.prepare(root)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SandboxError, match="unknown process"):
            process.down(root)
    assert (root / "keys.json").exists()

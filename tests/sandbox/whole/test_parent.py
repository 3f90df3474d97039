"""A sandbox that a command started for itself ends with that command, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_sandbox import alive, eventually

from qwenkit.errors import SandboxError
from qwenkit.sandbox import process, state_files
from qwenkit.sandbox.root import marker

# Prints the sandbox's folder and process, and waits.
PARENT = """
import json, pathlib, sys, time
from qwenkit.sandbox import process
with process.attached(root=pathlib.Path(sys.argv[1]) if sys.argv[1:] else None) as (root, state):
    print(json.dumps([str(root), state.pid]), flush=True)
    time.sleep(600)
"""


@contextmanager
def parent(folder: Path, *arguments: Path) -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    command = [sys.executable, "-c", PARENT, *arguments]
    env = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            root, pid = json.loads(running.stdout.readline())
            yield running, Path(root), pid
        finally:
            running.kill()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def swept() -> str:
    notes: list[str] = []
    process.sweep(notes.append)
    return "".join(notes)


def test_it_ends_with_a_parent_that_is_killed(temporary: Path) -> None:
    with parent(temporary) as (running, root, pid):
        made = marker.read(root)
        assert made is not None
        assert made.temporary
        assert swept() == ""  # a run that goes on
        running.kill()
        eventually(lambda: not alive(pid))
    assert list(temporary.iterdir()) == []


def test_what_was_killed_with_its_parent_is_swept(temporary: Path) -> None:
    with parent(temporary) as (running, root, pid):
        os.kill(running.pid, signal.SIGSTOP)  # it cannot see the end of its sandbox
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid))
        assert swept() == ""
        running.kill()
        running.wait()
        (root / "mine").write_text("precious")
        assert str(root) in swept()
    assert [path.name for path in root.iterdir()] == ["mine"]
    assert swept() == ""


def test_a_folder_of_another_machine_is_not_swept(temporary: Path) -> None:
    with parent(temporary) as (running, root, pid):
        os.kill(running.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid))
    running.wait()
    path = root / marker.MARKER
    made = json.loads(path.read_text())
    path.write_text(json.dumps(made | {"machine": "elsewhere"}))
    assert swept() == ""
    assert marker.read(root) is not None
    path.write_text(json.dumps(made))
    assert str(root) in swept()


def test_a_folder_of_somebody_is_not_swept(temporary: Path) -> None:
    folders = [temporary / f"qwenkit-sandbox-{name}" for name in ("none", "kept", "bad", "link")]
    for folder in folders[:3]:
        folder.mkdir()
    (folders[0] / "keys.json").write_text("[]")
    process.prepare(folders[1])  # by --root, for somebody who comes back
    (folders[2] / marker.MARKER).write_text("{")
    folders[3].symlink_to(folders[1])
    before = sorted(temporary.rglob("*"))
    assert swept() == ""
    assert sorted(temporary.rglob("*")) == before


def test_what_a_crashed_one_left_outlives_a_lab(tmp_path: Path) -> None:
    root = tmp_path / "root"
    pid = process.up(root).pid
    (root / "oss" / state_files.BUCKET / "kept.txt").write_text("kept")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: state_files.find(root) is None)
    with process.attached(root=root) as (_, state):
        assert state_files.running(root) == state
    assert state_files.find(root) is None
    assert (root / "oss" / state_files.BUCKET / "kept.txt").read_text() == "kept"
    process.down(root)
    assert not root.exists()


def test_a_lab_that_is_killed_leaves_neither_sandbox_nor_jupyterlab(tmp_path: Path) -> None:
    stand_in = tmp_path / "jupyterlab"
    stand_in.mkdir()
    (stand_in / "__init__.py").touch()
    program = f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text("
    (stand_in / "__main__.py").write_text(f"{program}str(os.getpid()))\ntime.sleep(600)\n")
    root, path = tmp_path / "root", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with subprocess.Popen(
        [sys.executable, "-m", "qwenkit", "lab", "--root", root],
        env=os.environ | {"PYTHONPATH": path},
    ) as lab:
        try:
            pid = int(eventually(lambda: (tmp_path / "pid").exists() and _read(tmp_path / "pid")))
        finally:
            lab.kill()
    eventually(lambda: not alive(pid))
    eventually(lambda: not root.exists())


def _read(path: Path) -> str:
    return path.read_text()


def test_without_a_place_for_temporary_files_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    process.sweep()
    with pytest.raises(SandboxError, match="set TMPDIR"), process.attached():
        pass


def test_a_start_that_is_killed_leaves_a_folder_to_start_in(tmp_path: Path) -> None:
    root, what = tmp_path / "root", [sys.executable, "-m", "qwenkit", "sandbox"]
    with subprocess.Popen([*what, "up", "--detach", "--root", root]) as up:
        try:
            up.wait(0.8)
        except subprocess.TimeoutExpired:
            up.kill()
    state = process.up(root)
    assert process.down(root)
    assert not alive(state.pid)
    assert not root.exists()


def test_a_start_that_comes_late_does_not_bring_a_folder_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    process.prepare(root)
    known = marker.claimed(root).id
    process.down(root)
    command = [sys.executable, "-m", "qwenkit.sandbox", root, "{}", "0", "stays", known]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "was removed while a sandbox started there" in done.stderr
    assert not root.exists()

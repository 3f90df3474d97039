"""A folder is a sandbox's by its marker, and `down` removes only what sandboxes wrote."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import SandboxError
from qwenkit.sandbox import process, state_files, tiny_model
from qwenkit.sandbox.root.marker import MARKER, read
from qwenkit.sandbox.trees import remove_tree

KEY_FILE = "keys.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a sandbox's folder as a crash leaves it."""
    root = tmp_path / "root"
    process.prepare(root)
    for name in ("sandbox.json", "cluster.json", "faults.json", "kubeconfig", "log", "cluster.new"):
        (root / name).write_text("{}")
    tiny_model.write(root / "hub" / state_files.MODEL)
    records = root / "oss" / ".qwenkit"
    written(records / "escaped" / "bucket" / ("0" * 64), records / "oss.sqlite-wal")
    written(records / "uploads" / ("A" * 32) / "00001-0", records / "temporary" / ("0" * 32))
    written(root / "oss" / "bucket" / "a" / "b")
    written(root / "programs" / "program-1" / "deep" / "file")
    return root


def written(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def down(root: Path) -> str:
    notes: list[str] = []
    assert process.down(root, on_note=notes.append)
    return "\n".join(notes)


def test_what_a_sandbox_wrote_goes_whole(root: Path) -> None:
    made = read(root)
    assert made is not None
    assert json.loads((root / MARKER).read_text())["magic"] == "qwenkit-sandbox"
    assert down(root) == ""
    assert not root.exists()
    assert not process.down(root)
    process.prepare(root)
    again = read(root)
    assert again is not None
    assert again.id != made.id


def test_what_a_person_put_there_stays_and_is_named(root: Path) -> None:
    foreign = ["notes.txt", "oss/README", "hub/mine/config.json", "programs/x", "kube/state"]
    foreign += [f"hub/{state_files.MODEL}/tokens.md", "oss/.qwenkit/x", "oss/.qwenkit/uploads/x"]
    foreign += ["oss/.qwenkit/escaped/bucket/x", "oss/.qwenkit/temporary/x"]
    written(*(root / name for name in foreign))
    written(root / "oss" / "bucket" / "by-hand.bin")  # served as an object
    said = down(root)
    for name in (
        "notes.txt",
        "oss/README",
        "hub/mine",
        "programs/x",
        "kube",
        "tokens.md",
        "bucket/x",
    ):
        assert name in said
    assert names(root) == set(foreign)
    assert not process.down(root)
    assert names(root) == set(foreign)
    with pytest.raises(SandboxError, match="no sandbox made it"):
        process.prepare(root)


def test_no_link_is_followed(root: Path, tmp_path: Path) -> None:
    mine = [tmp_path / "mine" / "thesis.txt", tmp_path / "mine" / "bucket" / "a"]
    mine += [tmp_path / "mine" / state_files.MODEL / "config.json"]
    written(*mine)
    for name in ("oss/bucket/a/link", "oss/linked", "kubeconfig", "programs/program-1/link", "hub"):
        if name == "hub":
            shutil.rmtree(root / name)
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(tmp_path / "mine")
    said = down(root)
    assert [path.read_text() for path in mine] == ["precious"] * 3
    assert {path.name for path in root.iterdir()} == {"oss", "kubeconfig", "hub"}
    assert "oss/linked" in said


def test_a_link_as_a_root_is_refused_and_one_above_it_is_not(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "above").symlink_to(tmp_path)
    for act in (process.down, process.prepare, process.up):
        with pytest.raises(SandboxError, match="is a symbolic link"):
            act(tmp_path / "link")
    assert (root / MARKER).exists()
    assert process.down(tmp_path / "above" / "root")
    assert not root.exists()


@pytest.mark.parametrize("name", [KEY_FILE, "thesis.txt", "lock", ".hidden", "oss/bucket/a"])
def test_a_folder_without_a_marker_is_left_alone(tmp_path: Path, name: str) -> None:
    written(tmp_path / name)
    with pytest.raises(SandboxError, match="no sandbox made it"):
        process.up(tmp_path)
    if name == KEY_FILE:  # of an older version, it may be
        with pytest.raises(SandboxError, match="older qwenkit"):
            process.down(tmp_path)
    else:
        notes: list[str] = []
        assert not process.down(tmp_path, on_note=notes.append)
        assert "nothing was removed" in notes[0]
    assert names(tmp_path) == {name}


def test_a_copied_marker_makes_nothing_ours(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    written(*(mine / name for name in (KEY_FILE, "kubeconfig", "log", "oss/photos/1", "lock.txt")))
    written(mine / "lock", mine / "holder")
    before = names(mine)
    shutil.copy(root / MARKER, mine / MARKER)
    with pytest.raises(SandboxError, match="no sandbox made it"):
        process.up(mine)
    down(mine)
    assert names(mine) == before


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"magic": "x"}', "[" * 9999, "\x00", '{"magic": 1, "id": 2}'],
)
def test_a_damaged_marker_is_an_error(root: Path, content: str) -> None:
    (root / MARKER).write_text(content)
    before = names(root)
    for act in (process.up, process.down):
        with pytest.raises(SandboxError, match="no marker"):
            act(root)
    assert names(root) == before


def test_a_folder_as_marker_is_an_error(root: Path) -> None:
    (root / MARKER).unlink()
    (root / MARKER).mkdir()
    for act in (process.up, process.down):
        with pytest.raises(SandboxError, match="no marker"):
            act(root)


def test_a_marker_of_another_format_is_an_error(root: Path) -> None:
    raw = json.loads((root / MARKER).read_text())
    (root / MARKER).write_text(json.dumps(raw | {"format": 2, "more": 1}))
    with pytest.raises(SandboxError, match="format is 2"):
        process.down(root)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "file")
    for bad in (tmp_path / "file", tmp_path / "file" / "x", Path("/proc/x")):
        with pytest.raises(SandboxError):
            process.up(bad)
    assert names(tmp_path) == {"file"}


def test_a_folder_that_others_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SandboxError, match="used by other programs"):
        process.prepare(tmp_path)
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    with pytest.raises(SandboxError, match="used by other programs"):
        process.prepare(sticky)
    assert list(sticky.iterdir()) == []


def test_what_a_killed_start_or_end_left_is_ours(tmp_path: Path) -> None:
    for left in ([], ["lock"], ["lock", "holder"], ["lock", "holder", f"{MARKER}.new"]):
        root = tmp_path / str(len(left))
        root.mkdir()
        for name in left:
            (root / name).touch()
        process.prepare(root)
        assert down(root) == ""
        assert not root.exists()
        if left:
            root.mkdir()
            (root / "lock").touch()
            down(root)
            assert not root.exists()


def test_a_tree_of_any_depth_goes(root: Path) -> None:
    here = os.open(root / "oss" / "bucket", os.O_RDONLY)
    for _ in range(1200):  # longer than any path, and deeper than Python recurses
        os.mkdir("folder", dir_fd=here)
        below = os.open("folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    closed = root / "oss" / "bucket" / "closed"
    written(closed / "file")
    closed.chmod(0o500)
    assert down(root) == ""
    assert not root.exists()


def test_a_folder_of_many_folders_is_not_listed_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide, listed, listdir = tmp_path / "wide", [], os.listdir
    for number in range(50):
        written(wide / str(number) / "file")
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or listdir(folder))
    assert remove_tree(wide) == []
    assert not wide.exists()
    assert len(listed) < 60


def test_a_folder_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, **more: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    written(tmp_path / "a" / "b" / "file")
    monkeypatch.setattr(os, "rmdir", refuse)
    (inner,) = remove_tree(tmp_path / "a" / "b")
    assert inner.startswith("b: ")
    assert names(tmp_path) == set()


def test_no_signal_goes_to_a_process_that_is_not_proven_ours(root: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as innocent:
        try:
            (root / "pid").write_text(str(innocent.pid))
            state = state_files.SandboxState(innocent.pid, state_files.SandboxOptions(), *"1234", 1)
            (root / "sandbox.json").write_text(json.dumps(vars(state) | {"options": {}}))
            assert state_files.find(root) is None
            with (root / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                assert state_files.find(root) is None
                with pytest.raises(SandboxError, match="unknown process"):
                    process.down(root)
            down(root)
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_two_downs_and_an_up_at_once_end_well(tmp_path: Path) -> None:
    root = tmp_path / "root"
    command = [sys.executable, "-m", "qwenkit", "sandbox"]
    up = subprocess.Popen([*command, "up", "--detach", "--root", root], stderr=subprocess.PIPE)
    threading.Event().wait(1.5)
    downs = [subprocess.Popen([*command, "down", "--root", root]) for _ in range(2)]
    assert [one.wait(60) for one in downs] == [0, 0]
    _, said = up.communicate(timeout=60)
    assert up.returncode in (0, 1), said
    assert b"Traceback" not in said
    process.down(root)
    assert not root.exists()


class _Killed(BaseException):
    """Stands for the end of a process at one of its calls."""


def killed(monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[], object]) -> bool:
    """Return whether ``act`` was killed at its n-th change of the file system."""
    left = itertools.count(at, -1)

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                raise _Killed
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir", "mkdir", "replace", "fsync", "chmod"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            act()
        except _Killed:
            return True
    return False


def test_whatever_moment_a_start_is_killed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in itertools.count():
        first, second = tmp_path / f"{at}-up", tmp_path / f"{at}-down"
        if not killed(monkeypatch, at, lambda root=first: process.prepare(root)):
            break
        process.prepare(first)
        assert down(first) == ""
        assert not first.exists()
        killed(monkeypatch, at, lambda root=second: process.prepare(root))
        made = second.exists() and any(second.iterdir())
        process.down(second)
        # A folder that holds nothing may be anybody's.
        assert second.exists() <= (not made)
    assert at > 3


def test_whatever_moment_an_end_is_killed_at(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in itertools.count():
        copy, mixed = tmp_path / f"copy-{at}", tmp_path / f"mixed-{at}"
        shutil.copytree(root, copy)
        shutil.copytree(root, mixed)
        written(mixed / "mine")
        was_killed = killed(monkeypatch, at, lambda root=copy: process.down(root))
        process.down(copy)
        assert not copy.exists() or not any(copy.iterdir())
        killed(monkeypatch, at, lambda root=mixed: process.down(root))
        process.down(mixed)
        # Without a marker, two empty files beside it may be anybody's.
        assert {"mine"} <= names(mixed) <= {"mine", "lock", "holder"}
        if not was_killed:
            break
    assert not copy.exists()
    assert names(mixed) == {"mine"}
    assert at > 10

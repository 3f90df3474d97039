"""Whatever is wrong with the folder of the checkpoints: the upload ends well, nobody else reads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transfer_world import World, is_part, proven
from twelve_parts import DATA, FILES, PARTS, send

from qwenkit.errors import Unreachable
from qwenkit.sandbox.faults import effects


def parts_sent(place: World) -> int:
    return sum(map(is_part, place.faults.seen))


def interrupt(place: World) -> int:
    """Leave an upload with part 9 missing; return how many parts arrived."""
    place.faults.add(lambda r: is_part(r) and r.query["partNumber"] == "9", effects.reset)
    with pytest.raises(Unreachable):
        send(place)
    place.faults.rules.clear()
    place.faults.seen.clear()
    (upload_id,) = place.orphans()
    return len(place.bucket.list_parts("m/w.bin", upload_id).parts)


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


def elsewhere(path: Path) -> None:
    path.rename(path.parents[2] / "elsewhere.json")
    path.symlink_to(path.parents[2] / "elsewhere.json")


SPOILT: dict[str, Callable[[Path], object]] = {
    "huge": lambda path: os.truncate(path, 1 << 40),
    "deep": lambda path: path.write_bytes(b"[" * 1_000_000),
    "not-utf8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "long-number": lambda path: path.write_bytes(b'{"format": ' + b"1" * 5000 + b"}"),
    "nan": lambda path: path.write_text(
        path.read_text().replace('"part_size": ', '"part_size": NaN')
    ),
    "huge-parts": lambda path: path.write_text(
        path.read_text().replace('"part_size": 131072', f'"part_size": {10**30}')
    ),
    "odd-id": lambda path: path.write_text(
        path.read_text().replace('"upload_id": "', '"upload_id": "\\u0000\\n ')
    ),
    "fifo": replaced(os.mkfifo),
    "folder": replaced(Path.mkdir),
    "link": elsewhere,
    "loop": replaced(lambda path: path.symlink_to(path)),
    "device": replaced(lambda path: path.symlink_to("/dev/zero")),
    "another-user": lambda path: os.chown(path, 12345, -1),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_checkpoint_that_is_not_ours_to_read_costs_nothing(
    place: World, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    if spoilt == "another-user" and os.geteuid():
        pytest.skip("only root gives files away")
    arrived = interrupt(place)
    (checkpoint,) = place.state.rglob("*.json")
    SPOILT[spoilt](checkpoint)
    caplog.set_level(logging.WARNING, "qwenkit.weights")
    send(place)
    assert parts_sent(place) == PARTS - arrived
    assert place.stored("m/w.bin") == DATA
    warnings = [record.getMessage() for record in caplog.records]
    assert any("is ignored" in line and "\n" not in line for line in warnings), warnings


ODD: dict[str, Callable[[Path], object]] = {
    "file": lambda state: state.write_text("mine"),
    "fifo": os.mkfifo,
    "loop": lambda state: state.symlink_to(state),
    "dangling": lambda state: state.symlink_to("/nowhere/at/all"),
    "device": lambda state: state.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_state_folder_costs_the_resume_only(
    place: World, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    ODD[odd](place.state)
    caplog.set_level(logging.WARNING, "qwenkit.weights")
    send(place)
    assert place.stored("m/w.bin") == DATA
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "no checkpoints" in warning
    assert "the upload continues" in warning
    if odd == "file":
        assert place.state.read_text() == "mine"


@pytest.mark.parametrize("name", ["lock", "pid"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_odd_files_in_the_folder_cost_nothing(
    place: World, name: str, make: Callable[[Path], object]
) -> None:
    interrupt(place)
    (folder,) = place.state.iterdir()
    (folder / name).unlink()
    make(folder / name)
    send(place)
    assert place.stored("m/w.bin") == DATA


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_disk_costs_the_resume_only(
    place: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.fdopen

    def full(handle: int, mode: str = "r", **more: object) -> object:
        if mode != "w":
            return real(handle, mode, **more)  # type: ignore[call-overload]
        os.close(handle)
        return open("/dev/full", "w", encoding="utf-8")

    monkeypatch.setattr("qwenkit.private_files.os.fdopen", full)
    caplog.set_level(logging.WARNING, "qwenkit.weights")
    send(place)
    proven(place, FILES)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "No space left on device" in warning
    (folder,) = place.state.iterdir()
    assert [path.name for path in folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=oct)
def test_nobody_else_reads_checkpoints(place: World, umask: int) -> None:
    before = os.umask(0)
    try:
        os.umask(umask)
        place.faults.add(lambda r: is_part(r) and r.query["partNumber"] == "9", effects.reset)
        with pytest.raises(Unreachable):
            send(place)
    finally:
        os.umask(before)
    made = [place.state, *place.state.rglob("*")]
    assert {oct(path.stat().st_mode & 0o777) for path in made if path.is_dir()} == {"0o700"}
    files = [path for path in made if path.is_file()]
    assert {path.suffix for path in files} >= {"", ".json"}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_folders_of_an_older_version_are_tightened(place: World) -> None:
    interrupt(place)
    for path in (place.state, *place.state.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    send(place)
    left = [place.state, *place.state.rglob("*")]
    assert all(not path.stat().st_mode & 0o077 for path in left)


def test_the_library_starts_without_a_home() -> None:
    code = (
        "import os, pwd; os.environ.pop('HOME', None);"
        "pwd.getpwuid = lambda uid: {}[uid];"
        "from qwenkit.weights.store import STATE_DIR;"
        "from qwenkit.sandbox.state_files import DEFAULT_ROOT; print(STATE_DIR)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(os.devnull)

"""Files that only their owner reads: under any umask, and whatever lies at their path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenkit.private_files import home, make_folder, read_private, tighten, write_private


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


@pytest.mark.usefixtures("umask")
def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    write_private(tmp_path / "a" / "b" / "keys.json", "secret", durable=True)
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == "0o700"
    assert {mode(path) for path in (tmp_path / "a" / "b").iterdir()} == {"0o600"}


def test_what_is_ours_is_tightened_and_what_is_shared_stays(tmp_path: Path) -> None:
    shared, ours = tmp_path / "shared", tmp_path / "ours"
    for folder, bits in ((shared, 0o1777), (ours, 0o755)):
        folder.mkdir()
        folder.chmod(bits)
        tighten(folder)
    assert (mode(shared), mode(ours)) == ("0o1777", "0o700")
    file = ours / "old"
    file.write_text("old")
    file.chmod(0o666)
    assert read_private(file, 3) == b"old"
    assert mode(file) == "0o600"


def test_nothing_is_followed_or_waited_for(tmp_path: Path) -> None:
    secret, link, fifo = tmp_path / "secret", tmp_path / "link", tmp_path / "fifo"
    secret.write_text("secret")
    link.symlink_to(secret)
    os.mkfifo(fifo)
    for odd in (link, fifo, tmp_path, tmp_path / "absent"):
        with pytest.raises(OSError, match=r"."):
            read_private(odd, 100)
    with pytest.raises(OSError, match="more than 5 bytes"):
        read_private(secret, 5)
    (tmp_path / "x.new").symlink_to(secret)  # where the temporary file will be
    write_private(tmp_path / "x", "text")
    write_private(link, "text")
    assert secret.read_text() == "secret"
    assert link.read_text() == "text"
    assert not link.is_symlink()
    for odd in (secret, tmp_path / "into"):
        (tmp_path / "into").unlink(missing_ok=True)
        (tmp_path / "into").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"."):
            make_folder(odd)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(OSError, match=r"."):
        write_private(tmp_path / "folder", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_another_user_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder"):
        os.chown(tmp_path / name, 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        read_private(tmp_path / "file", 100)
    with pytest.raises(PermissionError, match="another user"):
        make_folder(tmp_path / "folder")
    assert mode(tmp_path / "folder") != "0o700"


def test_somebody_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == Path.home()
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert home() == Path(os.devnull)

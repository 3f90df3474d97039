"""Weights in a folder, as a Job writes them into its volume."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from transfer_world import OPTIONS, PART, Faults, Handler, World, world, write

from qwenkit.errors import Conflict, Forbidden, NotFound, Rejected, TransferError, Unreachable
from qwenkit.sandbox.hub.server import HubServer
from qwenkit.weights import folder_target
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.report import UploadReport
from qwenkit.weights.selection import Selection

DATA = random.Random(3).randbytes(6 * PART + 7)
FILES = {"config.json": b"{}", "a/model.bin": DATA, "none": b""}
ALL = {*FILES, "qwenkit.json"}


class Volume:
    def __init__(self, place: World, root: Path) -> None:
        self.hub, self.faults = root / "hub" / "qwen" / "Tiny", Faults()
        write(self.hub, FILES)
        self.url = place.servers.serve(self.faults.install(HubServer(root / "hub").app()))
        self.folder = root / "volume" / "models" / "tiny"

    def fill(self, **more: Any) -> UploadReport:
        source = open_source("modelscope:qwen/Tiny", modelscope_endpoint=self.url)
        return folder_target.upload(source, self.folder, run="test", **{"options": OPTIONS} | more)

    def held(self) -> set[str]:
        found = (one for one in self.folder.rglob("*") if one.is_file())
        return {one.relative_to(self.folder).as_posix() for one in found}

    def fetched(self) -> list[web.Request]:
        return [one for one in self.faults.seen if "model.bin" in str(one.rel_url)]


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volume]:
    monkeypatch.setattr(folder_target, "_BUFFER", PART)
    with world(tmp_path) as place:
        yield Volume(place, tmp_path)


def test_a_hub_to_a_folder_and_again(volume: Volume) -> None:
    report = volume.fill()
    assert volume.held() == ALL
    assert (volume.folder / "a/model.bin").read_bytes() == DATA
    assert {f.key: f.sha256 for f in report.files} == {
        f"{volume.folder}/{path}": hashlib.sha256(data).hexdigest() for path, data in FILES.items()
    }
    volume.faults.seen.clear()
    again = volume.fill()
    assert (again.bytes_sent, {f.action for f in again.files}) == (0, {"skipped"})
    assert volume.fetched() == []
    checked = folder_target.verify(volume.folder)
    assert checked.ok
    assert {name for name, _ in checked.stored} == {f"{volume.folder}/{path}" for path in ALL}


def test_a_broken_upload_goes_on_behind_what_arrived(volume: Volume) -> None:
    async def ends(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(DATA)
        await response.prepare(request)
        await response.write(DATA[: 3 * PART])
        assert request.transport
        request.transport.abort()
        raise ConnectionResetError

    async def gone(request: web.Request, handler: Handler) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        raise ConnectionResetError

    def of_model(request: web.Request) -> bool:
        return "model.bin" in str(request.rel_url)

    volume.faults.add(of_model, ends, times=1)
    volume.faults.add(of_model, gone)
    with pytest.raises((Unreachable, TransferError), match=r"model\.bin"):
        volume.fill()
    assert "a/model.bin" not in volume.held()
    with pytest.raises(NotFound, match="no complete upload"):
        folder_target.verify(volume.folder)
    volume.faults.rules.clear()
    volume.faults.seen.clear()
    report = volume.fill()
    assert {f.action for f in report.files if f.size > PART} == {"resumed"}
    assert [one.headers["Range"].split("-")[0] for one in volume.fetched()] == [f"bytes={3 * PART}"]
    assert (volume.folder / "a/model.bin").read_bytes() == DATA
    assert volume.held() == ALL


def test_a_wrong_half_is_fetched_anew(volume: Volume) -> None:
    volume.fill()
    (stored,) = (one for one in volume.fill().files if one.size > PART)
    name = f"a/model.bin\0{len(DATA)}\0{stored.sha256}"
    parts = volume.folder / ".qwenkit"
    parts.mkdir()
    (parts / hashlib.sha256(name.encode()).hexdigest()).write_bytes(b"x" * PART)
    (volume.folder / "a/model.bin").unlink()
    with pytest.raises(TransferError, match="other bytes arrived"):
        volume.fill()
    volume.fill()
    assert folder_target.verify(volume.folder).ok


def test_damage_is_found_and_mended(volume: Volume) -> None:
    volume.fill()
    path = volume.folder / "a/model.bin"
    path.write_bytes(DATA[:-1] + b"?")
    os.truncate(volume.folder / "config.json", 1)
    (volume.folder / "foreign.txt").write_text("x")
    checked = folder_target.verify(volume.folder)
    assert [problem.file for problem in checked.problems] == ["a/model.bin", "config.json"]
    assert checked.extra == (f"{volume.folder}/foreign.txt",)
    report = volume.fill()
    assert {f.action for f in report.files} == {"uploaded", "skipped"}
    assert folder_target.verify(volume.folder).ok
    assert (volume.folder / "foreign.txt").exists()


def test_other_weights_are_refused_and_replaced(volume: Volume) -> None:
    volume.fill()
    (volume.hub / "config.json").write_bytes(b'{"other": 1}')
    (volume.hub / "none").unlink()
    with pytest.raises(Conflict, match="holds modelscope:qwen/Tiny"):
        volume.fill()
    with pytest.raises(Conflict):
        volume.fill(selection=Selection(exclude=("none",)))
    assert folder_target.verify(volume.folder).ok
    volume.fill(replace=True)
    assert volume.held() == ALL - {"none"}
    assert folder_target.verify(volume.folder).ok
    report = volume.fill(versioned=True)
    assert report.url == f"{volume.folder}/{report.revision}"


def test_a_strange_manifest_is_left_alone(volume: Volume) -> None:
    volume.fill()
    (volume.folder / "qwenkit.json").write_text('{"format": 1}')
    for action in (volume.fill, lambda: folder_target.verify(volume.folder)):
        with pytest.raises(Conflict, match="was not written by qwenkit"):
            action()


def test_a_small_volume_is_refused_before_a_byte_is_fetched(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=len(DATA)))
    with pytest.raises(Rejected, match="no room for") as refused:
        volume.fill()
    assert "storage_size" in refused.value.fix
    assert volume.fetched() == []


def test_files_of_others_make_no_room(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    write(volume.folder, {"foreign.bin": DATA})
    monkeypatch.setattr(folder_target, "_HEADROOM", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=PART))
    with pytest.raises(Rejected, match="no room for"):
        volume.fill()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_disk_that_gets_full_is_not_tried_again(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(_file: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as now:
        now.setattr(os, "fsync", full)
        with pytest.raises(Rejected, match="has no room") as refused:
            volume.fill()
    assert "storage_size" in refused.value.fix
    assert {f.action for f in volume.fill().files if f.size > PART} == {"resumed"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(volume: Volume) -> None:
    volume.folder.parent.mkdir(parents=True)
    volume.folder.parent.chmod(0o500)
    with pytest.raises(Forbidden, match="cannot be written"):
        volume.fill()

"""What a new server over an old folder knows, and that two cannot share one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from oss2.models import PartInfo
from oss_world import BUCKET, KEY_ID, SECRET, oss

from qwenkit.errors import SandboxError
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.oss.server import OssServer

PART = bytes(100 * 1024)


def test_everything_outlives_a_restart(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        put = bucket.put_object("k", b"1", headers={"x-oss-meta-a": "1", "Content-Type": "text/x"})
        bucket.put_object("k/escaped", b"2", headers={"x-oss-meta-b": "2"})
        done = bucket.init_multipart_upload("done").upload_id
        part = bucket.upload_part("done", done, 1, PART)
        etag = bucket.complete_multipart_upload("done", done, [PartInfo(1, part.etag)]).etag
        upload = bucket.init_multipart_upload("open", headers={"x-oss-meta-c": "3"}).upload_id
        first = bucket.upload_part("open", upload, 1, PART)
    with oss(tmp_path) as bucket:
        head = bucket.head_object("k")
        assert (head.etag, head.headers["x-oss-meta-a"], head.content_type) == (
            put.etag,
            "1",
            "text/x",
        )
        assert bucket.get_object("k/escaped").read() == b"2"
        assert bucket.head_object("k/escaped").headers["x-oss-meta-b"] == "2"
        assert bucket.head_object("done").etag == etag
        assert bucket.head_object("done").object_type == "Multipart"
        assert [part.part_number for part in bucket.list_parts("open", upload).parts] == [1]
        second = bucket.upload_part("open", upload, 2, b"end")
        parts = [PartInfo(1, first.etag), PartInfo(2, second.etag)]
        bucket.complete_multipart_upload("open", upload, parts).resp.read()
        assert bucket.get_object("open").read() == PART + b"end"
        assert bucket.head_object("open").headers["x-oss-meta-c"] == "3"


def test_files_changed_while_nobody_served(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        bucket.put_object("stays", b"1", headers={"x-oss-meta-a": "1"})
        bucket.put_object("changes", b"1", headers={"x-oss-meta-a": "1"})
        bucket.put_object("goes", b"1")
    (tmp_path / BUCKET / "changes").write_bytes(b"2")
    (tmp_path / BUCKET / "goes").unlink()
    (tmp_path / BUCKET / "comes").write_bytes(b"3")
    with oss(tmp_path) as bucket:
        keys = [item.key for item in bucket.list_objects_v2().object_list]
        assert keys == ["changes", "comes", "stays"]
        assert "x-oss-meta-a" in bucket.head_object("stays").headers
        assert "x-oss-meta-a" not in bucket.head_object("changes").headers


def test_a_folder_copied_elsewhere_keeps_its_headers(tmp_path: Path) -> None:
    with oss(tmp_path / "a") as bucket:
        etag = bucket.put_object("k", b"1", headers={"x-oss-meta-a": "1"}).etag
    # A copy without times, as plain `cp -r` makes it.
    for path in sorted((tmp_path / "a").rglob("*")):
        target = tmp_path / "b" / path.relative_to(tmp_path / "a")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
    with oss(tmp_path / "b") as bucket:
        head = bucket.head_object("k")
        assert (head.etag, head.headers["x-oss-meta-a"]) == (etag, "1")


def test_half_written_bodies_are_removed_at_the_start(tmp_path: Path) -> None:
    with oss(tmp_path):
        pass
    (tmp_path / ".qwenkit" / "temporary" / "half").write_bytes(b"x")
    with oss(tmp_path):
        assert list((tmp_path / ".qwenkit" / "temporary").iterdir()) == []


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        bucket.put_object("k", b"1")
        with pytest.raises(SandboxError, match="cannot be opened"):
            asyncio.run(_start_and_stop(tmp_path))
        assert bucket.get_object("k").read() == b"1"


async def _start_and_stop(root: Path) -> None:
    server = await listen(OssServer(root, {KEY_ID: SECRET}).app())
    await server.close()

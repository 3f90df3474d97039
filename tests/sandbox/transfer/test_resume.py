"""Uploads that were interrupted, overtaken or lost their checkpoint: what is sent again."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

import pytest
from aiohttp import web
from transfer_world import (
    BUCKET,
    OPTIONS,
    PART,
    Handler,
    World,
    credentials,
    is_part,
    proven,
    resumable,
)
from twelve_parts import ATTEMPTS, DATA, FILES, IN_FLIGHT, PARTS, send

from qwenkit.errors import TransferError, Unreachable
from qwenkit.sandbox.faults import effects
from qwenkit.weights.checkpoint import Checkpoints
from qwenkit.weights.oss.bucket import open_bucket
from qwenkit.weights.report import UploadReport


def test_two_uploaders_of_the_same_object(place: World) -> None:
    """Two machines, so two folders of checkpoints; both end well and one object is there."""
    reports: list[UploadReport] = []
    bucket = open_bucket(place.url, BUCKET, credentials(), region="cn-hangzhou")

    def other() -> None:
        reports.append(send(place, bucket=bucket, state_dir=place.state / "other"))

    thread = threading.Thread(target=other)
    thread.start()
    send(place)
    thread.join()
    assert len(reports) == 1
    proven(place, FILES, again=PARTS)
    bucket.session.session.close()


def test_an_uploader_that_was_overtaken(place: World) -> None:
    """Another machine finishes the very upload: this one finds it gone, and the object there."""
    bucket = open_bucket(place.url, BUCKET, credentials(token="other"), region="cn-hangzhou")
    other = asyncio.Event()
    reports: list[UploadReport] = []

    async def overtake(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not reports and int(request.query["partNumber"]) == 5:
            state = place.state / "other"
            reports.append(await asyncio.to_thread(send, place, bucket=bucket, state_dir=state))
            other.set()
        await other.wait()
        return await handler(request)

    place.faults.add(
        lambda r: (
            is_part(r)
            and int(r.query["partNumber"]) >= 5
            and "x-oss-security-token" not in r.headers
        ),
        overtake,
    )
    mine = send(place)
    assert [f.action for f in reports[0].files if f.key == "m/w.bin"] == ["resumed"]
    assert mine.revision == reports[0].revision
    proven(place, FILES, again=IN_FLIGHT + 1)  # and the small file, if both sent it
    bucket.session.session.close()


def interrupted(place: World) -> int:
    """Leave an upload with part 9 missing; return how many parts arrived."""
    place.faults.add(lambda r: is_part(r) and r.query["partNumber"] == "9", effects.reset)
    with pytest.raises(Unreachable) as caught:
        send(place)
    resumable(place, caught.value)
    place.faults.seen.clear()
    (upload_id,) = place.orphans()
    return len(place.bucket.list_parts("m/w.bin", upload_id).parts)


@pytest.mark.parametrize(
    "spoil", [b"", b"{", b"null", b'{"format": 1}', b"\xff\x00", b'{"format": 99}']
)
def test_a_spoilt_checkpoint_costs_nothing(place: World, spoil: bytes) -> None:
    arrived = interrupted(place)
    (checkpoint,) = place.state.rglob("*.json")
    checkpoint.write_bytes(spoil)
    send(place)
    assert sum(map(is_part, place.faults.seen)) == PARTS - arrived
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"part_size": "x"},
        {"part_size": 0},
        {"size": None},
        {"upload_id": 7},
        {"upload_id": ""},
        {"upload_id": "gone"},
        {"parts": [1]},
        {"parts": [{"number": "1", "etag": "", "crc64": 0, "size": 1}]},
    ],
    ids=str,
)
def test_a_checkpoint_with_a_spoilt_field_costs_nothing(
    place: World, spoilt: dict[str, Any]
) -> None:
    arrived = interrupted(place)
    (checkpoint,) = place.state.rglob("*.json")
    checkpoint.write_text(json.dumps(json.loads(checkpoint.read_text()) | spoilt))
    send(place)
    assert sum(map(is_part, place.faults.seen)) == PARTS - arrived
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)


def test_another_machine_resumes(place: World) -> None:
    arrived = interrupted(place)
    send(place, state_dir=place.state / "elsewhere")
    assert sum(map(is_part, place.faults.seen)) == PARTS - arrived
    (left,) = place.state.glob("*/*.json")
    left.unlink()  # on the machine that is gone
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)


def test_parts_without_a_stated_crc_are_believed_by_the_record(place: World) -> None:
    async def hide_crc(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: Any = await handler(request)
        lines = response.text.replace("HashCrc64ecma", "Hidden")
        return web.Response(text=lines, content_type="application/xml")

    arrived = interrupted(place)
    place.faults.add(lambda r: r.method == "GET" and "uploadId" in r.query, hide_crc)
    send(place)
    assert sum(map(is_part, place.faults.seen)) == PARTS - arrived
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)


def test_a_source_that_changed_meanwhile_is_sent_as_it_is_now(place: World) -> None:
    interrupted(place)
    changed = bytearray(DATA)
    changed[3 * PART + 1] ^= 1
    (place.root.parent / "model" / "w.bin").write_bytes(changed)
    send(place)
    assert place.stored("m/w.bin") == changed
    sent = {r.query["partNumber"] for r in place.faults.seen if is_part(r)}
    assert {"4", "9"} <= sent
    assert place.orphans() == []


def test_a_source_that_ends_early_is_refused_and_resumed(place: World) -> None:
    path = place.root.parent / "model" / "w.bin"

    async def truncate(request: web.Request, handler: Handler) -> web.StreamResponse:
        os.truncate(path, 2 * PART)
        return await handler(request)

    place.faults.add(is_part, truncate, times=1)
    with pytest.raises(TransferError, match=r"w\.bin (changed|: the source ended early)") as caught:
        send(place)
    resumable(place, caught.value)
    path.write_bytes(DATA)
    send(place)
    proven(place, FILES, again=IN_FLIGHT)


def test_another_part_size_keeps_the_old_one(place: World) -> None:
    arrived = interrupted(place)
    from dataclasses import replace

    send(place, options=replace(OPTIONS, part_size=2 * PART))
    assert sum(map(is_part, place.faults.seen)) == PARTS - arrived
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)


def test_an_upload_of_another_length_is_aborted(place: World) -> None:
    foreign = place.bucket.init_multipart_upload("m/w.bin").upload_id
    place.bucket.upload_part("m/w.bin", foreign, 1, b"x" * 150_000)
    place.bucket.upload_part("m/w.bin", foreign, 2, b"x" * 150_001)
    send(place)
    proven(place, FILES, again=3)


def test_a_state_folder_that_cannot_be_made_costs_a_warning(
    place: World, caplog: pytest.LogCaptureFixture
) -> None:
    place.state.write_text("a file where the folder should be")
    send(place)
    proven(place, FILES)
    assert "no checkpoints" in caplog.text


def test_a_full_disk_under_the_checkpoint_costs_a_warning(
    place: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    arrived = interrupted(place)
    assert list(place.state.rglob("*.json")) == []
    send(place)
    assert sum(map(is_part, place.faults.seen)) == PARTS - arrived
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)
    assert "No space left" in caplog.text


def test_checkpoints_say_what_arrived(place: World) -> None:
    arrived = interrupted(place)
    (path,) = place.state.rglob("*.json")
    recorded = json.loads(path.read_text())
    assert len(recorded["parts"]) == arrived
    assert set(recorded["parts"][0]) == {"number", "etag", "crc64", "size"}
    folder = Checkpoints(place.state, "another target")
    assert folder.load("m/w.bin") is None

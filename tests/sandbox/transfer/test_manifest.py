"""The manifest is written as it was meant, and a damaged one wedges nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transfer_world import OPTIONS, PART, World, is_complete, is_put, proven, write

from qwenkit.errors import Conflict, TransferError
from qwenkit.sandbox.faults import effects
from qwenkit.weights.integrity import verify
from qwenkit.weights.oss.bucket import list_objects
from qwenkit.weights.oss.manifest import META_RUN, META_SHA256, DamagedManifest
from qwenkit.weights.report import UploadReport
from qwenkit.weights.transfer import upload

FILES = {"config.json": b"{}", "w.bin": random.Random(3).randbytes(3 * PART)}
KEY = "m/qwenkit.json"


def send(place: World, folder: Path, **more: Any) -> UploadReport:
    return upload(
        str(folder), place.bucket, "m", run="r", state_dir=place.state, options=OPTIONS, **more
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "mine", FILES)


def edited(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda text: json.dumps(json.loads(text) | changes).encode()


def flipped(text: bytes) -> bytes:
    """A digit of a size is another one: JSON as before."""
    at = text.index(b'"size": ') + 8
    return text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped-size": flipped,
    "flipped-brace": lambda text: b"z" + text[1:],
    "not-utf8": lambda text: text[:-40] + b"\xff" + text[-39:],
    "half": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "null": lambda text: b"null",
    "list": lambda text: b"[]",
    "other": lambda text: b'{"labels": {}}',
    "deep": lambda text: b"[" * 100_000,
    "newer": edited(format=99),
    "no-files": edited(files=None),
    "infinite": edited(files=[{"path": "w.bin", "size": float("inf"), "crc64": "1"}]),
    "leads-out": edited(files=[{"path": "../w.bin", "size": 1, "crc64": "1"}]),
    "long-number": lambda text: text.replace(b'"format": 1', b'"format": ' + b"1" * 5000),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_is_named_and_mended(place: World, model: Path, damage: str) -> None:
    send(place, model)
    headers = place.bucket.head_object(KEY).headers
    labels = {name: headers[name] for name in (META_RUN, META_SHA256)}
    place.bucket.put_object(KEY, DAMAGE[damage](place.stored(KEY)), labels)
    with pytest.raises(DamagedManifest, match="repeat the upload") as caught:
        verify(place.bucket, "m")
    assert "run r wrote it" in caught.value.why
    report = send(place, model)
    assert (report.bytes_sent, {f.action for f in report.files}) == (0, {"skipped"})
    proven(place, FILES)


def test_a_manifest_of_an_older_version_is_known_by_its_text(place: World, model: Path) -> None:
    send(place, model)
    place.bucket.put_object(KEY, place.stored(KEY)[:-100])
    with pytest.raises(DamagedManifest, match="older version"):
        verify(place.bucket, "m")
    send(place, model)
    proven(place, FILES)


def test_bytes_that_change_on_their_way_are_sent_again(place: World, model: Path) -> None:
    flips = [
        place.faults.add(lambda r: is_put(r) and r.path.endswith("qwenkit.json"), flip, times=2),
        place.faults.add(lambda r: is_put(r) and r.path.endswith("config.json"), flip, times=2),
        place.faults.add(is_complete, flip, times=2),
    ]
    send(place, model)
    assert [flip.hits for flip in flips] == [2, 2, 2]
    proven(place, FILES, again=3)


def test_an_answer_that_changes_on_its_way_is_read_again(place: World, model: Path) -> None:
    send(place, model)
    flip_answer = effects.spoil_answer(effects.change_byte)
    budget = place.faults.add(lambda r: r.method == "GET" and r.path.endswith(KEY), flip_answer, 2)
    assert verify(place.bucket, "m").ok
    assert budget.hits == 2


flip = effects.change_sent_byte


def test_a_line_that_always_changes_bytes_is_named_and_wedges_nothing(
    place: World, model: Path
) -> None:
    place.faults.add(lambda r: is_put(r) and r.path.endswith("qwenkit.json"), flip)
    with pytest.raises(TransferError, match="faulty memory"):
        send(place, model)
    place.faults.rules.clear()
    send(place, model)
    proven(place, FILES)


def test_other_files_are_not_replaced_under_a_damaged_manifest(
    place: World, model: Path, tmp_path: Path
) -> None:
    send(place, write(model, {"old/stale.bin": b"stale"}))
    place.bucket.put_object(KEY, b"{", headers={META_RUN: "r"})
    place.bucket.put_object("m/notes.txt", b"mine")
    send(place, model, replace=True, versioned=True)
    below = {one.key for one in list_objects(place.bucket, "m/") if one.key.count("/") > 1}
    other = write(tmp_path / "other", {"config.json": b"[]", "w.bin": FILES["w.bin"]})
    with pytest.raises(Conflict, match="not the file of"):
        send(place, other)
    send(place, other, replace=True)
    keys = {one.key for one in list_objects(place.bucket, "m/")}
    assert keys == (below | {KEY, "m/config.json", "m/w.bin", "m/notes.txt"}) - {"m/old/stale.bin"}
    assert verify(place.bucket, "m").ok


@pytest.mark.parametrize("replace", [False, True])
def test_an_upload_in_a_folder_below_is_not_overwritten(
    place: World, tmp_path: Path, model: Path, replace: bool
) -> None:
    upload(str(model), place.bucket, "m/sub", run="r", state_dir=place.state, options=OPTIONS)
    above = write(tmp_path / "above", FILES | {"sub/config.json": b"[]"})
    with pytest.raises(Conflict, match=r"m/sub is the prefix of another upload"):
        send(place, above, replace=replace)
    assert verify(place.bucket, "m/sub").problems == ()
    assert send(place, model).files  # beside it is room


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_of_an_upload_above_is_not_overwritten(
    place: World, tmp_path: Path, model: Path, replace: bool
) -> None:
    above = write(tmp_path / "above", FILES | {"sub/config.json": b"[]"})
    send(place, above)
    again = {"run": "r", "state_dir": place.state, "options": OPTIONS, "replace": replace}
    with pytest.raises(Conflict, match=r"m/sub/config\.json belongs to another upload"):
        upload(str(model), place.bucket, "m/sub", **again)
    assert verify(place.bucket, "m").ok
    assert upload(str(model), place.bucket, "m/other", **again).files

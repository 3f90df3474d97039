"""A whole upload: its result, the files it skips, the objects it refuses to replace."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transfer_world import BUCKET, OPTIONS, PART, World, credentials, is_part, world, write

from qwenkit.errors import Conflict, Forbidden, InvalidValue, NotFound, Rejected
from qwenkit.weights.delete import abort_uploads, delete_weights
from qwenkit.weights.integrity import verify
from qwenkit.weights.oss.bucket import list_objects, open_bucket
from qwenkit.weights.oss.preflight import check
from qwenkit.weights.progress import Progress
from qwenkit.weights.report import UploadReport
from qwenkit.weights.transfer import TransferOptions, upload

FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "weights/one.bin": random.Random(1).randbytes(3 * PART + 17),
    "weights/two.bin": random.Random(2).randbytes(2 * PART),
    "empty": b"",
    "分词/词表 %2F.txt": "杭州西湖".encode(),
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


def send(place: World, folder: Path, prefix: str = "m", **more: object) -> UploadReport:
    arguments = {"run": "test", "state_dir": place.state, "options": OPTIONS} | more
    return upload(str(folder), place.bucket, prefix, **arguments)  # type: ignore[arg-type]


def test_every_byte_arrives_and_the_manifest_says_so(place: World, tmp_path: Path) -> None:
    report = send(place, write(tmp_path / "model", FILES), "models/qwen")
    for name, data in FILES.items():
        assert place.stored(f"models/qwen/{name}") == data
    manifest = json.loads(place.stored("models/qwen/qwenkit.json"))
    assert manifest["labels"] == {
        "app.kubernetes.io/managed-by": "qwenkit",
        "qwenkit.dev/run": "test",
    }
    assert {f["path"]: f["sha256"] for f in manifest["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
    }
    assert manifest["revision"] == report.revision
    assert report.bytes_sent == sum(map(len, FILES.values()))
    assert {f.action for f in report.files} == {"uploaded"}
    assert place.orphans() == []


def test_second_upload_sends_nothing_and_leaves_the_manifest(place: World, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", FILES)
    first = send(place, folder)
    manifest = place.stored("m/qwenkit.json")
    second = send(place, folder, run="another")
    assert {f.action for f in second.files} == {"skipped"}
    assert (second.bytes_sent, second.bytes_skipped) == (0, first.bytes_sent)
    assert second.revision == first.revision
    assert place.stored("m/qwenkit.json") == manifest


def test_a_revision_is_the_content_and_not_the_place(place: World, tmp_path: Path) -> None:
    one = send(place, write(tmp_path / "one", FILES), "a")
    two = send(place, write(tmp_path / "two", FILES), "b", versioned=True)
    assert one.revision == two.revision
    assert two.prefix == f"b/{one.revision}"


def test_another_revision_is_refused_unless_replaced(place: World, tmp_path: Path) -> None:
    send(place, write(tmp_path / "model", FILES))
    other = write(tmp_path / "other", {"config.json": b"{}", "weights/one.bin": b"1"})
    with pytest.raises(Conflict, match=r"holds .*revision"):
        send(place, other)
    assert place.stored("m/config.json") == FILES["config.json"]
    send(place, other, replace=True)
    assert {found.key for found in list_objects(place.bucket, "m/")} == {
        "m/config.json",
        "m/weights/one.bin",
        "m/qwenkit.json",
    }
    assert verify(place.bucket, "m").ok


def test_somebody_elses_object_is_not_touched(place: World, tmp_path: Path) -> None:
    place.bucket.put_object("m/config.json", b"mine")
    with pytest.raises(Conflict, match="not uploaded by qwenkit"):
        send(place, write(tmp_path / "model", FILES))
    assert place.stored("m/config.json") == b"mine"
    send(place, tmp_path / "model", replace=True)
    assert place.stored("m/config.json") == FILES["config.json"]


def test_somebody_elses_manifest_is_not_touched(place: World, tmp_path: Path) -> None:
    place.bucket.put_object("m/qwenkit.json", b'{"labels": {}}')
    with pytest.raises(Conflict, match="not written by qwenkit"):
        send(place, write(tmp_path / "model", FILES), replace=True)


def test_a_changed_object_is_sent_again(place: World, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", FILES)
    send(place, folder)
    (place.root / BUCKET / "m/weights/one.bin").write_bytes(FILES["weights/one.bin"][::-1])
    assert [p.file for p in verify(place.bucket, "m").problems] == ["weights/one.bin"]
    report = send(place, folder)
    assert [f.key for f in report.files if f.action != "skipped"] == ["m/weights/one.bin"]
    assert verify(place.bucket, "m").ok


def test_clean_up_deletes_what_carries_our_metadata_only(place: World, tmp_path: Path) -> None:
    send(place, write(tmp_path / "model", FILES))
    place.bucket.put_object("m/notes.txt", b"mine")
    assert verify(place.bucket, "m").extra == ("m/notes.txt",)
    assert delete_weights(place.bucket, "m") == len(FILES)
    assert [found.key for found in list_objects(place.bucket, "")] == ["m/notes.txt"]
    assert delete_weights(place.bucket, "m") == 0


def test_unfinished_uploads_are_aborted_where_they_are_ours(place: World, tmp_path: Path) -> None:
    send(place, write(tmp_path / "model", FILES))
    for key in ("m/config.json", "m/b", "m/config.json", "more/c"):
        place.bucket.init_multipart_upload(key)
    assert abort_uploads(place.bucket, "m") == 2
    assert len(place.orphans()) == 2


def test_progress_ends_at_the_whole(place: World, tmp_path: Path) -> None:
    seen: list[Progress] = []
    send(place, write(tmp_path / "model", FILES), progress=seen.append)
    total = sum(map(len, FILES.values()))
    assert (seen[-1].files_done, seen[-1].bytes_done, seen[-1].bytes) == (len(FILES), total, total)


@pytest.mark.parametrize("region", ["", "cn-hangzhou"])
def test_both_signatures(place: World, tmp_path: Path, region: str) -> None:
    place.bucket = open_bucket(place.url, BUCKET, credentials(), region=region)
    send(place, write(tmp_path / "model", FILES))
    assert verify(place.bucket, "m").ok
    place.bucket.session.session.close()


def test_preflight_says_what_is_wrong(place: World) -> None:
    status = check(place.bucket, "m")
    assert (status.name, status.region) == (BUCKET, "cn-hangzhou")
    assert abs(status.skew_s) < 60
    with pytest.raises(NotFound, match="OSS refused") as caught:
        check(open_bucket(place.url, "absent", credentials(), region="cn-hangzhou"), "m")
    assert caught.value.context["request_id"]
    wrong = open_bucket(place.url, BUCKET, credentials(secret="guess-4711"), region="cn-hangzhou")
    with pytest.raises(Forbidden, match="refused") as refused:
        check(wrong, "m")
    assert "4711" not in str(refused.value)
    assert "OSS_ACCESS_KEY_SECRET" in refused.value.fix


def test_incomplete_weights_are_refused_before_a_byte_is_sent(place: World, tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    with pytest.raises(Rejected, match=r"model\.safetensors is a Git LFS pointer"):
        send(place, write(tmp_path / "lfs", {"model.safetensors": pointer}))
    index = json.dumps({"weight_map": {"a": "one.safetensors"}}).encode()
    with pytest.raises(Rejected, match=r"one\.safetensors is missing"):
        send(place, write(tmp_path / "lost", {"model.safetensors.index.json": index}))
    assert list(list_objects(place.bucket, "")) == []


def test_a_key_that_oss_cannot_hold_is_refused(place: World, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"x" * 200: b""})
    with pytest.raises(Rejected, match="1023 bytes"):
        send(place, folder, "/".join(["p" * 200] * 5))
    for prefix in ("/", "\\models"):
        with pytest.raises(InvalidValue, match="prefix"):
            send(place, folder, prefix)


def test_two_processes_do_not_share_a_checkpoint(place: World, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", FILES)
    refused: list[BaseException] = []

    async def try_another(request, handler):  # type: ignore[no-untyped-def]
        def again() -> None:
            try:
                send(place, folder)
            except Conflict as error:
                refused.append(error)

        thread = threading.Thread(target=again)
        thread.start()
        await asyncio.to_thread(thread.join)
        return await handler(request)

    place.faults.add(is_part, try_another, times=1)
    send(place, folder)
    assert "another upload" in str(refused[0])


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..", ".git") and len(name.encode()) < 250)
SIZES = st.sampled_from([0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1])


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(files=st.dictionaries(NAMES, SIZES, min_size=1, max_size=5), seed=st.integers())
@example(files={"\\": 1, "..\\up": PART + 1}, seed=0)
def test_any_name_and_size(
    place: World, tmp_path_factory: pytest.TempPathFactory, files: dict[str, int], seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("model")
    data = {name: rng.randbytes(size) for name, size in files.items()}
    # What a file system that folds case or normalises would merge is one file.
    write(folder, data)
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    prefix = uuid.uuid4().hex
    send(place, folder, prefix)
    for name, content in there.items():
        if name != "qwenkit.json":
            assert place.stored(f"{prefix}/{name}") == content


def test_ten_thousand_parts_are_never_exceeded() -> None:
    from qwenkit.weights.parts import PartLayout

    huge = PartLayout.cut(300 << 30, 16 << 20)
    assert huge.count <= 10_000
    assert huge.part_size > 16 << 20
    with pytest.raises(InvalidValue, match="part_size"):
        TransferOptions(part_size=1000)


def test_the_listing_pages(place: World) -> None:
    keys = [f"many/{number:04}" for number in range(1100)]
    folder = place.root / BUCKET / "many"
    folder.mkdir(parents=True)
    for key in keys:
        (place.root / BUCKET / key).write_bytes(b"")
    assert [found.key for found in list_objects(place.bucket, "many/")] == keys


def test_oss2_sees_what_we_stored(place: World, tmp_path: Path) -> None:
    send(place, write(tmp_path / "model", FILES))
    plain = oss2.Bucket(
        oss2.Auth("transfer-test", "transfer-secret"), place.url, BUCKET, enable_crc=True
    )
    plain.session.session.trust_env = False
    assert plain.get_object("m/weights/one.bin").read() == FILES["weights/one.bin"]
    plain.session.session.close()

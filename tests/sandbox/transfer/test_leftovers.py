"""What is left in a bucket, and whose it is: teardown and audit walk the prefix."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from transfer_world import BUCKET, KEYS, PART, Handler, World, keys, refuse_part, world, write
from versioned_bucket import versions

from qwenkit.errors import Forbidden, NotFound
from qwenkit.sandbox.faults import effects
from qwenkit.settings import Settings
from qwenkit.weights.store import BucketWeights

FILES = {"config.json": b"{}", "weights/one.bin": random.Random(9).randbytes(3 * PART)}
LARGE = {"large.bin": random.Random(10).randbytes((16 << 20) + PART)}
MANIFEST = "models/qwen/qwenkit.json"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    ((identity, secret),) = KEYS.items()
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", identity)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
    monkeypatch.setattr("qwenkit.weights.store.STATE_DIR", tmp_path / "uploads")
    monkeypatch.delenv("QWENKIT_RUN_ID", raising=False)
    with world(tmp_path) as found:
        write(tmp_path / "model", FILES)
        yield found


@pytest.fixture
def open_weights(
    place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., BucketWeights]]:
    """Return a function that opens the prefix as a hand does, or as the run with an id does."""
    made: list[BucketWeights] = []

    def opened(run_id: str = "", **more: str) -> BucketWeights:
        monkeypatch.setenv("QWENKIT_RUN_ID", run_id)
        values = {"prefix": "models/qwen", "model_source": str(tmp_path / "model")} | more
        values |= {"bucket": BUCKET, "oss_endpoint": place.url, "oss_region": "cn-hangzhou"}
        made.append(BucketWeights.of(Settings(run="shared", **values)))
        return made[-1]

    yield opened
    for weights in made:
        weights.bucket.session.session.close()


def end_early(place: World, weights: BucketWeights, **options: bool) -> None:
    """Upload until a part is refused; as after a kill, no manifest is there."""
    refuse_part(place, "2")
    with pytest.raises(Forbidden):
        weights.upload(**options)
    place.faults.rules.clear()
    assert MANIFEST not in keys(place)


def test_a_run_deletes_only_what_it_uploaded_itself(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    open_weights().upload()
    before = keys(place)
    run = open_weights("run-1")
    assert {file.action for file in run.upload().files} == {"skipped"}
    assert "was there before" in run.scope
    assert run.delete_objects() == 0
    assert keys(place) == before
    assert run.left(delete_weights=True) == ([], [])
    hand = open_weights()
    assert hand.verify().ok
    assert hand.left(delete_weights=True)[0] == [
        "2 objects (393.2 kB, run 'shared') under oss://weights/models/qwen"
    ]
    assert hand.delete_objects() == 2
    assert keys(place) == set()


def test_a_run_deletes_all_that_it_uploaded_itself(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    run = open_weights("run-1")
    run.upload()
    assert open_weights("run-2").delete_objects() == 0
    assert len(open_weights("run-1").left(delete_weights=True)[0]) == 1
    assert open_weights("run-1").delete_objects() == 2
    assert keys(place) == set()


def test_a_run_that_completes_anothers_upload_takes_only_its_own_part_away(
    place: World, open_weights: Callable[..., BucketWeights], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    write(model, LARGE)
    end_early(place, open_weights())
    before, orphans = keys(place), place.orphans()
    assert {"models/qwen/config.json", "models/qwen/weights/one.bin"} < before
    assert len(orphans) == 1
    # A run that fails at once aborts and deletes nothing of this.
    run = open_weights("run-1")
    assert (run.abort_uploads(), run.delete_objects()) == (0, 0)
    assert (keys(place), place.orphans()) == (before, orphans)
    found, unsure = run.left(delete_weights=True)
    assert found == []
    assert "of an earlier upload that did not end" in unsure[0]
    assert "1 unfinished upload that this run did not begin" in unsure[1]
    # One that resumes it completes it, and leaves the files that another sent.
    write(model, {"new.json": b"[]"})
    run.upload()
    assert open_weights().verify().ok
    assert (run.abort_uploads(), run.delete_objects()) == (0, 1)
    assert keys(place) == {f"models/qwen/{name}" for name in (*FILES, *LARGE)}
    assert run.left(delete_weights=True)[0] == []


def test_a_run_aborts_what_it_began(
    place: World, open_weights: Callable[..., BucketWeights], tmp_path: Path
) -> None:
    write(tmp_path / "model", LARGE)
    run = open_weights("run-1")
    end_early(place, run)
    assert len(run.left(delete_weights=False)[0]) == 3
    assert (run.abort_uploads(), run.delete_objects()) == (1, 2)
    assert (keys(place), place.orphans()) == (set(), [])
    assert run.left(delete_weights=True) == ([], [])


def test_what_a_run_mends_stays(
    place: World, open_weights: Callable[..., BucketWeights], tmp_path: Path
) -> None:
    open_weights().upload()
    (place.root / BUCKET / "models/qwen/weights/one.bin").write_bytes(b"damaged")
    run = open_weights("run-1")
    run.upload()
    assert run.delete_objects() == 0
    assert open_weights().verify().ok


@pytest.mark.parametrize("delete", [False, True])
def test_a_killed_upload_is_found_and_goes(
    place: World, open_weights: Callable[..., BucketWeights], tmp_path: Path, delete: bool
) -> None:
    write(tmp_path / "model", LARGE)
    weights = open_weights()
    end_early(place, weights)
    assert weights.abort_uploads() == 1
    assert place.orphans() == []
    if delete:
        assert weights.delete_objects() == 2
        assert keys(place) == set()
        assert weights.left(delete_weights=True) == ([], [])
        return
    (found,), unsure = weights.left(delete_weights=False)
    assert found.startswith("2 objects (393.2 kB, run 'shared') of an upload that did not end")
    assert "--delete-weights" in found
    assert unsure == []
    weights.upload()
    assert weights.left(delete_weights=False) == ([], [])


def test_a_bucket_that_deletes_nothing_takes_an_upload_in_parts(
    place: World,
    open_weights: Callable[..., BucketWeights],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(request: web.Request, _: Handler) -> web.StreamResponse:
        await request.read()
        return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")

    write(tmp_path / "model", LARGE)
    weights = open_weights()
    place.faults.add(lambda one: "delete" in one.query, refuse)
    for _ in range(2):
        weights.upload()
        assert "qwenkit-upload-" in caplog.text
        caplog.clear()
    assert weights.verify().ok
    place.faults.rules.clear()
    weights.upload()
    assert weights.left(delete_weights=False) == ([], [])


@pytest.mark.parametrize("spoil", [effects.cut, effects.change_byte])
def test_an_announcement_that_does_not_arrive_whole_is_read_again(
    place: World,
    open_weights: Callable[..., BucketWeights],
    tmp_path: Path,
    spoil: Callable[..., Awaitable[None]],
) -> None:
    write(tmp_path / "model", LARGE)
    weights = open_weights()
    end_early(place, weights)
    budget = place.faults.add(
        lambda one: one.method == "GET" and "qwenkit-upload-" in one.path,
        effects.spoil_answer(spoil),
        times=1,
    )
    assert weights.abort_uploads() == 1
    assert budget.spent
    assert place.orphans() == []


def test_a_killed_replace_is_found_and_goes(
    place: World, open_weights: Callable[..., BucketWeights], tmp_path: Path
) -> None:
    weights = open_weights()
    weights.upload()
    model = tmp_path / "model"
    write(model, LARGE)
    (model / "weights" / "one.bin").unlink()
    end_early(place, weights, replace=True)
    assert "of an upload that did not end" in weights.left(delete_weights=False)[0][-1]
    assert weights.abort_uploads() == 1
    assert weights.delete_objects() >= 1
    assert (keys(place), place.orphans()) == (set(), [])


def test_an_unfinished_upload_of_a_file_that_was_renamed_is_aborted(
    place: World, open_weights: Callable[..., BucketWeights], tmp_path: Path
) -> None:
    model, weights = tmp_path / "model", open_weights()
    write(model, LARGE)
    end_early(place, weights)
    (model / "large.bin").rename(model / "renamed.bin")
    # Another machine, or another home: no checkpoint says what was begun.
    for path in (tmp_path / "uploads").rglob("*.json"):
        path.unlink()
    weights.upload()
    found, _ = weights.left(delete_weights=False)
    assert found[0] == "1 unfinished upload under oss://weights/models/qwen"
    assert weights.abort_uploads() == 1
    assert place.orphans() == []
    assert weights.left(delete_weights=False) == ([], [])
    assert weights.verify().extra == ()


def test_what_others_have_under_the_prefix_is_named_and_stays(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    weights = open_weights()
    weights.upload()
    place.bucket.put_object("models/qwen/notes.txt", b"mine")
    place.bucket.put_object("models/qwen/sub/qwenkit.json", b"{}")
    place.bucket.put_object("models/qwen/qwenkit-upload-01234567.json", b"{}")
    theirs = place.bucket.init_multipart_upload("models/qwen/backup.tar").upload_id
    assert (weights.abort_uploads(), weights.delete_objects()) == (0, 2)
    assert len(keys(place)) == 3
    assert place.orphans() == [theirs]
    found, unsure = weights.left(delete_weights=True)
    assert found == []
    objects, uploads = unsure
    assert "3 objects (8 B) under oss://weights/models/qwen that qwenkit did not upload" in objects
    assert "models/qwen/notes.txt" in objects
    assert f"oss://weights/models/qwen/backup.tar (id {theirs})" in uploads


def test_a_file_that_was_there_and_was_only_adopted_stays(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    place.bucket.put_object("models/qwen/config.json", FILES["config.json"])
    weights = open_weights()
    weights.upload(replace=True)
    assert weights.delete_objects() == 1
    assert keys(place) == {"models/qwen/config.json"}


def test_a_prefix_whose_name_begins_another_is_a_folder_of_its_own(
    place: World, open_weights: Callable[..., BucketWeights], tmp_path: Path
) -> None:
    write(tmp_path / "model", LARGE)
    longer = open_weights(prefix="models/qwen-7B")
    refuse_part(place, "2")
    with pytest.raises(Forbidden):
        longer.upload()
    place.faults.rules.clear()
    before, orphans = keys(place), place.orphans()
    shorter = open_weights()
    assert (shorter.abort_uploads(), shorter.delete_objects()) == (0, 0)
    assert shorter.left(delete_weights=True) == ([], [])
    assert (keys(place), place.orphans()) == (before, orphans)


def test_a_deletion_that_is_interrupted_does_not_look_complete(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    weights = open_weights()
    weights.upload()
    answers = 0

    async def second(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        return await handler(request) if answers == 1 else web.Response(status=403)

    place.faults.add(lambda request: "delete" in request.query, second)
    with pytest.raises(Forbidden):
        weights.delete_objects()
    place.faults.rules.clear()
    assert len(keys(place) - {MANIFEST}) == len(keys(place)) == 2
    assert len(weights.left(delete_weights=False)[0]) == 1
    assert weights.delete_objects() == 2


def test_a_bucket_that_is_not_there_is_no_empty_prefix(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    weights = open_weights()
    weights.bucket.bucket_name = "no-such-bucket"
    with pytest.raises(NotFound, match="OSS refused"):
        weights.delete_objects()
    with pytest.raises(NotFound, match="OSS refused"):
        weights.abort_uploads()
    with pytest.raises(NotFound, match="OSS refused"):
        weights.left(delete_weights=True)


@pytest.mark.parametrize("state", ["Enabled", "Suspended"])
def test_old_versions_are_named(
    place: World, open_weights: Callable[..., BucketWeights], state: str
) -> None:
    versions(place, state=state)
    found, (line,) = open_weights().left(delete_weights=True)
    assert found == []
    assert line.startswith("2 old versions (2.0 kB) of objects under oss://weights/models/qwen")
    assert "billed" in line


def test_versioning_that_may_not_be_read_is_unknown(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    versions(place, status=403)
    found, (line,) = open_weights().left(delete_weights=True)
    assert found == []
    assert "versioning of bucket weights" in line


def test_the_objects_of_a_prefix_are_asked_for_once(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    weights = open_weights()
    weights.upload()
    for number in range(20):
        place.bucket.put_object(f"models/qwen/{number}", b"theirs")
    place.faults.seen.clear()
    weights.abort_uploads()
    place.bucket.put_object("models/qwen/config.json", b"now theirs")
    assert weights.delete_objects() == 1
    weights.left(delete_weights=True)
    assert sum(request.method == "HEAD" for request in place.faults.seen) == 24
    assert len(keys(place)) == 21


def test_what_cannot_be_read_is_named_and_stays(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    weights = open_weights()
    weights.upload()

    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        return web.Response(status=403)

    place.faults.add(lambda r: r.method == "HEAD" and r.path.endswith("config.json"), refuse)
    assert weights.delete_objects() == 1
    _, (line,) = weights.left(delete_weights=True)
    assert "models/qwen/config.json" in line


def test_a_damaged_manifest_lists_nothing_and_goes_with_its_files(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    weights = open_weights()
    weights.upload()
    labels = {"x-oss-meta-qwenkit-run": "shared"}
    place.bucket.put_object(MANIFEST, place.stored(MANIFEST)[:-9], headers=labels)
    assert len(weights.left(delete_weights=False)[0]) == 1
    assert weights.delete_objects() == 2
    assert keys(place) == set()


def test_the_manifest_of_an_older_version_goes_too(
    place: World, open_weights: Callable[..., BucketWeights]
) -> None:
    weights = open_weights()
    weights.upload()
    document = json.loads(place.stored(MANIFEST))
    del document["run_id"]
    place.bucket.put_object(MANIFEST, json.dumps(document))
    assert open_weights("run-1").delete_objects() == 0
    assert weights.left(delete_weights=False) == ([], [])
    assert weights.delete_objects() == 2
    assert keys(place) == set()

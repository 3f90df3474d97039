"""The folder of the weights as commands and notebooks see it: upload, kept, teardown's calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from transfer_world import BUCKET, KEYS, PART, Handler, World, is_part, world, write

from qwenkit.errors import Conflict, Forbidden, NotFound, SettingsError, WaitTimeout
from qwenkit.in_cluster.weights import Weights
from qwenkit.settings import Settings
from qwenkit.weights.oss.url import parse_url
from qwenkit.weights.progress import Progress
from qwenkit.weights.report import Action, FileProblem, FileReport, UploadReport, VerifyReport
from qwenkit.weights.store import BucketWeights, PrefixContents

FILES = {"config.json": b"{}", "weights/one.bin": random.Random(9).randbytes(3 * PART)}
TOTAL = sum(map(len, FILES.values()))
MANIFEST = "models/qwen/qwenkit.json"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    ((identity, secret),) = KEYS.items()
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", identity)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
    monkeypatch.setattr("qwenkit.weights.store.STATE_DIR", tmp_path / "uploads")
    with world(tmp_path) as found:
        write(tmp_path / "model", FILES)
        yield found


@pytest.fixture
def settings(place: World, tmp_path: Path) -> Settings:
    return Settings(
        bucket=BUCKET,
        prefix="models/qwen",
        oss_endpoint=place.url,
        oss_region="cn-hangzhou",
        model_source=str(tmp_path / "model"),
        run="test",
    )


@pytest.fixture
def weights(settings: Settings) -> Iterator[Weights]:
    opened = Weights.of(settings)
    yield opened
    opened.bucket.session.session.close()


@pytest.fixture
def half_finished(place: World, weights: BucketWeights, settings: Settings) -> Callable[[], None]:
    """Return what leaves an upload without an end: one part arrived, another never does."""

    def leave() -> None:
        large = random.Random(10).randbytes((16 << 20) + PART)
        write(Path(settings.model_source), {"weights/two.bin": large})

        arrived = asyncio.Event()

        async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.query["partNumber"] == "1":
                answer = await handler(request)
                arrived.set()
                return answer
            await request.read()
            await arrived.wait()
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")

        place.faults.add(is_part, refuse)
        with pytest.raises(Forbidden, match="OSS refused"):
            weights.upload()
        place.faults.rules.clear()

    return leave


def test_an_upload_is_seen_by_everything_else(weights: BucketWeights, settings: Settings) -> None:
    seen: list[Progress] = []
    assert weights.check().name == BUCKET
    assert str(weights.kept()) == "nothing under oss://weights/models/qwen"
    report = weights.upload(progress=seen.append)
    assert report.url == weights.url == "oss://weights/models/qwen"
    assert (seen[-1].bytes_done, report.bytes_sent) == (TOTAL, TOTAL)
    verified = weights.verify()
    assert verified.ok
    assert (verified.files, verified.bytes) == (2, TOTAL)
    assert {item.key for item in weights.objects()} == {report.prefix + f"/{n}" for n in FILES} | {
        MANIFEST
    }
    assert weights.kept() == PrefixContents(weights.url, 2, TOTAL, 0, 0)
    assert str(weights.kept()) == "2 objects, 393.2 kB under oss://weights/models/qwen"
    assert repr(weights) == "BucketWeights('oss://weights/models/qwen')"


def test_versioned_goes_below_the_prefix(weights: BucketWeights, settings: Settings) -> None:
    report = weights.upload(versioned=True)
    assert report.url == f"{weights.url}/{report.revision}"
    kept = weights.kept()
    assert (kept.objects, kept.unlisted) == (2, 0)
    assert weights.left(delete_weights=False) == ([], [])
    assert weights.delete_objects() == 2
    assert weights.objects() == []


def test_objects_go_once_and_others_stay(
    place: World, weights: BucketWeights, settings: Settings
) -> None:
    weights.upload()
    place.bucket.put_object("models/qwen/notes.txt", b"mine")
    place.bucket.put_object("models/qwen-2/config.json", b"mine")
    assert weights.kept().unlisted == 1
    assert str(weights.kept()).endswith("and 1 that qwenkit did not upload")
    assert weights.delete_objects() == 2
    assert weights.delete_objects() == 0
    assert [item.key for item in weights.objects()] == ["models/qwen/notes.txt"]
    assert place.stored("models/qwen-2/config.json") == b"mine"
    with pytest.raises(NotFound, match="no complete upload"):
        weights.verify()


def test_a_half_finished_upload_and_teardown(
    place: World, weights: BucketWeights, settings: Settings, half_finished: Callable[[], None]
) -> None:
    half_finished()
    kept = weights.kept()
    assert (kept.objects, kept.uploads) == (2, 1)
    assert "1 unfinished upload" in str(kept)
    found, _ = weights.left(delete_weights=False)
    assert len(found) == 3
    assert found[2].startswith("2 objects (393.2 kB, run 'test') of an upload that did not end")
    with pytest.raises(NotFound, match="no complete upload"):
        weights.verify()
    assert weights.abort_uploads() == 1
    assert weights.abort_uploads() == 0
    assert weights.kept().uploads == 0
    assert place.orphans() == []
    report = weights.upload()
    assert weights.verify().ok
    assert {file.action for file in report.files} <= {"uploaded", "skipped"}
    assert weights.delete_objects() == 3
    assert weights.objects() == []


def test_a_half_finished_upload_resumes(
    weights: BucketWeights, settings: Settings, half_finished: Callable[[], None]
) -> None:
    half_finished()
    report = weights.upload()
    actions = {file.key: file.action for file in report.files}
    assert actions["models/qwen/weights/two.bin"] == "resumed"
    assert weights.verify().ok
    assert weights.kept().uploads == 0


def test_a_foreign_prefix_is_left_alone(place: World, weights: BucketWeights) -> None:
    place.bucket.put_object("models/qwen/model.bin", b"mine")
    assert weights.delete_objects() == 0
    assert weights.abort_uploads() == 0
    kept = weights.kept()
    assert (kept.objects, kept.unlisted) == (0, 1)
    assert place.stored("models/qwen/model.bin") == b"mine"


def test_a_foreign_manifest_is_left_alone(place: World, weights: BucketWeights) -> None:
    place.bucket.put_object("models/qwen/model.bin", b"mine")
    place.bucket.put_object(MANIFEST, b"{}")
    assert weights.delete_objects() == 0
    assert weights.kept() == PrefixContents(weights.url, 0, 0, 2, 0)
    assert len(weights.objects()) == 2


def test_another_revision_needs_replace(weights: BucketWeights, settings: Settings) -> None:
    weights.upload()
    write(Path(settings.model_source), {"config.json": b"[]"})
    with pytest.raises(Conflict, match="revision"):
        weights.upload()
    weights.upload(replace=True)
    assert weights.verify().ok


def test_an_upload_ends_at_its_limit_and_resumes(
    place: World, weights: BucketWeights, settings: Settings
) -> None:
    async def silent(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.Event().wait()
        return await handler(request)

    write(Path(settings.model_source), {"weights/two.bin": random.Random(5).randbytes(1000)})
    budget = place.faults.add(lambda r: r.path.endswith("two.bin"), silent)
    limited = BucketWeights(weights.bucket, settings.model_copy(update={"upload_timeout_s": 1.0}))
    began = time.monotonic()
    with pytest.raises(WaitTimeout, match="did not end within 1 s") as caught:
        limited.upload()
    assert time.monotonic() - began < 10
    assert "raise upload_timeout_s" in caught.value.fix
    assert "resumes" in caught.value.fix
    assert budget.hits
    place.faults.rules.clear()
    weights.upload()
    assert weights.verify().ok


def test_what_is_missing_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="bucket"):
        Weights.of(settings.model_copy(update={"bucket": ""}))
    with pytest.raises(NotFound, match="does not exist"):
        _ = Weights.of(
            settings.model_copy(update={"model_source": str(tmp_path / "absent")})
        ).source
    monkeypatch.delenv("OSS_ACCESS_KEY_SECRET")
    with pytest.raises(SettingsError, match="OSS_ACCESS_KEY_SECRET"):
        Weights.of(settings)


def test_a_url_has_a_bucket_and_a_folder() -> None:
    assert parse_url("oss://weights/models/qwen/") == ("weights", "models/qwen")
    for wrong in ("", "weights/models", "oss://", "oss://weights", "oss://weights/", "s3://b/p"):
        with pytest.raises(SettingsError, match="target"):
            parse_url(wrong)


def test_reports_read_well() -> None:
    def file(name: str, action: Action) -> FileReport:
        return FileReport(f"m/{name}", 2_000_000, "ab", 1, action)

    files = (file("a", "uploaded"), file("b", "resumed"), file("c", "skipped"))
    upload = UploadReport(
        "oss://b/m", "hf:o/n@main", "0123456789abcdef", "m", files, 3_000_000, 3_000_000, 2.0, 1
    )
    assert str(upload).splitlines() == [
        "oss://b/m is complete",
        "  hf:o/n@main, revision 0123456789ab",
        "  3 files, 6.0 MB: 1 uploaded, 1 resumed, 1 skipped",
        "  sent 3.0 MB in 2.0 s, 1.5 MB/s; 3.0 MB were already there",
        "  1 retry",
    ]
    again = UploadReport("oss://b/m", "s", "r", "m", files[2:], 0, 2_000_000, 0.0, 0)
    assert str(again).splitlines()[2:] == [
        "  1 file, 2.0 MB: 0 uploaded, 0 resumed, 1 skipped",
        "  sent 0 B in 0.0 s; 2.0 MB were already there",
        "  0 retries",
    ]


def test_a_verification_reads_well() -> None:
    sound = VerifyReport("oss://b/m", "m", "./model", "0123456789abcdef", 2, 5000, (), ())
    assert str(sound).splitlines() == [
        "oss://b/m is whole",
        "  ./model, revision 0123456789ab",
        "  2 files, 5.0 kB",
    ]
    problems = tuple(FileProblem(f"{n}.bin", "is missing") for n in range(12))
    broken = VerifyReport("oss://b/m", "m", "s", "r", 12, 5000, problems, ("m/x",))
    lines = str(broken).splitlines()
    assert lines[0] == "oss://b/m has 12 problems"
    assert lines[3] == "  0.bin is missing"
    assert lines[-2:] == ["  and 2 more", "  not listed: m/x"]

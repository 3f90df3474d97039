"""Any key at all: it comes back as it went in, and no key reaches outside the folder."""

from __future__ import annotations

from pathlib import Path

import oss2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oss_world import BUCKET, oss, presigned, raw

from qwenkit.errors import SandboxError
from qwenkit.sandbox.oss.store import OssStore

# Pieces that have gone wrong somewhere: dots, slashes, escapes, long names, both normal forms.
PLAIN = "a b / // . .. ../ %2F %2e % + & < ? # : ~ .qwenkit"
PIECES = st.one_of(
    st.sampled_from(PLAIN.split(" ")),
    st.sampled_from(["/", " ", "\\", '"', "\0", "\n", "\r", "\x01", "\x7f", "\u0085", "\uffff"]),
    st.sampled_from(["é", "e\u0301", "西湖", "😀", "x" * 256]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
KEYS = (
    st.lists(PIECES, min_size=1, max_size=6)
    .map("".join)
    .filter(lambda key: 1 <= len(key.encode()) <= 1023 and key not in (".", ".."))
)
QUICK = settings(
    max_examples=70,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def listed(bucket: oss2.Bucket) -> list[str]:
    return [item.key for item in oss2.ObjectIteratorV2(bucket, max_keys=7)]


def put(bucket: oss2.Bucket, key: str, body: bytes) -> None:
    target = presigned(bucket, "PUT", key)
    assert raw("PUT", bucket.endpoint, target, body)[0] == 200


@given(keys=st.sets(KEYS, min_size=1, max_size=6))
@example(keys={"a", "a/b", "a/", "a/b/c"})
@example(keys={"a/b", "a"})
@example(keys={"/a", "//a", "a//b", "a/./b", "a/../b", "../../../etc/passwd"})
@example(keys={"x" * 255, "x" * 256, "é" * 511, "/".join("a" * 512)})
@example(keys={"e\u0301", "é", "A", "a"})
@QUICK
def test_round_trip(bucket: oss2.Bucket, root: Path, keys: set[str]) -> None:
    for key in listed(bucket):  # left by an example that failed
        raw("DELETE", bucket.endpoint, presigned(bucket, "DELETE", key))
    for number, key in enumerate(sorted(keys)):
        put(bucket, key, b"%d %s" % (number, key.encode()))
    assert listed(bucket) == sorted(keys)
    for number, key in enumerate(sorted(keys)):
        status, _, body = raw("GET", bucket.endpoint, presigned(bucket, "GET", key))
        assert (status, body) == (200, b"%d %s" % (number, key.encode()))
    for key in sorted(keys):
        assert raw("DELETE", bucket.endpoint, presigned(bucket, "DELETE", key))[0] == 204
        status = raw("HEAD", bucket.endpoint, presigned(bucket, "HEAD", key))[0]
        assert status == 404
    assert listed(bucket) == []
    assert [path.name for path in root.parent.iterdir()] == ["oss"]
    assert sorted(path.name for path in root.iterdir()) == [".qwenkit", BUCKET]
    assert list((root / BUCKET).iterdir()) == []
    assert list((root / ".qwenkit" / "escaped" / BUCKET).glob("*")) == []


@pytest.mark.parametrize("key", [".", "..", "../x", "../../x", "/", "//", "/etc/x", "a\0b"])
def test_keys_that_are_paths_elsewhere(bucket: oss2.Bucket, root: Path, key: str) -> None:
    put(bucket, key, b"here")
    assert raw("GET", bucket.endpoint, presigned(bucket, "GET", key))[2] == b"here"
    assert list((root / BUCKET).iterdir()) == []
    assert raw("DELETE", bucket.endpoint, presigned(bucket, "DELETE", key))[0] == 204


def test_a_key_is_a_file_where_it_can_be_one(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        bucket.put_object("a", b"1")
        bucket.put_object("a/b", b"2")
        bucket.put_object("c/d", b"3")
        bucket.put_object("c", b"4")
        assert (tmp_path / BUCKET / "a").read_bytes() == b"1"
        assert (tmp_path / BUCKET / "c" / "d").read_bytes() == b"3"
        assert [bucket.get_object(key).read() for key in ("a/b", "c")] == [b"2", b"4"]
        assert listed(bucket) == ["a", "a/b", "c", "c/d"]
        # With the folder gone the key becomes a file, and its escaped form goes.
        bucket.delete_object("c/d")
        bucket.put_object("c", b"5")
        assert (tmp_path / BUCKET / "c").read_bytes() == b"5"
        assert bucket.get_object("c").read() == b"5"
        bucket.delete_object("c")
        assert not bucket.object_exists("c")


@pytest.mark.parametrize(
    ("target", "code"),
    [("x" * 1024, b"InvalidObjectName"), ("%FF", b"InvalidObjectName"), ("é" * 512, b"Invalid")],
)
def test_keys_that_oss_refuses(bucket: oss2.Bucket, target: str, code: bytes) -> None:
    query = presigned(bucket, "PUT", "k").partition("?")[2]
    path = target.encode().decode("latin-1") if target.isascii() else "%C3%A9" * 512
    status, _, body = raw("PUT", bucket.endpoint, f"/{BUCKET}/{path}?{query}", b"")
    assert status == 400
    assert code in body


@pytest.mark.parametrize("name", [".qwenkit", ".qwenkit/temporary", ".qwenkit/uploads"])
def test_bookkeeping_through_a_link_is_refused(tmp_path, name):
    mine, path = tmp_path / "mine", tmp_path / "root" / name
    mine.mkdir()
    (mine / ("0" * 32)).write_text("precious")
    path.parent.mkdir(parents=True)
    path.symlink_to(mine)
    with pytest.raises(SandboxError, match="cannot hold buckets"):
        OssStore(tmp_path / "root")
    assert [one.name for one in mine.iterdir()] == ["0" * 32]


def test_a_start_removes_only_files_that_were_half_written(tmp_path):
    folder = tmp_path / ".qwenkit" / "temporary"
    (folder / "mine").mkdir(parents=True)
    (folder / "half").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    OssStore(tmp_path).close()
    assert {one.name for one in folder.iterdir()} == {"mine", "link"}
    (tmp_path / "file").touch()
    with pytest.raises(SandboxError, match="cannot hold buckets"):
        OssStore(tmp_path / "file")

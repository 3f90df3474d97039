"""Objects through oss2: what goes in comes out, with OSS's headers, digests and refusals."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import os
import random
import socket
import time
from pathlib import Path
from xml.etree import ElementTree

import anycrc
import oss2
import pytest
import requests
from oss_world import BUCKET, client, oss, presigned, raw

from qwenkit.sandbox.oss import ranges
from qwenkit.sandbox.oss.errors import OssError

CRC = anycrc.Model("CRC64-XZ")
SOME = bytes(range(250)) * 4


@pytest.mark.parametrize("auth", ["V1", "V4"])
def test_round_trip(url: str, auth: str) -> None:
    with client(url, auth=auth) as bucket:
        key = f"{auth}/a b+c%2F?&=é/西湖.txt"
        headers = {
            "x-oss-meta-sha256": "abc",
            "Content-Type": "text/x",
            "Cache-Control": "no-cache",
        }
        put = bucket.put_object(key, b"123456789", headers=headers)
        assert put.crc == 0x995DC9BBDF1939FA
        assert put.etag == hashlib.md5(b"123456789").hexdigest().upper()
        assert put.headers["Content-Length"] == "0"
        head = bucket.head_object(key)
        assert (head.content_length, head.server_crc, head.etag) == (9, put.crc, put.etag)
        assert head.object_type == "Normal"
        assert head.headers["x-oss-meta-sha256"] == "abc"
        assert head.headers["Content-Type"] == "text/x"
        assert head.headers["Cache-Control"] == "no-cache"
        assert abs(head.last_modified - time.time()) < 60
        assert bucket.get_object(key).read() == b"123456789"
        assert bucket.get_object_meta(key).content_length == 9
        bucket.delete_object(key)
        assert not bucket.object_exists(key)
        assert bucket.delete_object(key).status == 204


def test_every_answer_names_the_request_and_the_server(bucket: oss2.Bucket) -> None:
    first, second = (bucket.put_object("k", b"").headers for _ in range(2))
    assert first["Server"] == "AliyunOSS"
    assert first["x-oss-request-id"] != second["x-oss-request-id"]
    assert first["Date"].endswith("GMT")


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 20) + 7])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_size_and_framing(bucket: oss2.Bucket, size: int, chunked: bool) -> None:
    data = random.Random(size).randbytes(size)
    body = (data[at : at + 70_000] for at in range(0, size, 70_000)) if chunked else data
    put = bucket.put_object("body", body)
    assert put.crc == CRC.calc(data)
    assert bucket.get_object("body").read() == data


def test_crc_of_the_empty_object_is_zero(bucket: oss2.Bucket) -> None:
    assert bucket.put_object("empty", b"").headers["x-oss-hash-crc64ecma"] == "0"


def test_overwriting_replaces_headers_too(bucket: oss2.Bucket) -> None:
    bucket.put_object("twice", b"1", headers={"x-oss-meta-a": "1"})
    bucket.put_object("twice", b"22", headers={"x-oss-meta-b": "2"})
    headers = bucket.head_object("twice").headers
    assert "x-oss-meta-a" not in headers
    assert headers["x-oss-meta-b"] == "2"


def test_content_md5_is_checked_and_a_bad_body_leaves_no_object(bucket: oss2.Bucket) -> None:
    right = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
    bucket.put_object("md5", b"abc", headers={"Content-MD5": right})
    for wrong in (base64.b64encode(bytes(16)).decode(), "short", "????"):
        with pytest.raises(oss2.exceptions.InvalidDigest):
            bucket.put_object("md5-bad", b"abc", headers={"Content-MD5": wrong})
    assert not bucket.object_exists("md5-bad")


def test_forbid_overwrite(bucket: oss2.Bucket) -> None:
    forbid = {"x-oss-forbid-overwrite": "true"}
    bucket.put_object("once", b"1", headers=forbid)
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.put_object("once", b"2", headers=forbid)
    assert (caught.value.status, caught.value.code) == (409, "FileAlreadyExists")
    assert bucket.get_object("once").read() == b"1"


def test_head_of_a_missing_key_carries_the_error_in_a_header(url: str, bucket: oss2.Bucket) -> None:
    with pytest.raises(oss2.exceptions.NoSuchKey) as caught:
        bucket.head_object("missing")
    assert caught.value.details["Key"] == "missing"
    status, headers, body = raw("HEAD", url, presigned(bucket, "HEAD", "missing"))
    assert (status, body) == (404, b"")
    tree = ElementTree.fromstring(base64.b64decode(headers["x-oss-err"]))
    assert (tree.tag, tree.findtext("Code")) == ("Error", "NoSuchKey")
    assert tree.findtext("RequestId") == headers["x-oss-request-id"]
    assert headers["x-oss-ec"] == tree.findtext("EC")


@pytest.mark.parametrize(
    ("range_", "standard", "wanted"),
    [
        ("bytes=0-0", False, (0, 0)),
        ("bytes=0-499", False, (0, 499)),
        ("bytes=500-", False, (500, 999)),
        ("bytes=-10", False, (990, 999)),
        ("bytes=-1000", False, (0, 999)),
        ("bytes=0-9,20-29", False, (0, 9)),
        # What does not lie within the object does not count ...
        ("bytes=0-1000", False, None),
        ("bytes=1000-", False, None),
        ("bytes=1000-2000", False, None),
        ("bytes=-2000", False, None),
        ("bytes=9-5", False, None),
        ("byte=0-9", False, None),
        ("bytes=-", False, None),
        # ... unless the client wants what HTTP says.
        ("bytes=0-1000", True, (0, 999)),
        ("bytes=-2000", True, (0, 999)),
        ("bytes=9-5", True, None),
    ],
)
def test_ranges(
    bucket: oss2.Bucket, range_: str, standard: bool, wanted: tuple[int, int] | None
) -> None:
    put = bucket.put_object("range", SOME)
    headers = {"Range": range_} | ({"x-oss-range-behavior": "standard"} if standard else {})
    got = bucket.get_object("range", headers=headers)
    start, end = wanted or (0, 999)
    assert got.read() == SOME[start : end + 1]
    assert got.status == (206 if wanted else 200)
    assert got.headers.get("Content-Range") == (f"bytes {start}-{end}/1000" if wanted else None)
    # The CRC of a part's answer is that of the whole object.
    assert int(got.headers["x-oss-hash-crc64ecma"]) == put.crc


def test_a_range_behind_the_end_is_416_only_in_standard_behaviour(bucket: oss2.Bucket) -> None:
    bucket.put_object("range", SOME)
    headers = {"Range": "bytes=1000-2000", "x-oss-range-behavior": "standard"}
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.get_object("range", headers=headers)
    assert (caught.value.status, caught.value.code) == (416, "InvalidRange")


@pytest.mark.parametrize("range_", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_ranges_of_nothing(range_: str) -> None:
    assert ranges.requested(range_, 0) is None
    with pytest.raises(OssError, match="416 InvalidRange"):
        ranges.requested("bytes=0-", 0, standard=True)


def test_conditions(bucket: oss2.Bucket) -> None:
    etag = bucket.put_object("conditions", b"x").etag
    bucket.get_object("conditions", headers={"If-Match": f'"{etag}"'}).read()
    with pytest.raises(oss2.exceptions.PreconditionFailed):
        bucket.get_object("conditions", headers={"If-Match": '"0"'})
    with pytest.raises(oss2.exceptions.NotModified):
        bucket.get_object("conditions", headers={"If-None-Match": f'"{etag}"'})
    later, earlier = (oss2.http_date(time.time() + shift) for shift in (1000, -1000))
    with pytest.raises(oss2.exceptions.NotModified):
        bucket.get_object("conditions", headers={"If-Modified-Since": later})
    with pytest.raises(oss2.exceptions.PreconditionFailed):
        bucket.get_object("conditions", headers={"If-Unmodified-Since": earlier})


def test_copy(bucket: oss2.Bucket) -> None:
    put = bucket.put_object("copy/from é", b"x" * 1000, headers={"x-oss-meta-a": "1"})
    copied = bucket.copy_object(BUCKET, "copy/from é", "copy/to")
    assert copied.etag == put.etag
    head = bucket.head_object("copy/to")
    assert (head.server_crc, head.headers["x-oss-meta-a"]) == (put.crc, "1")
    with pytest.raises(oss2.exceptions.NoSuchKey):
        bucket.copy_object(BUCKET, "missing", "copy/to")


def test_a_presigned_get_may_replace_headers(url: str, bucket: oss2.Bucket) -> None:
    bucket.put_object("page", b"<p>")
    target = presigned(bucket, "GET", "page", **{"response-content-type": "text/html"})
    assert raw("GET", url, target)[1]["Content-Type"] == "text/html"
    target = presigned(bucket, "GET", "page", **{"response-content-type": "a\r\nSet-Cookie: b"})
    status, headers, _ = raw("GET", url, target)
    assert status == 400
    assert "Set-Cookie" not in headers


def test_what_is_not_done_says_so(bucket: oss2.Bucket) -> None:
    bucket.put_object("k", b"1")
    with pytest.raises(oss2.exceptions.NotImplemented, match="tagging"):
        bucket.get_object_tagging("k")
    with pytest.raises(oss2.exceptions.NotImplemented, match="lifecycle"):
        bucket.get_bucket_lifecycle()
    with pytest.raises(oss2.exceptions.NotImplemented, match="append"):
        bucket.append_object("k", 0, b"1")


def test_a_compressed_body_is_never_stored_as_something_else(bucket: oss2.Bucket) -> None:
    body = gzip.compress(b"x" * 1000)
    with contextlib.suppress(oss2.exceptions.ServerError):
        bucket.put_object("gzip", body, headers={"Content-Encoding": "gzip"})
        assert bucket.head_object("gzip").server_crc == CRC.calc(body)
    assert bucket.object_exists("gzip") is (bucket.list_objects("gzip").object_list != [])


def test_no_such_bucket_and_bad_names(url: str) -> None:
    with client(url, bucket_name="absent") as bucket, pytest.raises(oss2.exceptions.NoSuchBucket):
        bucket.put_object("k", b"1")
    with client(url) as bucket:
        query = presigned(bucket, "GET", "k").partition("?")[2]
    for name in ("Upper", "..", "a", "under_score", ".qwenkit", "%2e%2e"):
        status, _, body = raw("GET", url, f"/{name}/k?{query}")
        assert (status, b"SignatureDoesNotMatch" in body) == (403, True)


def test_a_client_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        target = presigned(bucket, "PUT", "half")
        host, _, port = bucket.endpoint.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9000000\r\n\r\n"
            connection.sendall(head.encode() + bytes(3_000_000))
        temporary = tmp_path / ".qwenkit" / "temporary"
        deadline = time.monotonic() + 60
        while list(temporary.iterdir()) and time.monotonic() < deadline:
            bucket.object_exists("half")
        assert list(temporary.iterdir()) == []
        assert not bucket.object_exists("half")


def test_objects_are_ordinary_files_and_files_are_objects(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        bucket.put_object("model/config.json", b"{}")
        assert (tmp_path / BUCKET / "model" / "config.json").read_bytes() == b"{}"
        (tmp_path / BUCKET / "by hand").mkdir()
        (tmp_path / BUCKET / "by hand" / "注.txt").write_bytes(b"123456789")
        head = bucket.head_object("by hand/注.txt")
        assert head.server_crc == 0x995DC9BBDF1939FA
        assert head.etag == hashlib.md5(b"123456789").hexdigest().upper()
        keys = [item.key for item in bucket.list_objects_v2().object_list]
        assert keys == ["by hand/注.txt", "model/config.json"]
        bucket.delete_object("by hand/注.txt")
        assert not (tmp_path / BUCKET / "by hand").exists()


def test_a_file_changed_on_disk_is_served_as_it_is(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        bucket.put_object("w", b"aaaa", headers={"x-oss-meta-sha256": "of aaaa"})
        path = tmp_path / BUCKET / "w"
        before = path.stat()
        path.write_bytes(b"bbbb")
        # Not even times put back hide it.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        head = bucket.head_object("w")
        assert head.server_crc == CRC.calc(b"bbbb")
        assert head.etag == hashlib.md5(b"bbbb").hexdigest().upper()
        assert "x-oss-meta-sha256" not in head.headers
        assert bucket.get_object("w").read() == b"bbbb"
        assert bucket.list_objects_v2().object_list[0].etag == head.etag


def test_a_file_only_touched_keeps_its_headers(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        etag = bucket.put_object("w", b"aaaa", headers={"x-oss-meta-a": "1"}).etag
        os.utime(tmp_path / BUCKET / "w", (1_000_000_000, 1_000_000_000))
        head = bucket.head_object("w")
        assert (head.etag, head.headers["x-oss-meta-a"]) == (etag, "1")
        assert head.last_modified == 1_000_000_000


def test_a_file_that_shrinks_while_it_is_sent_is_never_taken_for_whole(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        bucket.put_object("shrinks", bytes(64 << 20))
        got = bucket.get_object("shrinks")
        os.truncate(tmp_path / BUCKET / "shrinks", 1000)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            got.read()
        assert bucket.head_object("shrinks").content_length == 1000


def test_symbolic_links_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    with oss(tmp_path / "oss") as bucket:
        folder = tmp_path / "oss" / BUCKET
        (folder / "link").symlink_to(outside)
        (folder / "file").symlink_to(outside / "secret")
        assert bucket.list_objects_v2().object_list == []
        for key in ("link/secret", "file"):
            assert not bucket.object_exists(key)
            bucket.put_object(key, b"mine")
            assert bucket.get_object(key).read() == b"mine"
        bucket.put_object("link/new", b"mine")
        assert sorted(path.name for path in outside.iterdir()) == ["secret"]
        assert (outside / "secret").read_bytes() == b"secret"


def test_etags_without_md5_for_benchmarks(tmp_path: Path) -> None:
    with oss(tmp_path, etag="crc") as bucket:
        put = bucket.put_object("k", b"123456789")
        assert (put.crc, put.etag) == (0x995DC9BBDF1939FA, "0" * 16 + "995DC9BBDF1939FA")
        with pytest.raises(oss2.exceptions.InvalidDigest):
            bucket.put_object(
                "k", b"1", headers={"Content-MD5": base64.b64encode(bytes(16)).decode()}
            )


def test_no_secret_in_the_log(bucket: oss2.Bucket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="qwenkit")
    bucket.put_object("k", b"1")
    bucket.object_exists("missing")
    requests.get(bucket.sign_url("GET", "k", 60) + "0", timeout=60).close()
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("qwenkit")]
    assert any("SignatureDoesNotMatch" in message for message in ours)
    assert not any("test-secret" in message or "Signature=" in message for message in ours)

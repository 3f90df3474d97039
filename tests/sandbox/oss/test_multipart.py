"""Multipart uploads: the rules of parts, the digests of the whole, and what outlives what."""

from __future__ import annotations

import hashlib
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import anycrc
import oss2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oss2.models import PartInfo
from oss_world import BUCKET, client, oss, presigned, raw

CRC = anycrc.Model("CRC64-XZ")
MIN = 100 * 1024
A, B, C = (random.Random(seed).randbytes(MIN + seed) for seed in (1, 2, 3))


def start(bucket: oss2.Bucket, key: str, **headers: str) -> str:
    return str(bucket.init_multipart_upload(key, headers=headers).upload_id)


def send(bucket: oss2.Bucket, key: str, upload: str, number: int, data: bytes) -> PartInfo:
    return PartInfo(number, bucket.upload_part(key, upload, number, data).etag)


def refused(bucket: oss2.Bucket, key: str, upload: str, parts: list[PartInfo]) -> str:
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.complete_multipart_upload(key, upload, parts).resp.read()
    return f"{caught.value.status} {caught.value.code}"


@pytest.mark.parametrize("auth", ["V1", "V4"])
def test_life_of_an_upload(url: str, auth: str) -> None:
    with client(url, auth=auth) as bucket:
        key = f"life/{auth}"
        upload = start(bucket, key, **{"x-oss-meta-sha256": "abc", "x-oss-storage-class": "IA"})
        assert [found.key for found in bucket.list_multipart_uploads().upload_list] == [key]
        parts = [send(bucket, key, upload, n, data) for n, data in ((1, A), (2, B), (9, b"tail"))]
        result = bucket.complete_multipart_upload(key, upload, parts)
        body = result.resp.read()
        whole = A + B + b"tail"
        assert result.crc == CRC.calc(whole)
        assert bucket.get_object(key).read() == whole
        head = bucket.head_object(key)
        assert (head.server_crc, head.object_type) == (CRC.calc(whole), "Multipart")
        assert head.headers["x-oss-meta-sha256"] == "abc"
        assert head.headers["x-oss-storage-class"] == "IA"
        assert head.etag == result.etag
        assert head.etag.endswith("-3")
        tree = ElementTree.fromstring(body)
        assert (tree.findtext("Key"), tree.findtext("ETag")) == (key, f'"{head.etag}"')
        assert bucket.list_multipart_uploads().upload_list == []
        bucket.delete_object(key)


def test_parts_are_acknowledged_and_listed_in_pages(bucket: oss2.Bucket, url: str) -> None:
    upload = start(bucket, "parts")
    answer = bucket.upload_part("parts", upload, 3, b"123456789")
    assert answer.crc == 0x995DC9BBDF1939FA
    assert answer.etag == hashlib.md5(b"123456789").hexdigest().upper()
    send(bucket, "parts", upload, 10, A)
    send(bucket, "parts", upload, 1, B)
    pages, marker = [], ""
    while True:
        page = bucket.list_parts("parts", upload, marker=marker, max_parts=1)
        pages.append([(part.part_number, part.size) for part in page.parts])
        if not page.is_truncated:
            break
        marker = page.next_marker
    assert pages == [[(1, len(B))], [(3, 9)], [(10, len(A))]]
    body = raw("GET", url, presigned(bucket, "GET", "parts", uploadId=upload))[2]
    crcs = [int(found.text or "") for found in ElementTree.fromstring(body).iter("HashCrc64ecma")]
    assert crcs == [CRC.calc(B), 0x995DC9BBDF1939FA, CRC.calc(A)]
    bucket.abort_multipart_upload("parts", upload)


def test_a_part_sent_again_replaces_the_first(bucket: oss2.Bucket, root: Path) -> None:
    upload = start(bucket, "again")
    old = send(bucket, "again", upload, 1, A)
    new = send(bucket, "again", upload, 1, C)
    assert refused(bucket, "again", upload, [old]) == "400 InvalidPart"
    bucket.complete_multipart_upload("again", upload, [new]).resp.read()
    assert bucket.get_object("again").read() == C
    assert list((root / ".qwenkit" / "uploads").glob(f"{upload}*")) == []


def test_rules_of_complete(bucket: oss2.Bucket) -> None:
    upload = start(bucket, "rules")
    one, two, small = (
        send(bucket, "rules", upload, n, data) for n, data in ((1, A), (2, B), (3, b"x"))
    )
    four = send(bucket, "rules", upload, 4, C)
    assert refused(bucket, "rules", upload, [one, PartInfo(7, two.etag)]) == "400 InvalidPart"
    assert refused(bucket, "rules", upload, [PartInfo(1, two.etag)]) == "400 InvalidPart"
    assert refused(bucket, "rules", upload, [one, small, four]) == "400 EntityTooSmall"
    assert refused(bucket, "rules", upload, []) == "400 MalformedXML"
    long = [PartInfo("9" * 5000, one.etag)]
    assert refused(bucket, "rules", upload, long) == "400 MalformedXML"
    # oss2 sorts the parts, so a wrong order has to be written by hand.
    for numbers in ((2, 1), (1, 1)):
        etags = {1: one.etag, 2: two.etag}
        body = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n]}</ETag></Part>" for n in numbers
        )
        with pytest.raises(oss2.exceptions.ServerError) as caught:
            bucket._do(
                "POST",
                BUCKET,
                "rules",
                data=f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>",
                params={"uploadId": upload},
            )
        assert caught.value.code == "InvalidPartOrder"
    # After every refusal the upload still stands; parts that are not named are dropped.
    bucket.complete_multipart_upload("rules", upload, [one, four]).resp.read()
    assert bucket.get_object("rules").read() == A + C
    assert refused(bucket, "rules", upload, [one, four]) == "404 NoSuchUpload"


def test_complete_all(bucket: oss2.Bucket) -> None:
    upload = start(bucket, "all")
    for number, data in ((2, B), (1, A)):
        send(bucket, "all", upload, number, data)
    everything = {"x-oss-complete-all": "yes"}
    with pytest.raises(oss2.exceptions.InvalidArgument):
        bucket.complete_multipart_upload("all", upload, [PartInfo(1, "X")], headers=everything)
    result = bucket.complete_multipart_upload("all", upload, None, headers=everything)
    assert result.crc == CRC.calc(A + B)
    result.resp.read()
    assert bucket.get_object("all").read() == A + B


@pytest.mark.parametrize("number", [0, 10001, -1])
def test_part_numbers(bucket: oss2.Bucket, number: int) -> None:
    upload = start(bucket, "numbers")
    with pytest.raises(oss2.exceptions.InvalidArgument):
        bucket.upload_part("numbers", upload, number, b"x")
    bucket.abort_multipart_upload("numbers", upload)


def test_an_upload_belongs_to_its_key(bucket: oss2.Bucket) -> None:
    upload = start(bucket, "mine")
    for act in (bucket.abort_multipart_upload, bucket.list_parts):
        with pytest.raises(oss2.exceptions.NoSuchUpload):
            act("other", upload)
        with pytest.raises(oss2.exceptions.NoSuchUpload):
            act("mine", "../" + upload)
    bucket.abort_multipart_upload("mine", upload)
    with pytest.raises(oss2.exceptions.NoSuchUpload):
        bucket.upload_part("mine", upload, 1, b"x")


def test_the_object_stays_until_complete(bucket: oss2.Bucket) -> None:
    bucket.put_object("live", b"old")
    upload = start(bucket, "live")
    part = send(bucket, "live", upload, 1, A)
    assert bucket.get_object("live").read() == b"old"
    bucket.complete_multipart_upload("live", upload, [part]).resp.read()
    assert bucket.get_object("live").read() == A


def test_forbid_overwrite(bucket: oss2.Bucket) -> None:
    forbid = {"x-oss-forbid-overwrite": "true"}
    upload = start(bucket, "kept")
    part = send(bucket, "kept", upload, 1, A)
    bucket.put_object("kept", b"first")
    with pytest.raises(oss2.exceptions.ServerError, match="FileAlreadyExists"):
        start(bucket, "kept", **forbid)
    with pytest.raises(oss2.exceptions.ServerError, match="FileAlreadyExists"):
        bucket.complete_multipart_upload("kept", upload, [part], headers=forbid)
    assert bucket.get_object("kept").read() == b"first"
    bucket.complete_multipart_upload("kept", upload, [part]).resp.read()
    assert bucket.get_object("kept").read() == A


def test_parts_in_parallel_and_twice(bucket: oss2.Bucket) -> None:
    pieces = [random.Random(n).randbytes(MIN) for n in range(12)]
    upload = start(bucket, "parallel")
    with ThreadPoolExecutor(6) as pool:
        work = [*enumerate(pieces, 1)] * 2
        sent = dict(
            pool.map(
                lambda item: (item[0], send(bucket, "parallel", upload, *item)),
                work,
            )
        )
    bucket.complete_multipart_upload("parallel", upload, list(sent.values())).resp.read()
    assert bucket.get_object("parallel").read() == b"".join(pieces)


def test_a_part_still_arriving_cannot_reach_the_object(bucket: oss2.Bucket) -> None:
    upload = start(bucket, "late")
    parts = [send(bucket, "late", upload, number, A) for number in (1, 2)]
    target = presigned(bucket, "PUT", "late", uploadId=upload, partNumber="3")
    host, _, port = bucket.endpoint.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(A)}\r\n\r\n"
        connection.sendall(head.encode() + A[:1000])
        # Another request's answer: the server has begun to write the part.
        assert [part.part_number for part in bucket.list_parts("late", upload).parts] == [1, 2]
        bucket.complete_multipart_upload("late", upload, parts).resp.read()
        connection.sendall(A[1000:])
        assert b"404" in connection.recv(100)
    assert bucket.get_object("late").read() == A * 2


def test_a_part_sent_after_one_that_broke_off(bucket: oss2.Bucket) -> None:
    upload = start(bucket, "broken")
    one = send(bucket, "broken", upload, 1, A)
    target = presigned(bucket, "PUT", "broken", uploadId=upload, partNumber="2")
    host, _, port = bucket.endpoint.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(A)}\r\n\r\n"
        connection.sendall(head.encode() + b"garbage" * 1000)
    two = send(bucket, "broken", upload, 2, A[:-5])
    bucket.complete_multipart_upload("broken", upload, [one, two]).resp.read()
    assert bucket.get_object("broken").read() == A + A[:-5]


def test_one_of_two_completes_wins(bucket: oss2.Bucket) -> None:
    upload = start(bucket, "race")
    parts = [send(bucket, "race", upload, n, A) for n in (1, 2, 3)]

    def complete(_: int) -> str:
        try:
            bucket.complete_multipart_upload("race", upload, parts).resp.read()
        except oss2.exceptions.NoSuchUpload:
            return "NoSuchUpload"
        return "done"

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(complete, range(3))) == ["NoSuchUpload"] * 2 + ["done"]
    assert bucket.get_object("race").read() == A * 3


@given(
    sizes=st.lists(st.sampled_from([MIN, MIN + 1, 2 * MIN, 3 * MIN]), max_size=4),
    last=st.integers(0, 2 * MIN),
    gap=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_parts_in_any_order_of_arrival(
    bucket: oss2.Bucket, sizes: list[int], last: int, gap: int, seed: int
) -> None:
    chance = random.Random(seed)
    pieces = {1 + index * gap: chance.randbytes(size) for index, size in enumerate([*sizes, last])}
    upload = start(bucket, "any/order")
    arrivals = list(pieces.items())
    chance.shuffle(arrivals)
    parts = [send(bucket, "any/order", upload, number, data) for number, data in arrivals]
    result = bucket.complete_multipart_upload("any/order", upload, parts)
    result.resp.read()
    whole = b"".join(pieces.values())
    assert result.crc == CRC.calc(whole)
    assert bucket.get_object("any/order").read() == whole


def test_listing_uploads_in_pages(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        keys = ["a/1", "a/1", "a/2", "b", "é/x", "c//d"]
        uploads = sorted((key, start(bucket, key)) for key in keys)
        for size in (1, 2, 1000):
            found = [
                (item.key, item.upload_id)
                for item in oss2.MultipartUploadIterator(bucket, max_uploads=size)
            ]
            assert found == uploads
        found = [
            (item.key, item.is_prefix())
            for item in oss2.MultipartUploadIterator(bucket, delimiter="/", max_uploads=1)
        ]
        assert found == [("a/", True), ("b", False), ("c/", True), ("é/", True)]
        only = bucket.list_multipart_uploads(prefix="a/").upload_list
        assert [item.key for item in only] == ["a/1", "a/1", "a/2"]
        assert not (tmp_path / BUCKET / "a").exists()


def test_etags_without_md5(tmp_path: Path) -> None:
    with oss(tmp_path, etag="crc") as bucket:
        upload = start(bucket, "k")
        parts = [send(bucket, "k", upload, n, data) for n, data in ((1, A), (2, B))]
        result = bucket.complete_multipart_upload("k", upload, parts)
        result.resp.read()
        assert result.crc == CRC.calc(A + B)

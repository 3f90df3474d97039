"""Buckets: making, describing, listing in pages, deleting many, removing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oss_world import BUCKET, KEY_ID, REGION, SECRET, client, oss, presigned, raw, serving

KEYS = ["a", "a-b", "a/", "a/b", "a/c/d", "b/c", "b.txt", "é/x", "西湖"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("oss")) as url, client(url) as bucket:
        for key in KEYS:
            bucket.put_object(key, key.encode())
        yield url


def test_life_of_a_bucket(tmp_path: Path) -> None:
    with serving(tmp_path) as url, client(url, bucket_name="other") as other:
        with pytest.raises(oss2.exceptions.OssError) as caught:
            other.create_bucket(oss2.BUCKET_ACL_PUBLIC_READ)
        assert caught.value.code == "NotImplemented"
        other.create_bucket(oss2.BUCKET_ACL_PRIVATE)
        other.create_bucket()
        info = other.get_bucket_info()
        assert (info.name, info.location) == ("other", f"oss-{REGION}")
        assert info.acl.grant == "private"
        assert other.get_bucket_location().location == f"oss-{REGION}"
        other.put_object("folder/k", b"12345")
        upload = other.init_multipart_upload("m").upload_id
        stat = other.get_bucket_stat()
        assert (stat.object_count, stat.storage_size_in_bytes) == (1, 5)
        assert stat.multi_part_upload_count == 1
        service = oss2.Service(oss2.Auth(KEY_ID, SECRET), url, session=other.session)
        assert [found.name for found in service.list_buckets().buckets] == ["other", BUCKET]
        with pytest.raises(oss2.exceptions.BucketNotEmpty):
            other.delete_bucket()
        other.delete_object("folder/k")
        with pytest.raises(oss2.exceptions.BucketNotEmpty):
            other.delete_bucket()
        other.abort_multipart_upload("m", upload)
        other.delete_bucket()
        assert not (tmp_path / "other").exists()
        with pytest.raises(oss2.exceptions.NoSuchBucket):
            other.get_bucket_info()


def test_a_bucket_made_again_is_empty(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        bucket.put_object("a//b", b"escaped")
        (tmp_path / BUCKET).rmdir()
        bucket.create_bucket()
        assert bucket.list_objects_v2().object_list == []
        assert not bucket.object_exists("a//b")


def test_a_folder_made_by_hand_is_a_bucket(tmp_path: Path) -> None:
    with serving(tmp_path) as url, client(url, bucket_name="by-hand") as bucket:
        (tmp_path / "by-hand").mkdir()
        assert bucket.get_bucket_info().acl.grant == "private"
        (tmp_path / "by-hand" / "nested").mkdir()
        bucket.delete_bucket()
        assert not (tmp_path / "by-hand").exists()


def test_what_is_no_object_keeps_its_bucket(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        (tmp_path / BUCKET / "link").symlink_to(tmp_path)
        with pytest.raises(oss2.exceptions.BucketNotEmpty):
            bucket.delete_bucket()


@pytest.mark.parametrize("name", ["UPPER", "-ab", "a_b", "x" * 64])
def test_bucket_names_that_oss_refuses(url: str, bucket: oss2.Bucket, name: str) -> None:
    request = oss2.http.Request("PUT", f"{url}/{name}/")
    bucket.auth._sign_request(request, name, "")
    headers = {key: value for key, value in request.headers.items() if value}
    status, _, body = raw("PUT", url, f"/{name}/", headers=headers)
    assert (status, b"InvalidBucketName" in body) == (400, True)


def test_listing_in_byte_order_with_facts(bucket: oss2.Bucket) -> None:
    page = bucket.list_objects_v2(fetch_owner=True)
    assert [item.key for item in page.object_list] == sorted(KEYS)
    first = page.object_list[0]
    assert (first.size, first.type, first.storage_class) == (1, "Normal", "Standard")
    assert first.etag == bucket.head_object("a").etag
    assert first.owner.id
    assert not page.is_truncated


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "é/", "none"])
def test_pages(bucket: oss2.Bucket, version: str, size: int, delimiter: str, prefix: str) -> None:
    iterator = oss2.ObjectIterator if version == "V1" else oss2.ObjectIteratorV2
    found = iterator(bucket, prefix=prefix, delimiter=delimiter, max_keys=size)
    assert [(item.key, item.is_prefix()) for item in found] == expected(KEYS, prefix, delimiter)


def expected(keys: list[str], prefix: str, delimiter: str) -> list[tuple[str, bool]]:
    names = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        names.add((prefix + head + found, True) if found else (key, False))
    return sorted(names)


@given(
    keys=st.sets(st.text("ab/-", min_size=1, max_size=5), min_size=1, max_size=12),
    prefix=st.text("ab/", max_size=2),
    delimiter=st.sampled_from(["", "/", "b", "a/"]),
    size=st.integers(1, 4),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pages_of_any_keys(
    url: str, keys: set[str], prefix: str, delimiter: str, size: int
) -> None:
    with client(url, bucket_name="many-keys") as bucket:
        bucket.create_bucket()
        for key in keys:
            bucket.put_object(key, b"")
        for iterator in (oss2.ObjectIterator, oss2.ObjectIteratorV2):
            found = iterator(bucket, prefix=prefix, delimiter=delimiter, max_keys=size)
            names = [(item.key, item.is_prefix()) for item in found]
            # oss2 shows each page's objects before its prefixes, so order counts per kind only.
            assert sorted(names) == expected(sorted(keys), prefix, delimiter)
        bucket.batch_delete_objects(sorted(keys))
        bucket.delete_bucket()


def test_start_after_and_marker(bucket: oss2.Bucket) -> None:
    after = [item.key for item in bucket.list_objects_v2(start_after="a/b").object_list]
    assert after == [key for key in sorted(KEYS) if key > "a/b"]
    after = [item.key for item in bucket.list_objects(marker="a/b").object_list]
    assert after == [key for key in sorted(KEYS) if key > "a/b"]


@pytest.mark.parametrize("params", [{"max-keys": "1001"}, {"max-keys": "0"}, {"max-keys": "x"}])
def test_bad_arguments(url: str, bucket: oss2.Bucket, params: dict[str, str]) -> None:
    with pytest.raises(oss2.exceptions.InvalidArgument):
        bucket.list_objects_v2(max_keys=params["max-keys"])


def test_a_foreign_continuation_token(bucket: oss2.Bucket) -> None:
    with pytest.raises(oss2.exceptions.InvalidArgument):
        bucket.list_objects_v2(continuation_token="~")


def test_listing_without_encoding_is_still_xml(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        raw("PUT", bucket.endpoint, presigned(bucket, "PUT", "bell\x07&<>\r"), b"")
        page = bucket.list_objects_v2(encoding_type="")
        assert [item.key for item in page.object_list] == ["bell\ufffd&<>\r"]


def test_times_are_written_as_clients_read_them(url: str, bucket: oss2.Bucket) -> None:
    body = raw("GET", url, presigned(bucket, "GET", ""))[2].decode()
    assert re.search(r"<LastModified>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z</LastModified>", body)
    assert "xmlns" not in body


def test_delete_many(tmp_path: Path) -> None:
    with oss(tmp_path) as bucket:
        keys = ["a", "a/b", "é &<", "x//y"]
        for key in keys:
            bucket.put_object(key, b"1")
        assert bucket.batch_delete_objects([*keys, "missing"]).deleted_keys == [*keys, "missing"]
        assert bucket.list_objects_v2().object_list == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<Delete><Object><Key>a</Key></Object>", b"MalformedXML"),
        (b"<Other/>", b"MalformedXML"),
        (b"<Delete><Quiet>true</Quiet></Delete>", b"MalformedXML"),
        (
            b"<!DOCTYPE d [<!ENTITY e 'x'>]><Delete><Object><Key>&e;</Key></Object></Delete>",
            b"Malf",
        ),
        (b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>", b"MalformedXML"),
    ],
)
def test_delete_bodies_that_oss_refuses(bucket: oss2.Bucket, body: bytes, code: bytes) -> None:
    headers = {"Content-MD5": oss2.utils.content_md5(body)}
    with pytest.raises(oss2.exceptions.MalformedXml):
        bucket._do("POST", BUCKET, "", data=body, params={"delete": ""}, headers=headers)


def test_delete_many_wants_a_digest(bucket: oss2.Bucket) -> None:
    with pytest.raises(oss2.exceptions.InvalidDigest):
        bucket._do("POST", BUCKET, "", data=b"<Delete/>", params={"delete": ""})

"""Signatures: who may, who may not, and the words with which OSS says so."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import oss2
import pytest
import requests
from oss_world import BUCKET, KEY_ID, REGION, SECRET, Session, client, raw, serving

VERSIONS = ["V1", "V4"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("oss")) as url, client(url) as bucket:
        bucket.put_object("k", b"hello")
        yield url


@pytest.fixture(params=VERSIONS)
def bucket(url: str, request: pytest.FixtureRequest) -> Iterator[oss2.Bucket]:
    with client(url, auth=request.param) as bucket:
        yield bucket


def refusal(url: str, **options: Any) -> oss2.exceptions.OssError:
    with client(url, **options) as bucket, pytest.raises(oss2.exceptions.OssError) as caught:
        bucket.get_object("k")
    return caught.value


def get(url: str, **options: Any) -> tuple[int, str]:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=60, **options)
    return answer.status_code, answer.text


@pytest.mark.parametrize("auth", VERSIONS)
def test_wrong_secret(url: str, auth: str) -> None:
    error = refusal(url, auth=auth, secret="wrong")
    assert isinstance(error, oss2.exceptions.SignatureDoesNotMatch)
    assert error.details["OSSAccessKeyId"] == KEY_ID
    assert SECRET not in str(error.body)


@pytest.mark.parametrize("auth", VERSIONS)
def test_unknown_key_id(url: str, auth: str) -> None:
    error = refusal(url, auth=auth, key_id="nobody")
    assert (error.status, error.code) == (403, "InvalidAccessKeyId")


def signed(bucket: oss2.Bucket, method: str, key: str, **headers: str) -> dict[str, str]:
    request = oss2.http.Request(method, bucket._make_url(BUCKET, key), headers=headers)
    request.region, request.product = REGION, "oss"
    bucket.auth._sign_request(request, BUCKET, key)
    return {name: value for name, value in request.headers.items() if value}


def test_every_signed_thing_is_covered(bucket: oss2.Bucket, url: str) -> None:
    headers = signed(bucket, "PUT", "k", **{"x-oss-meta-a": "1", "Content-Type": "text/x"})
    assert raw("PUT", url, f"/{BUCKET}/k", b"hello", headers)[0] == 200
    changed = {"x-oss-meta-a": "2", "Content-Type": "text/y", "x-oss-meta-b": "new"}
    for name, value in changed.items():
        status, _, body = raw("PUT", url, f"/{BUCKET}/k", b"hello", headers | {name: value})
        assert (status, b"SignatureDoesNotMatch" in body) == (403, True)
    for method, target in (("DELETE", "k"), ("PUT", "other"), ("PUT", "k?acl")):
        assert raw(method, url, f"/{BUCKET}/{target}", b"", headers)[0] == 403


@pytest.mark.parametrize("minutes", [-16, 16])
@pytest.mark.parametrize("auth", VERSIONS)
def test_skewed_clock(url: str, auth: str, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=minutes)

    class Clock(datetime):
        @classmethod
        def utcnow(cls) -> datetime:
            return moment.replace(tzinfo=None)

    monkeypatch.setattr(oss2.auth, "datetime", Clock)
    monkeypatch.setattr(oss2.utils, "http_date", lambda: oss2.http_date(moment.timestamp()))
    error = refusal(url, auth=auth)
    assert (error.status, error.code) == (403, "RequestTimeTooSkewed")
    assert error.details["MaxAllowedSkewMilliseconds"] == "900000"
    assert error.details["RequestTime"] == moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    server = datetime.strptime(error.details["ServerTime"], "%Y-%m-%dT%H:%M:%S.000Z")
    assert abs(server.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=1)


def test_anonymous(url: str) -> None:
    for target in (f"/{BUCKET}/k", f"/{BUCKET}/", "/"):
        status, body = get(url + target)
        assert (status, "<Code>AccessDenied</Code>" in body) == (403, True)


def test_presigned(bucket: oss2.Bucket, url: str) -> None:
    key = "presigned/a b+é&?.txt"
    put = bucket.sign_url("PUT", key, 60, headers={"Content-Type": "text/x"})
    with requests.Session() as session:
        session.trust_env = False
        answer = session.put(put, b"signed", headers={"Content-Type": "text/x"}, timeout=60)
        assert answer.status_code == 200
        assert session.put(put, b"signed", timeout=60).status_code == 403
    for slash_safe in (False, True):
        assert get(bucket.sign_url("GET", key, 60, slash_safe=slash_safe)) == (200, "signed")
    assert get(bucket.sign_url("GET", key, 60) + "&x-oss-process=x")[0] == 403


def test_expired(bucket: oss2.Bucket) -> None:
    status, body = get(bucket.sign_url("GET", "k", -5))
    assert status == 403 or (status == 400 and "x-oss-expires" in body)
    assert "hello" not in body


def test_an_expired_url_says_when(url: str) -> None:
    with client(url) as bucket:
        status, body = get(bucket.sign_url("GET", "k", -5))
    assert status == 403
    assert "<Code>AccessDenied</Code><Message>Request has expired.</Message>" in body
    assert "<Expires>" in body


def test_v4_expires_by_its_own_count(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def utcnow(cls) -> datetime:
            return datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=2)

    monkeypatch.setattr(oss2.auth, "datetime", Clock)
    with client(url, auth="V4") as bucket:
        assert get(bucket.sign_url("GET", "k", 3 * 3600)) == (200, "hello")
        assert "Request has expired." in get(bucket.sign_url("GET", "k", 3600))[1]


def test_the_other_spelling_of_v4(url: str) -> None:
    with client(url, auth="V4") as bucket:
        request = oss2.http.Request("GET", f"{url}/{BUCKET}/k", headers={"Range": "bytes=0-1"})
        request.region, request.product = REGION, "oss"
        bucket.auth._sign_request(request, BUCKET, "k", ["range"])
    headers = {name: value for name, value in request.headers.items() if value}
    authorization = headers["authorization"]
    scheme, credential, signature, additional = authorization.replace(",", "").split(" ")
    assert raw("GET", url, f"/{BUCKET}/k", b"", headers)[2] == b"he"
    headers["authorization"] = f"{scheme} {credential},{additional},{signature}"
    assert raw("GET", url, f"/{BUCKET}/k", b"", headers)[2] == b"he"
    headers["Range"] = "bytes=0-2"
    assert raw("GET", url, f"/{BUCKET}/k", b"", headers)[0] == 403


def test_v4_names_its_region(url: str) -> None:
    error = refusal(url, auth="V4", region="cn-beijing")
    assert (error.status, error.code, error.ec) == (400, "InvalidArgument", "0002-00000226")


@pytest.mark.parametrize("version", [oss2.AUTH_VERSION_1, oss2.AUTH_VERSION_4])
def test_a_session_token_is_signed(url: str, version: str) -> None:
    auth = oss2.StsAuth(KEY_ID, SECRET, "token+/=", version)
    session = Session()
    bucket = oss2.Bucket(auth, url, BUCKET, region=REGION, session=session)
    assert bucket.get_object("k").read() == b"hello"
    assert get(bucket.sign_url("GET", "k", 60)) == (200, "hello")
    session.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"OSS {KEY_ID}:"},
        {"Authorization": "OSS"},
        {"Authorization": "Bearer x"},
        {"Authorization": "OSS4-HMAC-SHA256 nonsense"},
        {"Authorization": f"OSS4-HMAC-SHA256 Credential={KEY_ID}/1/2/3/aliyun_v4_request"},
        {"Authorization": f"OSS {KEY_ID}:x", "Date": "yesterday"},
        {"Authorization": f"OSS {KEY_ID}:x", "x-oss-date": "99999999T999999Z"},
    ],
)
def test_nonsense_is_refused(url: str, headers: dict[str, str]) -> None:
    status, _, body = raw("GET", url, f"/{BUCKET}/k", b"", headers)
    assert status in (400, 403)
    assert b"<Code>" in body


@pytest.mark.parametrize(
    "query",
    [
        "OSSAccessKeyId=test-id&Expires=soon&Signature=x",
        "OSSAccessKeyId=test-id&Expires=²&Signature=x",
        f"OSSAccessKeyId=test-id&Expires={10**30}&Signature=x",
        "x-oss-signature-version=OSS4-HMAC-SHA256",
        f"x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date={datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        f"&x-oss-credential=test-id/{datetime.now(UTC):%Y%m%d}/cn-hangzhou/oss/aliyun_v4_request"
        "&x-oss-expires=-1",
    ],
)
def test_nonsense_in_urls_is_refused(url: str, query: str) -> None:
    status, _, body = raw("GET", url, f"/{BUCKET}/k?{quote(query, safe='&=')}")
    assert status in (400, 403)
    assert b"<Code>" in body


def test_v2_is_not_there_and_the_answer_says_so(url: str) -> None:
    with client(url, auth="V2") as bucket:
        with pytest.raises(oss2.exceptions.OssError) as caught:
            bucket.get_object("k")
        assert (caught.value.code, "V1 and V4" in caught.value.message) == ("NotImplemented", True)
        assert "<Code>NotImplemented</Code>" in get(bucket.sign_url("GET", "k", 60))[1]


def test_virtual_host_style(bucket: oss2.Bucket, url: str) -> None:
    headers = signed(bucket, "GET", "a/k")
    put = signed(bucket, "PUT", "a/k")
    for host in (f"{BUCKET}.localhost:1234", f"{BUCKET}.oss-cn-hangzhou.aliyuncs.com"):
        assert raw("PUT", url, "/a%2Fk", b"virtual", put | {"Host": host})[0] == 200
        assert raw("GET", url, "/a/k", b"", headers | {"Host": host})[2] == b"virtual"
    for host in ("localhost:1234", "127.0.0.1", "[::1]:80"):
        assert raw("GET", url, f"/{BUCKET}/a%2Fk", b"", headers | {"Host": host})[2] == b"virtual"
    status, _, body = raw("GET", url, "/k", b"", headers | {"Host": "absent.localhost"})
    assert (status, b"SignatureDoesNotMatch" in body) == (403, True)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("auth", VERSIONS)
def test_curl(url: str, auth: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    with client(url, auth=auth) as bucket:
        put, fetch = (bucket.sign_url(method, "curl/file", 60) for method in ("PUT", "GET"))
    curl = ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "20"]
    subprocess.run([*curl, "-T", str(tmp_path / "file"), put], check=True, capture_output=True)
    subprocess.run([*curl, "-o", str(tmp_path / "got"), fetch], check=True, capture_output=True)
    assert (tmp_path / "got").read_bytes() == bytes(100_000)

"""What people met at OSS and at hubs, each as a small case of our own."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from transfer_world import BUCKET, OPTIONS, World, credentials, world, write

from qwenkit.errors import Forbidden, InvalidValue, Rejected, SettingsError, Unreachable
from qwenkit.parameters.oss_hosts import internal_of, region_of
from qwenkit.sandbox.faults.oss import refuse
from qwenkit.settings import Settings
from qwenkit.weights.hub.listing import SourceFile
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.oss.bucket import open_bucket
from qwenkit.weights.oss.preflight import check
from qwenkit.weights.transfer import upload


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


def keys(place: World) -> list[str]:
    return [found.key for found in place.bucket.list_objects_v2().object_list]


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("https://oss-ap-southeast-1-internal.aliyuncs.com:443/", "ap-southeast-1"),
        ("weights.oss-us-west-1.aliyuncs.com", "us-west-1"),
        ("cn-hangzhou.oss.aliyuncs.com", "cn-hangzhou"),
        ("vpc100-oss-cn-beijing.aliyuncs.com", "cn-beijing"),
        ("ep-abc.oss.cn-beijing.privatelink.aliyuncs.com", "cn-beijing"),
        ("oss-accelerate.aliyuncs.com", ""),
        ("oss-accelerate-overseas.aliyuncs.com", ""),
        ("oss.aliyuncs.com", ""),
        ("http://oss-cn-beijing-internal.aliyuncs.com/", "cn-beijing"),
        ("S3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("b.s3.oss-cn-hangzhou-internal.aliyuncs.com", "cn-hangzhou"),
        ("b.cn-hangzhou.oss.aliyuncs.com", "cn-hangzhou"),
        ("cn-beijing-internal.oss-data-acc.aliyuncs.com", "cn-beijing"),
        ("a.oss-cn-hangzhou.oss-accesspoint.aliyuncs.com", "cn-hangzhou"),
        ("oss-cn-hzfinance.aliyuncs.com", "cn-hangzhou-finance"),
        ("oss-cn-hzjbp-a-internal.aliyuncs.com", "cn-hangzhou-finance"),
        ("oss-cn-szfinance-internal.aliyuncs.com", "cn-shenzhen-finance-1"),
        ("oss-cn-shanghai-finance-1-pub.aliyuncs.com", "cn-shanghai-finance-1"),
        ("oss-cn-north-2-gov-1-internal.aliyuncs.com", "cn-north-2-gov-1"),
        ("b.oss-accelerate.aliyuncs.com", ""),
        ("evil-oss-cn-hangzhou.aliyuncs.com", ""),
        ("oss-rg-china-mainland.aliyuncs.com", ""),
        ("weights.example.com", ""),
        ("oss-cn-hangzhou.aliyuncs.com.example.com", ""),
    ],
)
def test_a_region_is_read_where_it_is(host: str, region: str) -> None:
    assert region_of(host) == region


@pytest.mark.parametrize(
    "given",
    [
        "cn-beijing",
        " oss-cn-beijing",
        "cn-beijing-internal",
        "oss-cn-beijing-internal",
        "CN_Beijing",
        "cn-beijing-h",
        "oss-cn-beijing.aliyuncs.com",
        "https://cn-beijing.oss.aliyuncs.com/",
    ],
)
def test_a_region_is_corrected(given: str) -> None:
    assert Settings(oss_region=given).oss_region == "cn-beijing"


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("beijing", "cn-beijing"),
        ("hangzhou-internal", "cn-hangzhou"),
        ("singapore", "ap-southeast-1"),
        ("oss-accelerate", "cn-hangzhou"),
    ],
)
def test_what_is_no_region_is_refused(given: str, right: str) -> None:
    with pytest.raises(SettingsError, match="oss_region") as caught:
        Settings(oss_region=given)
    assert right in caught.value.why


def test_signatures_are_v4_unless_v1_is_asked_for() -> None:
    with pytest.raises(InvalidValue, match="oss_region") as caught:
        open_bucket("oss-accelerate.aliyuncs.com", BUCKET, credentials())
    assert "new accounts" in caught.value.why
    assert "OSS_REGION" in caught.value.fix
    old = open_bucket("oss-cn-hangzhou.aliyuncs.com", BUCKET, credentials(), signature="v1")
    new = open_bucket("weights.example.com", BUCKET, credentials(), region="cn-x", cname=True)
    assert type(old.auth).__name__ == "ProviderAuth"
    assert type(new.auth).__name__ == "ProviderAuthV4"
    inner = open_bucket("oss-cn-x-internal.aliyuncs.com", BUCKET, credentials(), cname=True)
    assert new._make_url(BUCKET, "a/b") == "https://weights.example.com/a%2Fb"
    assert inner._make_url(BUCKET, "a").startswith("https://weights.oss-cn-x-internal.")


@pytest.mark.parametrize(
    ("public", "internal"),
    [
        ("https://oss-cn-hangzhou.aliyuncs.com/", "oss-cn-hangzhou-internal.aliyuncs.com"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "oss-cn-hangzhou-internal.aliyuncs.com"),
        ("oss-cn-hzfinance.aliyuncs.com", "oss-cn-hzfinance-internal.aliyuncs.com"),
        ("cn-hangzhou.oss.aliyuncs.com", "cn-hangzhou-internal.oss.aliyuncs.com"),
        ("oss-accelerate.aliyuncs.com", "oss-REGION-internal.aliyuncs.com"),
        ("http://127.0.0.1:80", "oss-REGION-internal.aliyuncs.com"),
    ],
)
def test_the_endpoint_for_nodes(public: str, internal: str) -> None:
    assert internal_of(public) == internal


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("weights.oss-cn-x.aliyuncs.com", "weights.oss-cn-x.aliyuncs.com"),
        ("http://weights.s3.oss-cn-x.aliyuncs.com/", "weights.oss-cn-x.aliyuncs.com"),
        ("cn-x.oss.aliyuncs.com", "weights.cn-x.oss.aliyuncs.com"),
        ("weights.example.com", "weights.weights.example.com"),
    ],
)
def test_a_bucket_in_the_endpoint_is_named_once(given: str, host: str) -> None:
    bucket = open_bucket(given, BUCKET, credentials(), region="cn-x")
    assert bucket._make_url(BUCKET, "a").split("/")[2] == host


def test_preflight_leaves_nothing(place: World) -> None:
    check(place.bucket, "m")
    assert keys(place) == []
    assert [request.method for request in place.faults.seen[:4]] == ["GET", "PUT", "GET", "DELETE"]


@pytest.mark.parametrize(
    ("method", "code", "fix"),
    [
        ("PUT", "PublicEndpointForbidden", "oss_cname=true"),
        ("GET", "PublicEndpointForbidden", "-internal"),
        ("GET", "InvalidObjectState", "restore"),
    ],
)
def test_preflight_finds_what_refuses_data(place: World, method: str, code: str, fix: str) -> None:
    place.faults.add(
        lambda request: request.method == method and "qwenkit-check" in request.path,
        refuse(403, code),
    )
    with pytest.raises(Forbidden, match=r"\.qwenkit-check") as caught:
        check(place.bucket, "m")
    assert fix in caught.value.fix
    assert keys(place) == []


def denied(request: web.Request) -> bool:
    return "bucketInfo" in request.query or request.method == "PUT"


def test_preflight_tells_a_key_that_only_reads_from_a_wrong_one(place: World) -> None:
    place.faults.add(denied, refuse(403, "AccessDenied", "You have no right to access this object"))
    status = check(place.bucket, "m")
    assert "may read but not write" in status.read_only
    assert "enough to serve" in status.fix
    assert "PutObject" in status.fix
    with pytest.raises(Forbidden, match="refused") as caught:
        check(open_bucket(place.url, BUCKET, credentials("nobody"), region="cn-hangzhou"), "m")
    assert "OSS_ACCESS_KEY_ID" in caught.value.fix
    place.faults.add(lambda request: request.method == "GET", refuse(403, "AccessDenied"))
    with pytest.raises(Forbidden, match="read oss://") as neither:
        check(place.bucket, "m")
    assert "GetObject" in neither.value.fix


def test_preflight_needs_no_right_to_the_bucket_itself(place: World) -> None:
    place.faults.add(lambda request: "bucketInfo" in request.query, refuse(403, "AccessDenied"))
    status = check(place.bucket, "m")
    assert (status.read_only, status.region, keys(place)) == ("", "cn-hangzhou", [])


def test_a_bucket_that_archives_at_once_is_refused(place: World) -> None:
    async def archive(request: web.Request, handler: Any) -> web.StreamResponse:
        answer = await handler(request)
        return web.Response(body=answer.body.replace(b">Standard<", b">ColdArchive<"))

    place.faults.add(lambda request: "bucketInfo" in request.query, archive)
    with pytest.raises(Rejected, match="class ColdArchive") as caught:
        check(place.bucket, "m")
    assert "Standard" in caught.value.fix


def test_preflight_says_what_it_could_not_delete(place: World) -> None:
    place.faults.add(lambda request: request.method == "DELETE", refuse(403, "AccessDenied"))
    with pytest.raises(Forbidden, match=r"delete oss://weights/m/\.qwenkit-check.* of 7 bytes"):
        check(place.bucket, "m")


def test_what_downloads_leave_stays_behind(place: World, tmp_path: Path, caplog: Any) -> None:
    begun = ["._____temp/w", "w.incomplete", "w.aria2"]
    rest = [".cache/huggingface/w.lock", ".git/x", "d/.DS_Store", "d/._a", "__pycache__/a.pyc"]
    kept = [".gitattributes", "config.json", "d/a", "model.part1.bin"]
    write(tmp_path / "model", dict.fromkeys([*begun, *rest, *kept], b"x"))
    with caplog.at_level(logging.WARNING, "qwenkit.weights"):
        found = open_source(str(tmp_path / "model")).listing()
    assert [file.path for file in found.files] == kept
    said = "\n".join(caplog.messages)
    assert said.count("a download that did not end") == len(begun)
    assert said.count("no part of a model") == len(rest)
    assert all(name.split("/")[0] in said for name in (*begun, *rest))


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["model-00001-of-000163.safetensors"], "model-00002-of-000163.safetensors"),
        ([f"model-{n}-of-61.safetensors" for n in range(1, 61)], "model-61-of-61.safetensors"),
        ([f"m-{n:02}-of-12.bin" for n in range(1, 12)], "m-12-of-12.bin"),
        (["a/q-00002-of-00002.gguf"], "a/q-00001-of-00002.gguf"),
        (["m-00000-of-00002.safetensors"], "m-00001-of-00002.safetensors"),
    ],
)
def test_a_missing_shard_is_found(
    place: World, tmp_path: Path, names: list[str], missing: str
) -> None:
    write(tmp_path / "model", dict.fromkeys(names, b"x"))
    with pytest.raises(Rejected, match=f"{missing} is missing"):
        upload(str(tmp_path / "model"), place.bucket, "m", run="t", state_dir=place.state)


@pytest.mark.parametrize("last", ["", "m-00002-of-00002.bin"])
def test_numbers_may_begin_at_zero(place: World, tmp_path: Path, last: str) -> None:
    names = ["m-00000-of-00002.bin", "m-00001-of-00002.bin", last]
    write(tmp_path / "model", dict.fromkeys(filter(None, names), b"x"))
    upload(str(tmp_path / "model"), place.bucket, "m", run="t", state_dir=place.state)


@pytest.mark.parametrize("name", ["bin.index.json", "bin.index.fp16.json"])
def test_an_index_of_bin_files_is_read(place: World, tmp_path: Path, name: str) -> None:
    index = b'{"weight_map": {"a": "pytorch_model-1.bin"}}'
    write(tmp_path / "model", {f"pytorch_model.{name}": index})
    with pytest.raises(Rejected, match=r"pytorch_model-1\.bin is missing"):
        upload(str(tmp_path / "model"), place.bucket, "m", run="t", state_dir=place.state)


def busy(headers: dict[str, str], times: int, served: list[str]) -> web.Application:
    """Answer 429 so many times, then a listing and a file."""

    async def answer(request: web.Request) -> web.Response:
        served.append(request.path)
        if len(served) <= times:
            return web.Response(status=429, headers=headers)
        if request.path.endswith("/files"):
            data = {"Success": True, "Data": {"Files": [{"Path": "w", "Size": 1, "Type": "blob"}]}}
            return web.json_response(data)
        return web.Response(body=b"w")

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    return app


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "56"},
        {"Retry-After": "GMT"},
        {"RateLimit": '"default";r=0;t=56'},
    ],
)
def test_a_hub_gets_the_pause_that_it_asks_for(
    place: World, caplog: Any, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    if "GMT" in str(headers):  # tests are collected long before they run
        headers = {"Retry-After": formatdate(time.time() + 56.5, usegmt=True)}
    served: list[str] = []
    waits: list[float] = []
    monkeypatch.setattr("qwenkit.weights.retry.Stop.wait", lambda _, seconds: waits.append(seconds))
    url = place.servers.serve(busy(headers, 1, served))
    source = open_source("modelscope:a/b", modelscope_endpoint=f"{url}/mirror/")
    with caplog.at_level(logging.WARNING, "qwenkit.weights"):
        upload(source, place.bucket, "m", run="t", state_dir=place.state, options=OPTIONS)
    assert place.stored("m/w") == b"w"
    assert 50 < max(waits) <= 56.5
    assert re.search(r"cannot answer now; waiting 5\d s, as it asks", caplog.text)


def test_a_hub_that_asks_for_a_day_is_left(place: World) -> None:
    served: list[str] = []
    url = place.servers.serve(busy({"Retry-After": "86400"}, 99, served))
    with pytest.raises(Unreachable, match="cannot answer now") as caught:
        open_source("modelscope:a/b", modelscope_endpoint=url).listing()
    assert (len(served), caught.value.fix) == (1, "repeat in 86400 s")


def test_the_path_of_a_mirror_is_kept(place: World) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if "/revision/" in request.path:
            return web.json_response({"sha": "c0ffee"})
        more = request.query.get("cursor")
        link = {} if more else {"Link": f'<{request.url}&cursor=1>; rel="next"'}
        return web.json_response([{"type": "file", "path": more or "a", "size": 1}], headers=link)

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    endpoint = Settings(hf_endpoint=f"{place.servers.serve(app)}/company/hf/").hf_endpoint
    files = open_source("hf:a/b", hf_endpoint=endpoint).listing().files
    assert files == (SourceFile("1", 1), SourceFile("a", 1))
    assert {path[: len("/company/hf/api/models/a/b/")] for path in asked} == {
        "/company/hf/api/models/a/b/"
    }


def test_who_asks_no_hub_does_not_look_at_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "not an address?x=1")
    with pytest.raises(InvalidValue, match="hf_endpoint"):
        open_source("hf:a/b", hf_endpoint=Settings().hf_endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_4711\n")
    assert open_source("modelscope:a/b", modelscope_endpoint=Settings().modelscope_endpoint)

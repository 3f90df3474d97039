"""The hub over a folder: both APIs, and the habits of ModelScope that break careless clients."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from oss_world import listening, raw

from qwenkit.sandbox.hub.server import HubServer

MODEL = "qwen/Qwen-7B-Chat-Int8"
WEIGHTS = bytes(range(256)) * 40
TEXT = b'{"a": 1}\n'
API = f"/api/v1/models/{MODEL}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hub" / MODEL
    (folder / "assets" / "more").mkdir(parents=True)
    (folder / "config.json").write_bytes(TEXT)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "assets" / "a b+c.txt").write_bytes("西湖".encode())
    (folder / "assets" / "more" / "empty").write_bytes(b"")
    return folder


@pytest.fixture
def url(tmp_path: Path, folder: Path) -> Iterator[str]:
    with listening(HubServer(tmp_path / "hub").app()) as url:
        yield url


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listing(session: requests.Session, url: str, **params: str) -> list[dict[str, Any]]:
    answer = session.get(f"{url}{API}/repo/files", params=params, timeout=60)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["Code"], body["Success"]) == (200, True)
    return list(body["Data"]["Files"])


def test_modelscope_listing(session: requests.Session, url: str) -> None:
    files = listing(session, url, Revision="master", Recursive="True")
    facts = {item["Path"]: (item["Type"], item["Size"], item["Sha256"]) for item in files}
    assert facts == {
        "assets": ("tree", 0, ""),
        "assets/a b+c.txt": ("blob", 6, sha256("西湖".encode())),
        "assets/more": ("tree", 0, ""),
        "assets/more/empty": ("blob", 0, sha256(b"")),
        "config.json": ("blob", len(TEXT), sha256(TEXT)),
        "model.safetensors": ("blob", len(WEIGHTS), sha256(WEIGHTS)),
    }
    assert [item["Name"] for item in files if item["Path"] == "assets/more/empty"] == ["empty"]


def test_modelscope_listing_of_one_folder(session: requests.Session, url: str) -> None:
    flat = [item["Path"] for item in listing(session, url, Recursive="False")]
    assert flat == ["assets", "config.json", "model.safetensors"]
    below = [item["Path"] for item in listing(session, url, Root="assets")]
    assert below == ["assets/a b+c.txt", "assets/more"]
    deep = [item["Path"] for item in listing(session, url, Root="assets", Recursive="True")]
    assert deep == [*below, "assets/more/empty"]
    assert listing(session, url, Root="../..") == []


def test_modelscope_listing_ends_silently(
    session: requests.Session, url: str, folder: Path
) -> None:
    for number in range(3100):
        (folder / "assets" / f"{number:04}").touch()
    files = listing(session, url, Recursive="True", PageNumber="2", PageSize="10")
    assert len(files) == 3000
    assert "model.safetensors" not in {item["Path"] for item in files}


@pytest.mark.parametrize("path", ["config.json", "model.safetensors", "assets/a b+c.txt"])
def test_modelscope_download(session: requests.Session, url: str, folder: Path, path: str) -> None:
    params = {"Revision": "master", "FilePath": path}
    for answer in (
        session.get(f"{url}{API}/repo", params=params, timeout=60),
        session.get(f"{url}/models/{MODEL}/resolve/master/{path}", timeout=60),
    ):
        assert answer.status_code == 200
        assert answer.content == (folder / path).read_bytes()
        assert "Content-Range" not in answer.headers
    linked = session.get(f"{url}{API}/repo", params={"FilePath": "model.safetensors"}, timeout=60)
    assert linked.headers["X-Linked-ETag"] == sha256(WEIGHTS)


@pytest.mark.parametrize(
    ("range_", "start", "end"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=10-", 10, 10239),
        ("bytes=-5", 10235, 10239),
        ("bytes=10000-20000", 10000, 10239),
        ("bytes=0-0", 0, 0),
    ],
)
def test_modelscope_answers_a_range_with_200(
    session: requests.Session, url: str, range_: str, start: int, end: int
) -> None:
    params = {"FilePath": "model.safetensors"}
    answer = session.get(f"{url}{API}/repo", params=params, headers={"Range": range_}, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{len(WEIGHTS)}"
    assert answer.content == WEIGHTS[start : end + 1]


@pytest.mark.parametrize("path", ["model.safetensors", "assets/more/empty"])
def test_a_range_behind_the_end_tells_the_size(
    session: requests.Session, url: str, folder: Path, path: str
) -> None:
    size = (folder / path).stat().st_size
    headers = {"Range": f"bytes={size}-"}
    for target in (f"{API}/repo?FilePath={path}", f"/{MODEL}/resolve/main/{path}"):
        answer = session.get(url + target, headers=headers, timeout=60)
        assert (answer.status_code, answer.content) == (416, b"")
        assert answer.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("/api/v1/models/qwen/absent/repo/files", "qwen/absent"),
        ("/api/v1/models/qwen/absent/repo?FilePath=x", "qwen/absent"),
        ("/api/v1/models/qwen/absent/revisions", "qwen/absent"),
        ("/api/v1/models/%2e%2e/hub/repo/files", "../hub"),
        (f"{API}/repo/files?Revision=v9", "v9"),
        (f"{API}/repo?FilePath=absent", "absent"),
        (f"{API}/repo?FilePath=assets", "assets"),
        (f"{API}/repo?FilePath=../Qwen-7B-Chat-Int8/config.json", "config.json"),
        (f"{API}/repo?FilePath=/etc/passwd", "/etc/passwd"),
        (f"{API}/repo", "file"),
    ],
)
def test_modelscope_says_what_is_missing(url: str, target: str, missing: str) -> None:
    status, _, body = raw("GET", url, target)
    assert status == 404
    envelope = requests.compat.json.loads(body)
    assert (envelope["Code"], envelope["Success"], envelope["Data"]) == (404, False, None)
    assert missing in envelope["Message"]


def test_the_commit_changes_when_a_file_does(
    session: requests.Session, url: str, folder: Path
) -> None:
    def commit() -> str:
        return str(session.get(f"{url}/api/models/{MODEL}", timeout=60).json()["sha"])

    first = commit()
    assert len(first) == 40
    assert {item["Revision"] for item in listing(session, url)} == {first}
    os.utime(folder / "config.json", (1, 1))
    assert commit() == first
    (folder / "config.json").write_bytes(TEXT.replace(b"1", b"2"))
    second = commit()
    assert second != first
    # Only a revision that is there can be named.
    assert session.get(f"{url}/{MODEL}/resolve/{second}/config.json", timeout=60).ok
    assert session.get(f"{url}/{MODEL}/resolve/{first}/config.json", timeout=60).status_code == 404


def test_other_revisions_are_folders(session: requests.Session, url: str, folder: Path) -> None:
    other = folder.with_name("Qwen-7B-Chat-Int8@v1.1.4")
    other.mkdir()
    (other / "config.json").write_bytes(b"old")
    params = {"Revision": "v1.1.4", "FilePath": "config.json"}
    assert session.get(f"{url}{API}/repo", params=params, timeout=60).content == b"old"
    revisions = session.get(f"{url}{API}/revisions", timeout=60).json()["Data"]["RevisionMap"]
    assert [item["Revision"] for item in revisions["Branches"]] == ["master", "v1.1.4"]
    (entry,) = listing(session, url, Revision="v1.1.4")
    answer = session.get(f"{url}/{MODEL}/resolve/{entry['Revision']}/config.json", timeout=60)
    assert answer.content == b"old"
    assert answer.headers["X-Repo-Commit"] == entry["Revision"]


def test_huggingface_tree(session: requests.Session, url: str) -> None:
    tree = session.get(
        f"{url}/api/models/{MODEL}/tree/main", params={"recursive": "true"}, timeout=60
    ).json()
    facts = {item["path"]: item for item in tree}
    assert facts["assets/more"]["type"] == "directory"
    config = facts["config.json"]
    blob = hashlib.sha1(b"blob %d\0" % len(TEXT) + TEXT).hexdigest()
    assert (config["type"], config["size"], config["oid"]) == ("file", len(TEXT), blob)
    assert "lfs" not in config
    lfs = facts["model.safetensors"]["lfs"]
    assert (lfs["oid"], lfs["size"]) == (sha256(WEIGHTS), len(WEIGHTS))
    flat = session.get(f"{url}/api/models/{MODEL}/tree/main/assets", timeout=60).json()
    assert [item["path"] for item in flat] == ["assets/a b+c.txt", "assets/more"]


def test_huggingface_download(session: requests.Session, url: str) -> None:
    target = f"{url}/{MODEL}/resolve/main/model.safetensors"
    commit = session.get(f"{url}/api/models/{MODEL}/revision/main", timeout=60).json()["sha"]
    head = session.head(target, timeout=60)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(WEIGHTS)))
    answer = session.get(target, headers={"Range": "bytes=5-9"}, timeout=60)
    assert (answer.status_code, answer.content) == (206, WEIGHTS[5:10])
    for headers in (head.headers, answer.headers):
        assert headers["X-Linked-Etag"] == f'"{sha256(WEIGHTS)}"'
        assert headers["X-Linked-Size"] == str(len(WEIGHTS))
        assert headers["X-Repo-Commit"] == commit


def test_huggingface_says_what_is_missing(session: requests.Session, url: str) -> None:
    for target, code in (
        ("/api/models/qwen/absent/tree/main", "RepoNotFound"),
        (f"/{MODEL}/resolve/main/absent", "EntryNotFound"),
        (f"/{MODEL}/resolve/main/..%2Fconfig.json", "EntryNotFound"),
    ):
        answer = session.get(url + target, timeout=60)
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, code)


def test_a_client_that_leaves_is_no_error(
    url: str, folder: Path, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "large.bin").write_bytes(bytes(8 << 20))
    listing(session, url)
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        target = f"/{MODEL}/resolve/main/large.bin"
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert connection.recv(1000)
    # The server has noticed by the time it has sent the file to somebody else.
    assert len(session.get(f"{url}/{MODEL}/resolve/main/large.bin", timeout=60).content) == 8 << 20
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_hub_without_models(session: requests.Session, tmp_path: Path) -> None:
    with listening(HubServer(tmp_path / "absent").app()) as url:
        unknown = f"{url}/api/v1/models/qwen/Qwen-9/repo/files"
        assert session.get(unknown, timeout=60).status_code == 404


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "any/Qwen2.5-7B-Instruct-AWQ"])
def test_a_public_model_has_a_stand_in(
    session: requests.Session, tmp_path: Path, name: str
) -> None:
    with listening(HubServer(tmp_path / "absent").app()) as url:
        listed = session.get(f"{url}/api/v1/models/{name}/repo/files", timeout=60).json()
        tree = session.get(f"{url}/api/models/{name}/tree/main", timeout=60).json()
        config = session.get(f"{url}/{name}/resolve/main/config.json", timeout=60).content
        part = session.get(
            f"{url}/models/{name}/resolve/master/config.json",
            headers={"Range": "bytes=2-9"},
            timeout=60,
        )
    files = {one["Path"]: one for one in listed["Data"]["Files"]}
    assert set(files) == {one["path"] for one in tree}
    assert files["config.json"]["Sha256"] == sha256(config)
    assert json.loads(config)["stands_for"] == name.partition("/")[2]
    assert part.content == config[2:10]
    assert sum(one["Size"] for one in files.values()) < 4e6

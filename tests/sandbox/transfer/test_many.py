"""Thousands of small files, and every name that a key can hold, through a server of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oss2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transfer_world import BUCKET, KEYS, credentials, world

from qwenkit.errors import Rejected
from qwenkit.weights.hub.listing import MANIFEST_NAME, Listing, SourceFile, listed
from qwenkit.weights.integrity import verify
from qwenkit.weights.oss.bucket import list_objects, open_bucket
from qwenkit.weights.transfer import upload

MANY = [1_500, pytest.param(10_000, marks=pytest.mark.long)]


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[oss2.Bucket]:
    """Run the server in a process of its own: two cores do the work that one would queue for."""
    ((identity, secret),) = KEYS.items()
    command = [sys.executable, "-m", "qwenkit", "sandbox", "oss", "--port", "0"]
    command += ["--root", str(tmp_path / "oss"), "--bucket", BUCKET]
    keys = {"OSS_ACCESS_KEY_ID": identity, "OSS_ACCESS_KEY_SECRET": secret}
    with subprocess.Popen(
        command, env=os.environ | keys, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout
        found = None
        while found is None:
            line = server.stdout.readline()
            assert line, "the server ended"
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
        opened = open_bucket(found[0], BUCKET, credentials(), region="cn-hangzhou")
        yield opened
        opened.session.session.close()
        server.terminate()


@pytest.mark.parametrize("many", MANY)
def test_thousands_of_small_files(
    bucket: oss2.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    requests: Counter[str] = Counter()
    send = bucket._do

    def counted(method: str, *arguments: Any, **more: Any) -> Any:
        requests[method] += 1
        return send(method, *arguments, **more)

    monkeypatch.setattr(bucket, "_do", counted)
    for number in range(many):
        path = tmp_path / "model" / f"d{number % 40}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    state = tmp_path / "state"
    first = upload(str(tmp_path / "model"), bucket, "m", run="test", state_dir=state)
    assert {f.action for f in first.files} == {"uploaded"}
    assert requests.pop("PUT") == many + 1
    assert list(state.rglob("*.json")) == []
    assert sum(requests.values()) < 50

    requests.clear()
    again = upload(str(tmp_path / "model"), bucket, "m", run="test", state_dir=state)
    assert {f.action for f in again.files} == {"skipped"}
    assert again.bytes_skipped == first.bytes_sent
    assert set(requests) == {"GET"}
    assert sum(requests.values()) < 50

    (tmp_path / "oss" / BUCKET / "m/d1/1.txt").write_bytes(b"x")
    third = upload(str(tmp_path / "model"), bucket, "m", run="test", state_dir=state)
    assert [f.key for f in third.files if f.action == "uploaded"] == ["m/d1/1.txt"]
    assert bucket.get_object("m/d1/1.txt").read() == b"1"


class Invented:
    """A source whose paths no file system has to hold."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def listing(self) -> Listing:
        files = (SourceFile(path, len(data)) for path, data in self._files.items())
        return Listing("invented", "r1", listed("invented", files))

    def open(self, file: SourceFile, offset: int = 0) -> Any:
        import io

        return io.BytesIO(self._files[file.path][offset:])


SEGMENT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1),
    st.sampled_from(
        ["a", "a b", "%2F", "..", "a%20+b", "\\", "杭州", "e\u0301", "é", "x" * 300, "~"]
    ),
)
PATHS = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with world(tmp_path_factory.mktemp("names")) as found:
        yield found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(paths=st.sets(PATHS, min_size=1, max_size=5))
@example({"a", "a/b", "a/b/c"})
@example({"/lead"})
@example({"a/../b"})
@example({"%2F", "a%2Fb", "a/b", "a b", "a+b", "\\a", "a\\b"})
@example({"/".join(["y" * 240] * 4) + "/" + "z" * 26})
@example({"/".join(["y" * 240] * 4) + "/" + "z" * 27})
def test_any_path_arrives_or_is_refused(place: Any, paths: set[str]) -> None:
    name = uuid.uuid4().hex
    files = {path: f"content of {path}".encode() for path in paths}
    state = place.state
    bad = any(part in ("", ".", "..") for path in paths for part in path.split("/"))
    long = any(len(f"{name}/{path}".encode()) > 1023 for path in paths)
    if bad or long:
        with pytest.raises(Rejected):
            upload(Invented(files), place.bucket, name, run="test", state_dir=state)
        assert list(list_objects(place.bucket, f"{name}/")) == []
        return
    files.pop(MANIFEST_NAME, None)
    upload(Invented(files), place.bucket, name, run="test", state_dir=state)
    for path, data in files.items():
        assert place.stored(f"{name}/{path}") == data
    assert verify(place.bucket, name).ok
    assert verify(place.bucket, name).extra == ()
    assert place.orphans() == []

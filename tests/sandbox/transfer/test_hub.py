"""From a hub to the bucket, with everything a hub does wrong on the way."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from transfer_world import OPTIONS, PART, Faults, Handler, World, proven, resumable, world, write

from qwenkit.errors import NotFound, TransferError, Unreachable
from qwenkit.sandbox.hub.server import HubServer
from qwenkit.weights.hub.listing import Repository
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.report import UploadReport
from qwenkit.weights.transfer import upload

MODEL = "qwen/Tiny"
SIZE = 9 * PART + 1234
FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "model.bin": random.Random(8).randbytes(SIZE),
    "a b/ü%2F.txt": b"text",
    "none": b"",
}
SOURCES = [f"modelscope:{MODEL}", f"hf:{MODEL}"]


class Hub:
    def __init__(self, place: World, folder: Path) -> None:
        write(folder / MODEL, FILES)
        self.faults = Faults()
        self.url = place.servers.serve(self.faults.install(HubServer(folder).app()))

    def open(self, source: str) -> Repository:
        return open_source(source, modelscope_endpoint=self.url, hf_endpoint=self.url)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


@pytest.fixture
def hub(place: World, tmp_path: Path) -> Hub:
    return Hub(place, tmp_path / "hub")


def send(place: World, source: Repository, **more: Any) -> UploadReport:
    arguments = {"run": "test", "state_dir": place.state, "options": OPTIONS} | more
    return upload(source, place.bucket, "m", **arguments)


def is_weights(request: web.Request) -> bool:
    return "model.bin" in str(request.rel_url)


@pytest.mark.parametrize("source", SOURCES)
def test_a_hub_to_the_bucket_and_again(place: World, hub: Hub, source: str) -> None:
    report = send(place, hub.open(source))
    proven(place, FILES)
    hashes = {f.key: f.sha256 for f in report.files}
    assert hashes["m/model.bin"] == hashlib.sha256(FILES["model.bin"]).hexdigest()
    hub.faults.seen.clear()
    again = send(place, hub.open(source))
    assert (again.bytes_sent, {f.action for f in again.files}) == (0, {"skipped"})
    assert not any(map(is_weights, hub.faults.seen))


@pytest.mark.parametrize("source", SOURCES)
def test_a_missing_model_is_named(hub: Hub, source: str) -> None:
    with pytest.raises(NotFound, match="the hub does not have it"):
        hub.open(source.replace("Tiny", "Absent")).listing()


def broken_after(count: int) -> Any:
    """End the connection after ``count`` bytes of the answer."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        response = web.StreamResponse(status=200)
        response.content_length = SIZE - start
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{SIZE - 1}/{SIZE}"
        await response.prepare(request)
        await response.write(FILES["model.bin"][start : start + count])
        assert request.transport
        request.transport.abort()
        raise ConnectionResetError

    return fault


@pytest.mark.parametrize("source", SOURCES)
def test_a_broken_stream_resumes_at_its_position(place: World, hub: Hub, source: str) -> None:
    hub.faults.add(is_weights, broken_after(2 * PART + 5), times=3)
    report = send(place, hub.open(source))
    assert report.retries == 3
    proven(place, FILES)
    ranges = [r.headers.get("Range") for r in hub.faults.seen if is_weights(r)]
    assert ranges[0] is None
    assert all(later is not None for later in ranges[1:])


async def shorter(request: web.Request, _handler: Handler) -> web.StreamResponse:
    return web.Response(body=FILES["model.bin"][: SIZE - PART])


async def empty(request: web.Request, _handler: Handler) -> web.StreamResponse:
    return web.Response(body=b"")


async def other_range(request: web.Request, _handler: Handler) -> web.StreamResponse:
    headers = {"Content-Range": f"bytes 1-{SIZE - 1}/{SIZE}"}
    return web.Response(body=FILES["model.bin"][1:], headers=headers)


async def partial_without_range(request: web.Request, _handler: Handler) -> web.StreamResponse:
    return web.Response(status=206, body=FILES["model.bin"])


async def longer_file(request: web.Request, _handler: Handler) -> web.StreamResponse:
    headers = {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE + 1}"}
    return web.Response(body=FILES["model.bin"], headers=headers)


async def chunked_and_short(request: web.Request, _handler: Handler) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(FILES["model.bin"][:PART])
    await response.write_eof()
    return response


WRONG = [shorter, empty, other_range, partial_without_range, longer_file, chunked_and_short]


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_answers_are_refused_and_resumed(place: World, hub: Hub, fault: Any) -> None:
    hub.faults.add(is_weights, fault)
    with pytest.raises(TransferError) as caught:
        send(place, hub.open(SOURCES[0]))
    assert "model.bin" in str(caught.value)
    resumable(place, caught.value)
    hub.faults.rules.clear()
    send(place, hub.open(SOURCES[0]))
    proven(place, FILES)


@pytest.mark.parametrize("fault", WRONG)
def test_one_wrong_answer_is_asked_again(place: World, hub: Hub, fault: Any) -> None:
    hub.faults.add(is_weights, fault, times=1)
    send(place, hub.open(SOURCES[0]))
    proven(place, FILES)


async def stall(request: web.Request, _handler: Handler) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = SIZE
    await response.prepare(request)
    await response.write(FILES["model.bin"][:PART])
    await asyncio.Event().wait()
    raise AssertionError


def test_a_hub_that_stalls_is_left_and_asked_again(
    place: World, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwenkit.weights.hub.http_stream.TIMEOUT_S", (5.0, 0.5))
    hub.faults.add(is_weights, stall, times=1)
    report = send(place, hub.open(SOURCES[0]))
    assert report.retries == 1
    proven(place, FILES)


async def ignore_range(request: web.Request, _handler: Handler) -> web.StreamResponse:
    return web.Response(body=FILES["model.bin"])


def test_a_hub_that_ignores_ranges_costs_bytes_only(place: World, hub: Hub) -> None:
    hub.faults.add(is_weights, broken_after(3 * PART), times=1)
    hub.faults.add(is_weights, ignore_range)
    send(place, hub.open(SOURCES[0]))
    proven(place, FILES)


async def other_bytes(request: web.Request, _handler: Handler) -> web.StreamResponse:
    return web.Response(body=b"\0" * SIZE)


def test_bytes_that_are_not_those_listed_never_become_an_object(place: World, hub: Hub) -> None:
    hub.faults.add(is_weights, other_bytes)
    with pytest.raises(TransferError, match="sha256"):
        send(place, hub.open(SOURCES[0]))
    assert not place.bucket.object_exists("m/model.bin")
    assert place.orphans() == []
    hub.faults.rules.clear()
    hub.faults.add(is_weights, other_bytes, times=1)
    place.faults.bodies.clear()
    report = send(place, hub.open(SOURCES[0]))
    # Nothing of a file whose hash is wrong can be kept.
    assert report.retries == 1
    assert report.bytes_sent >= 2 * SIZE
    assert report.bytes_sent + report.bytes_skipped == SIZE + sum(map(len, FILES.values()))
    proven(place, FILES, again=10)


def test_a_hub_that_fails_says_so(place: World, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(request: web.Request, _handler: Handler) -> web.StreamResponse:
        return web.Response(status=503)

    hub.faults.add(lambda r: True, busy)
    repository = hub.open(SOURCES[0])
    monkeypatch.setattr("qwenkit.weights.retry.random.uniform", lambda *_: 0.0)
    with pytest.raises(Unreachable, match="cannot answer now"):
        repository.listing()


def test_a_new_revision_of_the_hub_is_another_revision(
    place: World, hub: Hub, tmp_path: Path
) -> None:
    first = send(place, hub.open(SOURCES[0]))
    (tmp_path / "hub" / MODEL / "config.json").write_bytes(b"{}")
    listing = hub.open(SOURCES[0]).listing()
    assert listing.revision != first.revision

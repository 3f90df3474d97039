"""HTTP towards hubs: tokens that stay, redirects, pages, and listings that end silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from aiohttp import web
from servers import Servers

from qwenkit.errors import Forbidden, NotFound, Rejected, TransferError, Unreachable
from qwenkit.loopback import is_loopback
from qwenkit.weights.hub.http_stream import HubSession
from qwenkit.weights.hub.listing import Repository, SourceFile
from qwenkit.weights.hub.repository import open_source

Serve = Callable[[web.Application], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = Servers()
    yield servers.serve
    servers.close()


def app(routes: dict[str, Any]) -> web.Application:
    application = web.Application()
    for path, handler in routes.items():
        application.router.add_get(path, handler)
    return application


def read(repository: Repository, file: SourceFile, offset: int = 0) -> bytes:
    buffer, filled = memoryview(bytearray(file.size)), 0
    with repository.open(file, offset) as stream:
        while count := stream.readinto(buffer[filled:]) or 0:
            filled += count
    return bytes(buffer[:filled])


def test_a_token_goes_to_the_hub_and_not_where_it_sends_us(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str | None] = {}

    async def cdn(request: web.Request) -> web.Response:
        seen["cdn"] = request.headers.get("Authorization")
        return web.Response(body=b"weights")

    elsewhere = serve(app({"/blob": cdn}))

    async def hub(request: web.Request) -> web.Response:
        seen["hub"] = request.headers.get("Authorization")
        seen["encoding"] = request.headers.get("Accept-Encoding")
        raise web.HTTPFound(f"{elsewhere}/blob?Signature=secret")

    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "token-4711")
    repository = open_source(
        "modelscope:a/b", modelscope_endpoint=serve(app({"/api/v1/models/a/b/repo": hub}))
    )
    assert read(repository, SourceFile("w", 7)) == b"weights"
    assert seen == {"hub": "Bearer token-4711", "cdn": None, "encoding": "identity"}


@pytest.mark.parametrize(("status", "kind"), [(401, Forbidden), (403, Forbidden), (404, NotFound)])
def test_refusals_name_the_variable_and_no_secret(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status)

    monkeypatch.setenv("HF_TOKEN", "token-4711")
    url = serve(app({"/{rest:.*}": refuse}))
    with pytest.raises(kind) as caught:
        open_source("hf:a/b", hf_endpoint=url).listing()
    assert "4711" not in str(caught.value)
    assert ("HF_TOKEN" in str(caught.value)) == (kind is Forbidden)


def test_a_compressed_file_is_refused(serve: Serve) -> None:
    async def compressed(request: web.Request) -> web.Response:
        return web.Response(body=b"1234567", headers={"Content-Encoding": "gzip"})

    url = serve(app({"/{rest:.*}": compressed}))
    repository = open_source("modelscope:a/b", modelscope_endpoint=url)
    with pytest.raises(TransferError, match="compressed"):
        read(repository, SourceFile("w", 7))


def test_a_range_with_status_200_is_believed_by_its_header(serve: Serve) -> None:
    async def like_modelscope(request: web.Request) -> web.Response:
        assert request.headers["Range"] == "bytes=3-6"
        return web.Response(body=b"ghts", headers={"Content-Range": "bytes 3-6/7"})

    url = serve(app({"/{rest:.*}": like_modelscope}))
    repository = open_source("modelscope:a/b", modelscope_endpoint=url)
    assert read(repository, SourceFile("w", 7), offset=3) == b"ghts"


def test_hugging_face_pages_and_its_commit(serve: Serve) -> None:
    async def revision(request: web.Request) -> web.Response:
        return web.json_response({"sha": "c0ffee"})

    async def tree(request: web.Request) -> web.Response:
        assert request.match_info["commit"] == "c0ffee"
        if "cursor" in request.query:
            large = {"type": "file", "path": "w", "size": 9, "lfs": {"oid": "AB" * 32, "size": 9}}
            return web.json_response([large])
        link = f'<{request.url.with_query(recursive="true", cursor="x")}>; rel="next"'
        entries = [{"type": "directory", "path": "d"}, {"type": "file", "path": "d/a", "size": 1}]
        return web.json_response(entries, headers={"Link": link})

    routes = {"/api/models/a/b/revision/main": revision, "/api/models/a/b/tree/{commit}": tree}
    listing = open_source("hf:a/b", hf_endpoint=serve(app(routes))).listing()
    assert listing.revision == "c0ffee"
    assert listing.files == (SourceFile("d/a", 1), SourceFile("w", 9, "ab" * 32))


def test_a_silently_cut_listing_is_walked(serve: Serve) -> None:
    big = [{"Path": f"big/{n}", "Size": 1, "Type": "blob"} for n in range(2999)]

    async def files(request: web.Request) -> web.Response:
        root, recursive = request.query.get("Root"), request.query["Recursive"] == "True"
        if root == "big":
            found = big
        elif recursive:
            found = [*big, {"Path": "big", "Type": "tree"}, {"Path": "last", "Size": 2}][:3000]
        else:
            found = [{"Path": "big", "Type": "tree"}, {"Path": "last", "Size": 2, "Type": "blob"}]
        return web.json_response({"Code": 200, "Success": True, "Data": {"Files": found}})

    url = serve(app({"/api/v1/models/a/b/repo/files": files}))
    listing = open_source("modelscope:a/b", modelscope_endpoint=url).listing()
    assert len(listing.files) == 3000
    assert "last" in {file.path for file in listing.files}


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"Data": 3}', b'{"Data": [{"Size": 1}]}'])
def test_a_listing_that_is_none(serve: Serve, body: bytes) -> None:
    async def files(request: web.Request) -> web.Response:
        return web.Response(body=body)

    url = serve(app({"/{rest:.*}": files}))
    with pytest.raises(TransferError):
        open_source("modelscope:a/b", modelscope_endpoint=url).listing()


@pytest.mark.parametrize(
    ("address", "here"),
    [("http://127.0.0.1:80", True), ("localhost:9000", True), ("http://[::1]:8", True),
     ("https://www.modelscope.cn", False), ("127.0.0.1.example.com", False)],
)  # fmt: skip
def test_loopback(address: str, here: bool) -> None:
    assert is_loopback(address) is here


def redirected(endpoint: str, location: str) -> str:
    """Return where a redirect of a hub may lead, or the error."""
    response = requests.Response()
    response.status_code, response.url = 302, f"{endpoint}/file"
    response.headers["Location"] = location
    try:
        return HubSession(endpoint, "hf")._target(response, "w")
    except Rejected as error:
        return error.what.rpartition(", which ")[2]


@pytest.mark.parametrize(
    ("endpoint", "location", "leads"),
    [
        ("https://hub", "https://cdn/x?Signature=s#f", "https://cdn/x?Signature=s"),
        ("https://hub", "/x", "https://hub/x"),
        ("https://hub", "//cdn/x", "https://cdn/x"),
        ("http://hub", "https://cdn/x", "https://cdn/x"),
        ("https://hub", "http://hub/x", "would leave HTTPS"),
        ("https://hub", "HTTP://cdn/x", "would leave HTTPS"),
        ("https://hub", "https://127.0.0.1/x", "is on this machine or its link"),
        ("http://hub", "http://localhost:8001/x", "is on this machine or its link"),
        ("http://hub", "http://169.254.169.254/latest", "is on this machine or its link"),
        ("http://127.0.0.1:9", "http://127.0.0.1:8/x", "http://127.0.0.1:8/x"),
        ("http://hub", "file:///etc/passwd", "is not an address of HTTP"),
        ("http://hub", "http://0x7f.1/x", "is on this machine or its link"),
        ("http://hub", "http://[::ffff:127.0.0.1]/x", "is on this machine or its link"),
        ("http://hub", "http://[::1", "is not an address"),
    ],
)
def test_where_a_redirect_may_lead(endpoint: str, location: str, leads: str) -> None:
    assert redirected(endpoint, location) == leads


def test_only_the_very_origin_gets_the_token() -> None:
    hub = HubSession("https://hub.example", "hf")
    assert hub._is_own("https://hub.example:443/x")
    for other in ("http://hub.example/x", "https://hub.example:8443/x", "https://hub.example.evil"):
        assert not hub._is_own(other)


def test_an_error_of_a_signed_address_has_no_signature(serve: Serve) -> None:
    async def hub(request: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1:1/blob?Signature=secret-4711")

    url = serve(app({"/{rest:.*}": hub}))
    repository = open_source("modelscope:a/b", modelscope_endpoint=url)
    with pytest.raises(Unreachable) as caught:
        read(repository, SourceFile("w", 7))
    assert "4711" not in str(caught.value)


def test_cookies_of_a_hub_are_not_kept(serve: Serve) -> None:
    seen: list[str | None] = []

    async def hub(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(body=b"1234567", headers={"Set-Cookie": "a=b; Path=/"})

    url = serve(app({"/{rest:.*}": hub}))
    repository = open_source("modelscope:a/b", modelscope_endpoint=url)
    assert [read(repository, SourceFile("w", 7)) for _ in range(2)] == [b"1234567"] * 2
    assert seen == [None, None]


def test_a_redirect_keeps_the_connection(serve: Serve) -> None:
    peers = set()

    async def hub(request: web.Request) -> web.Response:
        peers.add(request.transport.get_extra_info("peername"))  # type: ignore[union-attr]
        if "FilePath" in request.query:
            raise web.HTTPFound("/blob", text="Found. Redirecting")
        return web.Response(body=b"1234567")

    url = serve(app({"/{rest:.*}": hub}))
    repository = open_source("modelscope:a/b", modelscope_endpoint=url)
    assert [read(repository, SourceFile("w", 7)) for _ in range(3)] == [b"1234567"] * 3
    assert len(peers) == 1

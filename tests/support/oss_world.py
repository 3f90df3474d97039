"""What the tests of the OSS server need: the server in a thread, and clients for it."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote

import oss2
from aiohttp import web

from qwenkit.sandbox.http import listen
from qwenkit.sandbox.oss.server import OssServer

KEY_ID, SECRET, REGION, BUCKET = "test-id", "test-secret", "cn-hangzhou", "weights"
AUTHS = {"V1": oss2.Auth, "V2": oss2.AuthV2, "V4": oss2.AuthV4}


@contextmanager
def listening(app: web.Application) -> Iterator[str]:
    """Serve an application on a loop in a thread; yields its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(listen(app), loop).result(20)
        try:
            yield server.url
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def serving(root: Path, **options: Any) -> Iterator[str]:
    """Serve OSS over ``root`` with one bucket and one key pair."""
    app = OssServer(root, {KEY_ID: SECRET}, region=REGION, buckets=[BUCKET], **options).app()
    with listening(app) as url:
        yield url


class Session(oss2.Session):
    """A session that ignores proxies and leaves no socket open, read to its end or not."""

    def __init__(self) -> None:
        super().__init__()
        self.session.trust_env = False
        self._answers: list[Any] = []

    def do_request(self, req: Any, timeout: Any) -> Any:
        answer = super().do_request(req, timeout)
        self._answers.append(answer.response)
        return answer

    def close(self) -> None:
        for answer in self._answers:
            answer.close()
        self.session.close()


@contextmanager
def client(
    url: str, *, auth: str = "V1", secret: str = SECRET, key_id: str = KEY_ID, **options: Any
) -> Iterator[oss2.Bucket]:
    """Yield an oss2 bucket of its own session."""
    session = Session()
    options = {"region": REGION, "bucket_name": BUCKET, "session": session} | options
    yield oss2.Bucket(AUTHS[auth](key_id, secret), url, **options)
    session.close()


@contextmanager
def oss(root: Path, **options: Any) -> Iterator[oss2.Bucket]:
    """Serve OSS over ``root`` and yield an oss2 bucket of it."""
    with serving(root, **options) as url, client(url) as bucket:
        yield bucket


def raw(
    method: str, url: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, Message, bytes]:
    """Send a request whose target no library has tidied."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def presigned(bucket: oss2.Bucket, method: str, key: str, **params: str) -> str:
    """Return the target (path and query) of a presigned request for exactly this key."""
    # Below sign_url, which refuses keys that OSS takes.
    request = oss2.http.Request(method, "http://any", params=dict(params))
    _, _, query = bucket.auth._sign_url(request, BUCKET, key, 60).partition("?")
    return f"/{BUCKET}/{quote(key, safe='')}?{query}"

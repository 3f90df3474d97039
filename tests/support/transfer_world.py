"""What the transfer tests need: an OSS server and hubs in a thread, and faults in front of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import oss2
from aiohttp import web
from servers import Servers

from qwenkit.credentials import Credentials
from qwenkit.errors import QwenkitError
from qwenkit.sandbox.faults.injector import Budget, Effect, FaultRule, Handler, Injector, Matches
from qwenkit.sandbox.oss.server import OssServer
from qwenkit.weights.integrity import verify
from qwenkit.weights.oss.bucket import open_bucket
from qwenkit.weights.retry import RetryPolicy
from qwenkit.weights.transfer import TransferOptions

KEYS = {"transfer-test": "transfer-secret"}
BUCKET = "weights"
PART = 128 * 1024
OPTIONS = TransferOptions(
    part_size=PART,
    workers=3,
    files_at_once=2,
    retries=RetryPolicy(attempts=5, base_s=0.01, cap_s=0.05),
)

Fault = Effect


class Faults(Injector):
    """The sandbox's faults, and every request that came by.

    ``bodies`` has the bytes that were begun for each object: of a broken request, all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[web.Request] = []
        self.bodies: Counter[str] = Counter()

    def add(
        self, matches: Matches, effect: Effect, times: float = math.inf, *, ends: float = math.inf
    ) -> Budget:
        """Put a fault behind the others; return how often it may hit, and has."""
        rule = FaultRule(matches, effect, Budget(times, ends))
        self.rules.append(rule)
        return rule.budget

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append(request)
        if request.method == "PUT":
            self.bodies[request.path] += request.content_length or 0
        return await super().handle(request, handler)


@dataclass
class World:
    servers: Servers
    faults: Faults
    url: str
    bucket: oss2.Bucket
    root: Path
    state: Path

    def stored(self, key: str) -> bytes:
        return bytes(self.bucket.get_object(key).read())

    def orphans(self) -> list[str]:
        return [u.upload_id for u in self.bucket.list_multipart_uploads().upload_list]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    servers, faults = Servers(), Faults()
    try:
        server = OssServer(folder / "oss", KEYS, buckets=[BUCKET])
        url = servers.serve(faults.install(server.app()))
        bucket = open_bucket(url, BUCKET, credentials(), region="cn-hangzhou")
        yield World(servers, faults, url, bucket, folder / "oss", folder / "state")
        bucket.session.session.close()
    finally:
        servers.close()


def credentials(
    identity: str = "transfer-test", secret: str = "transfer-secret", token: str = ""
) -> Credentials:
    return Credentials.model_validate(
        {"access_key_id": identity, "access_key_secret": secret, "session_token": token}
    )


def is_part(request: web.Request) -> bool:
    return request.method == "PUT" and "partNumber" in request.query


def is_put(request: web.Request) -> bool:
    return request.method == "PUT" and "partNumber" not in request.query


def is_complete(request: web.Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def proven(place: World, files: Mapping[str, bytes], *, again: int = 0) -> None:
    """Assert what has to be true however an upload to ``m`` came to its end.

    Equal bytes, nothing left over in the bucket or on disk, and no bytes sent twice but those of
    ``again`` parts: the ones that were on their way when something failed.
    """
    for name, data in files.items():
        assert place.stored(f"m/{name}") == data
    assert verify(place.bucket, "m").problems == ()
    assert place.orphans() == []
    assert list(place.state.rglob("*.json")) == []
    begun = sum(size for path, size in place.faults.bodies.items() if "/m/qwenkit" not in path)
    assert begun - sum(map(len, files.values())) <= again * PART


def resumable(place: World, error: QwenkitError) -> None:
    """End the faults, and assert that an upload that failed says so and leads nobody astray."""
    place.faults.rules.clear()
    assert error.what
    assert "repeat" in error.fix
    assert not place.bucket.object_exists("m/qwenkit.json")
    assert len(place.orphans()) <= 1


def refuse_part(place: World, number: str) -> None:
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.query["partNumber"] != number:
            return await handler(request)
        await request.read()
        return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")

    place.faults.add(is_part, refuse)


def keys(place: World) -> set[str]:
    return {one.key for one in place.bucket.list_objects_v2(max_keys=1000).object_list}

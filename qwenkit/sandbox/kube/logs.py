"""``pods/log``: which container, and how much of what it wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.objects import Object, at

# logs(namespace, pod, container, follow): what the container wrote, whole lines or not; with
# follow it goes on until the container ends.
LogSource = Callable[[str, str, str, bool], AsyncIterator[bytes]]


async def stream_logs(
    request: web.Request, pod: Object, source: LogSource | None
) -> web.StreamResponse:
    """Answer ``GET …/log``; knows ``container``, ``follow`` and, without follow, ``tailLines``.

    Raises:
        ApiError: 400 for a container that the pod does not have; 501 without a source.
    """
    container = _container(pod, request.query.get("container", ""))
    if source is None:
        raise ApiError(501, "NotImplemented", "container logs are not part of this sandbox")
    follow = request.query.get("follow", "").lower() in ("true", "1")
    tail = request.query.get("tailLines", "")
    metadata = pod["metadata"]
    chunks = source(metadata["namespace"], metadata["name"], container, follow)
    if tail.isdecimal() and not follow:
        lines = b"".join([chunk async for chunk in chunks]).splitlines(keepends=True)
        kept = lines[max(0, len(lines) - int(tail)) :]
        return web.Response(body=b"".join(kept), content_type="text/plain")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    async for chunk in chunks:
        await response.write(chunk)
    return response


def _container(pod: Object, asked: str) -> str:
    names = [container["name"] for container in at(pod, "spec", "containers") or []]
    name = pod["metadata"]["name"]
    if asked and asked not in names:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    if not asked and len(names) != 1:
        raise bad_request(
            f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
        )
    return asked or names[0]

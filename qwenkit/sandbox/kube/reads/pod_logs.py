"""``pods/log``: the log of a container, whole or its last lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.reads.numbers import integer

_NO_TIMES = ("sinceSeconds", "sinceTime")
_PULLING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class LogSource(Protocol):
    """Reads the log of a container: all that it has written; with ``follow`` also what follows."""

    def __call__(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        previous: bool,
        timestamps: bool,
    ) -> AsyncIterator[bytes]:
        """Yield the log of a container, or of the one that ran before its last restart."""


@dataclass(frozen=True)
class LogOptions:
    """The checked parameters of a request for a log; ``tail`` in lines, ``limit`` in bytes."""

    container: str
    follow: bool
    previous: bool
    timestamps: bool
    tail: int | None
    limit: int | None


async def stream_logs(request: web.Request, pod: Object, source: LogSource) -> web.StreamResponse:
    """Answer ``GET …/log``.

    Raises:
        ApiError: 400, no such container, or it has not started; 501, logs by time.
    """
    options = _options(request.query, pod)
    if at(pod, "spec", "nodeName"):
        _check_started(pod, options)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    metadata = pod["metadata"]
    chunks = source(
        metadata["namespace"],
        metadata["name"],
        options.container,
        follow=options.follow,
        previous=options.previous,
        timestamps=options.timestamps,
    )
    async for chunk in _limited(_tail(chunks, options.tail), options.limit):
        await response.write(chunk)
    return response


def _options(query: Mapping[str, str], pod: Object) -> LogOptions:
    for name in _NO_TIMES:
        if query.get(name, "false") != "false":
            text = f"{name}: the sandbox selects no log lines by their time; ask for the last"
            raise ApiError(501, "NotImplemented", f"{text} (kubectl logs --tail)")
    return LogOptions(
        container=_container(pod, query.get("container", "")),
        follow=_switch(query, "follow"),
        previous=_switch(query, "previous"),
        timestamps=_switch(query, "timestamps"),
        tail=_number(query, "tailLines", at_least=0),
        limit=_number(query, "limitBytes", at_least=1),
    )


def _switch(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def _number(query: Mapping[str, str], name: str, *, at_least: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    value = integer(text)
    if value < at_least:
        rule = f"must be greater than or equal to {at_least}"
        raise ApiError(
            422, "Invalid", f'PodLogOptions "" is invalid: {name}: Invalid value: {value}: {rule}'
        )
    return value


async def _tail(chunks: AsyncIterator[bytes], lines: int | None) -> AsyncIterator[bytes]:
    """Keep the last lines of the first chunk, which holds the log so far, and all later chunks."""
    async for chunk in chunks:
        if lines is not None:
            kept = chunk.splitlines(keepends=True)
            chunk, lines = b"".join(kept[max(0, len(kept) - lines) :]), None
        yield chunk


async def _limited(chunks: AsyncIterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if limit is None:
            yield chunk
            continue
        yield chunk[:limit]
        limit -= len(chunk)
        if limit <= 0:
            return


def _container(pod: Object, wanted: str) -> str:
    parts = ("initContainers", "containers")
    names = [one["name"] for part in parts for one in at(pod, "spec", part) or []]
    name = pod["metadata"]["name"]
    if wanted and wanted not in names:
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    if not wanted and len(names) != 1:
        raise bad_request(
            f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
        )
    return wanted or names[0]


def _check_started(pod: Object, options: LogOptions) -> None:
    """Refuse to read the log of a container that has not run, as the kubelet does."""
    parts = ("initContainerStatuses", "containerStatuses")
    statuses = [one for part in parts for one in at(pod, "status", part) or []]
    status = next((one for one in statuses if one["name"] == options.container), None)
    which = f'container "{options.container}" in pod "{pod["metadata"]["name"]}"'
    if status is None:
        raise bad_request(f"{which} is not available")
    ran = at(status, "lastState", "terminated")
    if options.previous:
        if not ran:
            raise bad_request(f"previous terminated {which} not found")
    elif not ran and (reason := at(status, "state", "waiting", "reason")):
        raise bad_request(f"{which} is waiting to start: {_PULLING.get(reason, reason)}")

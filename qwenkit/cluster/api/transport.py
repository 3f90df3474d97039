"""Send one request to the API server and read its whole answer before a deadline.

Each request runs in a thread of its own: only so does the time hold whatever the server does,
whether it is silent, or sends a byte now and then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, TypeVar

from qwenkit.credentials import clean
from qwenkit.errors.scrubbing import remember
from qwenkit.untrusted.parsing import parse_json

T = TypeVar("T")
_CONNECT_S = _SLOW_S = 5.0
_CHUNK, _MOST_BYTES = 1 << 16, 1 << 27
# Time for a socket's own timeout, whose message says more, to come first.
_GRACE_S = 0.2


class NoAnswer(Exception):
    """The connection failed or the time passed; the request may have been executed."""


@dataclass(frozen=True)
class Request:
    """A request to the API: a path below the server's address, a query and a JSON body."""

    method: str
    path: str
    query: Mapping[str, object] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


@dataclass(frozen=True)
class Reply:
    """An answer with any status."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_html(self) -> bool:
        """Whether it is a web page: from a proxy in between, not from the API server."""
        start = self.body[:64].lstrip().lower()
        return "html" in self.headers.get("content-type", "") or start.startswith(
            (b"<!doctype", b"<html")
        )


class Pieces:
    """The pieces of a body as they come; ``close`` ends it early."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        try:
            yield from self._response.stream()
        except (HTTPError, OSError) as error:
            raise NoAnswer(_root(error)) from None

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()


class Transport:
    """The connections of an API client, which also holds the credentials.

    ``headers`` are sent with each request; a name may come several times, as in impersonation.
    ``slow`` is called when an answer has not come for a few seconds.
    """

    def __init__(self, api: Any, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._api, self._headers = api, tuple(headers)
        self.slow: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._api.configuration.host)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def send(self, request: Request, *, limit_s: float) -> Reply:
        """Send a request and return its answer, whatever its status.

        Raises:
            NoAnswer: no whole answer came within ``limit_s``.
        """
        ends = time.monotonic() + limit_s
        return _in_time(
            lambda: _whole(self._open(request, max(ends - time.monotonic(), 0.001)), ends),
            limit_s,
            self.slow,
        )

    def stream(self, request: Request, *, limit_s: float, silence_s: float) -> tuple[Reply, Pieces]:
        """Send a request; return its answer, and what comes of its body if it is a success.

        Raises:
            NoAnswer: no answer began within ``limit_s``.
        """
        ends = time.monotonic() + limit_s

        def begin() -> tuple[Reply, Pieces]:
            response = self._open(request, silence_s)
            if 200 <= response.status < 300:
                head = Reply(response.status, response.reason, response.headers, b"")
                return head, Pieces(response)
            return _whole(response, ends), Pieces(None)

        return _in_time(begin, limit_s, self.slow)

    def _open(self, request: Request, read_s: float) -> Any:
        from urllib.parse import urlencode

        from urllib3 import HTTPHeaderDict, Timeout

        query = f"?{urlencode(request.query)}" if request.query else ""
        headers = HTTPHeaderDict({"Accept": "application/json", **self._api.default_headers})
        for auth in self._api.configuration.auth_settings().values():
            headers[auth["key"]] = _authorization(str(auth["value"]))
        for name, value in self._headers:
            headers.add(name, value)
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        return self._api.rest_client.pool_manager.request(
            request.method,
            self.address + request.path + query,
            body=None if request.body is None else json.dumps(request.body).encode(),
            headers=headers,
            timeout=Timeout(connect=min(_CONNECT_S, read_s), read=read_s),
            preload_content=False,
            retries=False,
            redirect=False,
        )


def _whole(response: Any, ends: float) -> Reply:
    """Read a whole answer, a piece at a time."""
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := response.read1(_CHUNK):
            pieces.append(piece)
            size += len(piece)
            if time.monotonic() > ends:
                raise TimeoutError
            if size > _MOST_BYTES:
                raise OSError(f"the answer has more than {_MOST_BYTES >> 20} MiB")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return Reply(response.status, response.reason, response.headers, b"".join(pieces))


def _authorization(value: str) -> str:
    """Return the header's value, which is hidden from now on.

    Raises:
        SettingsError: it cannot be sent; the value is not shown.
    """
    scheme, _, secret = value.partition(" ")
    remember(secret.strip())
    return f"{scheme} {clean('the token of the kubeconfig', secret)}"


def _in_time(call: Callable[[], T], limit_s: float, slow: Callable[[], None]) -> T:
    """Return what ``call`` returns, but no later than after ``limit_s``."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    done: Future[T] = Future()

    def work() -> None:
        try:
            found = call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(found)

    Thread(target=work, name="qwenkit-api", daemon=True).start()
    ends = time.monotonic() + limit_s + _GRACE_S
    if limit_s > _SLOW_S and not wait([done], timeout=_SLOW_S).done:
        slow()
    try:
        return done.result(max(ends - time.monotonic(), 0))
    except (HTTPError, OSError) as error:
        if done.done() and not isinstance(error, TimeoutError | ReadTimeoutError):
            raise NoAnswer(_root(error)) from None
        done.add_done_callback(_close)
        raise NoAnswer(f"no whole answer within {limit_s:.0f} s") from None


def _close(done: Future[Any]) -> None:
    """Close a stream that began too late."""
    with suppress(BaseException):
        done.result()[1].close()


def parsed(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    found = parse_json(reply.body)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def single(reply: Reply) -> dict[str, Any]:
    """Return the object of an answer.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    found = parsed(reply)
    if not isinstance(found.get("metadata"), dict):
        raise ValueError("it has no metadata")
    return found


def many(field: str, *keys: str) -> Callable[[Reply], dict[str, Any]]:
    """Return a function that reads an answer whose ``field`` is a list of objects with ``keys``.

    The function raises:
        ValueError: it is none; says what is wrong.
    """

    def read(reply: Reply) -> dict[str, Any]:
        found = parsed(reply)
        items = found.get(field)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"its {field} are not a list of objects")
        if not all(isinstance(item.get(key), dict | str | bool) for item in items for key in keys):
            raise ValueError(f"one of its {field} lacks {' or '.join(keys)}")
        return found

    return read


def _root(error: BaseException) -> str:
    """Return the innermost cause: urllib3 wraps a refused or broken connection."""
    inner = [getattr(error, "reason", None), *error.args[1:]]
    if found := next((one for one in inner if isinstance(one, BaseException)), None):
        return _root(found)
    text = str(error) or type(error).__name__
    return text.rpartition(": ")[2] if "Failed to establish" in text else text

"""Request a hub's files over HTTP: redirects, tokens, retries and checked ranges.

A range is checked by its ``Content-Range``, never by the status: ModelScope answers ranges with
200, and other servers answer 206 with the wrong bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from qwenkit.credentials import HUB_TOKENS
from qwenkit.errors import (
    Forbidden,
    InvalidValue,
    NotFound,
    QwenkitError,
    TransferError,
    Unreachable,
)
from qwenkit.loopback import is_loopback
from qwenkit.weights.hub.listing import ByteReader, Source, SourceFile
from qwenkit.weights.retry import RetryPolicy, no_answer, retry

TIMEOUT_S = (10.0, 30.0)
_CHUNK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class HubSession:
    """Requests to one hub. Only the hub's own host gets the token."""

    def __init__(self, endpoint: str, kind: str) -> None:
        if not endpoint:
            raise InvalidValue(f"{kind}_endpoint", "", "must be the hub's address")
        self.endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
        self._variable = HUB_TOKENS[kind]
        self._session = requests.Session()
        # As auth, because requests drops it on a redirect to another host, and because ~/.netrc
        # does not replace it.
        self._session.auth = self._authorize
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.trust_env = not is_loopback(self.endpoint)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=32))

    def json(self, path: str, params: Mapping[str, str], what: str) -> tuple[Any, str]:
        """Return a parsed answer, and the path and query of the next page ("" on the last)."""
        with self._get(path, params, {}, what) as response:
            try:
                body = response.json()
            except (ValueError, requests.RequestException) as error:
                raise TransferError(f"{what}: the hub's answer is not JSON", str(error)) from error
            following = urlsplit(response.links.get("next", {}).get("url", ""))
            return body, f"{following.path}?{following.query}" if following.path else ""

    @contextmanager
    def stream(
        self, path: str, params: Mapping[str, str], file: SourceFile, offset: int
    ) -> Iterator[ByteReader]:
        """Stream ``file`` from ``offset``; the range is checked before a byte is read."""
        headers = {"Range": f"bytes={offset}-{file.size - 1}"} if offset else {}
        with self._get(path, params, headers, file.path) as response:
            skip = _check_range(response, file, offset)
            body = _AnswerBytes(response, file.path)
            body.skip(skip)
            yield body

    def _get(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, str], what: str
    ) -> requests.Response:
        once = partial(self._get_once, path, params, headers, what)
        return retry(once, RetryPolicy(), lambda error, _: isinstance(error, Unreachable))

    def _get_once(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, str], what: str
    ) -> requests.Response:
        try:
            response = self._session.get(
                self.endpoint + path,
                params=params,
                headers=dict(headers),
                stream=True,
                timeout=TIMEOUT_S,
            )
        except requests.RequestException as error:
            raise no_answer(what, self.endpoint, error) from None
        if response.status_code not in (200, 206):
            with response:
                raise self._refused(response, what)
        return response

    def _refused(self, response: requests.Response, what: str) -> QwenkitError:
        status = response.status_code
        why = f"{self.endpoint} answered {status}"
        if status in (401, 403):
            fix = f"if the repository is private or gated, export {self._variable}"
            return Forbidden(f"{what}: the hub refuses access", why, fix, status=status)
        if status == 404:
            fix = "check owner, name and revision"
            return NotFound(f"{what}: the hub does not have it", why, fix, status=status)
        if status in (408, 429) or status >= 500:
            return Unreachable(f"{what}: the hub cannot answer now", why, status=status)
        return TransferError(f"{what}: the hub refused the request", why, status=status)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token := os.environ.get(self._variable):
            request.headers["Authorization"] = f"Bearer {token}"
        return request


class _AnswerBytes:
    """The bytes of an answer, not decoded."""

    def __init__(self, response: requests.Response, what: str) -> None:
        self._raw: urllib3.HTTPResponse = response.raw
        self._what = what

    def skip(self, count: int) -> None:
        """Skip bytes: the hub sent the whole file instead of its end."""
        while count:
            got = len(self._read(min(count, _CHUNK)))
            if not got:
                return
            count -= got

    def readinto(self, buffer: memoryview, /) -> int:
        data = self._read(min(len(buffer), _CHUNK))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, count: int) -> bytes:
        try:
            return self._raw.read(count, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(
                f"{self._what}: the hub's stream broke off", type(error).__name__
            ) from None


@contextmanager
def valid_entry(source: Source) -> Iterator[None]:
    """Raise our error where an entry of the hub's listing lacks a field."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise TransferError(
            f"{source.describe()}: a listed file has no path or size", str(error)
        ) from error


def _check_range(response: requests.Response, file: SourceFile, offset: int) -> int:
    """Return how many leading bytes to skip; refuse an answer with other bytes."""
    headers, last = response.headers, file.size - 1
    asked = f"bytes {offset}-{last}/{file.size}"
    if headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError(f"{file.path}: the hub compressed the file although asked not to")
    stated = headers.get("Content-Range")
    if stated is not None:
        found = _CONTENT_RANGE.fullmatch(stated.strip())
        if not found or tuple(map(int, found.groups())) != (offset, last, file.size):
            raise _wrong_range(file, asked, stated)
        return 0
    size = headers.get("Content-Length", str(file.size))
    if response.status_code == 206 or size != str(file.size):
        raise _wrong_range(file, asked, f"{size} bytes, no range")
    return offset


def _wrong_range(file: SourceFile, asked: str, stated: str) -> TransferError:
    return TransferError(
        f"{file.path}: the hub sent other bytes than requested",
        f"asked for {asked}, the answer says {stated}",
        "if it persists, the file has changed since it was listed: start again",
    )

"""Request a hub's answers and files over HTTP: redirects, tokens, retries and checked ranges.

A hub is not trusted: an answer may be endless, slow, compressed without end, or lead anywhere.
A range is checked by its ``Content-Range``, never by the status: ModelScope answers ranges with
200, and other servers answer 206 with the wrong bytes.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from qwenkit.credentials import HUB_TOKENS, from_environment
from qwenkit.errors import (
    Forbidden,
    InvalidValue,
    NotFound,
    QwenkitError,
    Rejected,
    TransferError,
    Unreachable,
)
from qwenkit.loopback import is_loopback
from qwenkit.untrusted.pauses import asked_pause
from qwenkit.weights.hub.listing import ByteReader, SourceFile, shown
from qwenkit.weights.retry import LONGEST_PAUSE_S, RetryPolicy, asked_s, no_answer, retry
from qwenkit.weights.watched_http import FlowError, WatchedAdapter, flow_error

TIMEOUT_S = (10.0, 30.0)
ANSWER_BYTES = 8 << 20  # one page of a listing; a full one of ModelScope has about 2 MB
REDIRECTS = 8
_PATIENCE_S = 90.0  # of attempts for one answer
_PIECES = 50_000  # of one page; each takes as long as a large one
_CHUNK = 256 << 10
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
_DISTRUST = "the hub, or something in front of it, is faulty: check {kind}_endpoint"


class HubSession:
    """Requests to one hub. Only the hub's own scheme, host and port get the token."""

    def __init__(self, endpoint: str, kind: str) -> None:
        if not endpoint:
            raise InvalidValue(f"{kind}_endpoint", "", "must be the hub's address")
        self.endpoint = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
        try:
            scheme, host, _ = _origin(self.endpoint)
        except ValueError:
            scheme, host = "", None
        if scheme not in ("http", "https") or not host or re.search(r"[\s?#@]", endpoint):
            raise InvalidValue(f"{kind}_endpoint", endpoint, "must be the hub's address, by HTTP")
        self.distrust = _DISTRUST.format(kind=kind)
        self.timeout_s = TIMEOUT_S
        self._variable = HUB_TOKENS[kind]
        self._session = _Session()
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.trust_env = not is_loopback(self.endpoint)
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, WatchedAdapter(pool_maxsize=32))

    def json(
        self, path: str, params: Mapping[str, str], what: str, *, ends: float
    ) -> tuple[Any, str, int]:
        """Return a parsed answer, the path and query of the next page ("" on the last), its size.

        ``ends`` is when it must have arrived, by the monotonic clock.
        """
        began = time.monotonic()
        once = partial(self._json_once, path, params, what, ends)

        def again(error: Exception, _: int) -> bool:
            asked = asked_s(error)
            late = time.monotonic() + asked > min(ends, began + _PATIENCE_S + asked)
            late = late or asked > LONGEST_PAUSE_S
            return isinstance(error, Unreachable) and not late and not error.context.get("slow")

        return retry(once, RetryPolicy(), again)

    def small_json(self, path: str, params: Mapping[str, str], what: str, within_s: float) -> Any:
        """Return a parsed answer that nobody waits for longer."""
        self.timeout_s = (within_s, within_s)
        return self.json(path, params, what, ends=time.monotonic() + within_s)[0]

    def _json_once(
        self, path: str, params: Mapping[str, str], what: str, ends: float
    ) -> tuple[Any, str, int]:
        with self._get(path, params, {}, what) as response:
            data = self._whole(response, what, ends)
            try:
                body = json.loads(data, parse_constant=_no_constant)
                following = urlsplit(response.links.get("next", {}).get("url", ""))
            except (ValueError, RecursionError) as error:
                raise TransferError(
                    f"{what}: the answer of {self.endpoint} is not JSON: {shown(str(error))}",
                    "a listing is one JSON document, not too deeply nested",
                    self.distrust,
                ) from None
            path = following.path.removeprefix(urlsplit(self.endpoint).path)
            page = f"{path}?{following.query}" if path else ""
            return body, page, len(data)

    def _whole(self, response: requests.Response, what: str, ends: float) -> bytes:
        """Return the body of an answer, decompressed."""
        body, found = _AnswerBytes(response, self, what), bytearray()
        pieces = 0
        while piece := body.read(_CHUNK):
            found += piece
            pieces += 1
            if pieces > _PIECES:
                self.refuse(what, f"cut into more than {_PIECES} pieces", "in fewer")
            if len(found) > ANSWER_BYTES:
                self.refuse(what, "more than it may have", f"at most {ANSWER_BYTES} bytes")
            if time.monotonic() > ends:
                self.refuse(what, "not complete in time", "a listing may take 5 minutes")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding == "identity":
            return bytes(found)
        unpack = zlib.decompressobj(47)  # gzip or zlib
        try:
            data = unpack.decompress(bytes(found), ANSWER_BYTES)
        except zlib.error:
            self.refuse(what, f"compressed as {shown(encoding)}", "gzip, or as it is")
        if unpack.unconsumed_tail or not unpack.eof:
            self.refuse(what, "compressed, and too large", f"at most {ANSWER_BYTES} bytes")
        return data

    @contextmanager
    def stream(
        self, path: str, params: Mapping[str, str], file: SourceFile, offset: int
    ) -> Iterator[ByteReader]:
        """Stream ``file`` from ``offset``; the range is checked before a byte is read."""
        headers = {"Range": f"bytes={offset}-{file.size - 1}"} if offset else {}
        with self._get(path, params, headers, file.path) as response:
            skip = _check_range(response, file, offset)
            body = _AnswerBytes(response, self, file.path)
            body.skip(skip)
            yield body

    def _get(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, str], what: str
    ) -> requests.Response:
        """Return the answer at the end of the redirects."""
        url, arguments, seen = self.endpoint + path, params, set[str]()
        while True:
            response = self._get_once(url, arguments, headers, what)
            here = str(response.url)
            if not response.is_redirect:
                if response.status_code in (200, 206):
                    return response
                with response:
                    raise self._refused(response, what)
            with response:
                self._finish(response, what)
                seen.add(here)
                url, arguments = self._target(response, what), {}
                if url in seen or len(seen) > REDIRECTS:
                    why = "in a circle" if url in seen else f"on more than {REDIRECTS} times"
                    raise self._led(what, url, f"leads {why}")

    def _finish(self, response: requests.Response, what: str) -> None:
        """Read the body of a redirect if it is short, so that the connection is used again."""
        length = response.headers.get("Content-Length", "")
        if re.fullmatch(r"\d{1,4}", length, re.ASCII):
            body = _AnswerBytes(response, self, what)
            body.skip(int(length))
            body.read(1)

    def _get_once(
        self, url: str, params: Mapping[str, str], headers: Mapping[str, str], what: str
    ) -> requests.Response:
        try:
            return self._session.get(
                url,
                params=params,
                headers=dict(headers),
                auth=self._authorize if self._is_own(url) else _no_token,
                stream=True,
                timeout=self.timeout_s,
            )
        except requests.RequestException as error:
            if found := flow_error(error):
                raise self.flow(what, found) from None
            said = str(error).lower()  # of a proxy, "socks" or "proxy"
            if isinstance(error, ValueError) and "socks" not in said and "proxy" not in said:
                raise self._led(what, url, "is not an address") from None
            raise no_answer(what, self.endpoint, error) from None
        except ValueError:
            raise self._led(what, url, "is not an address") from None

    def _target(self, response: requests.Response, what: str) -> str:
        """Return where a redirect leads, if we may follow it."""
        here, stated = str(response.url), response.headers["Location"]
        try:
            target = urljoin(here, stated.encode("latin-1").decode("utf-8"))
            parts, _ = urlsplit(target), urlsplit(target).port
        except ValueError:
            raise self._led(what, stated, "is not an address") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self._led(what, target, "is not an address of HTTP")
        if here.startswith("https:") and parts.scheme == "http":
            raise self._led(what, target, "would leave HTTPS")
        if not is_loopback(self.endpoint) and _leads_inside(target):
            raise self._led(what, target, "is on this machine or its link")
        return target.partition("#")[0]

    def _is_own(self, url: str) -> bool:
        return _origin(url) == _origin(self.endpoint)

    def _led(self, what: str, url: str, rule: str) -> Rejected:
        # Without the query: it may hold a signature.
        place = shown(url.partition("?")[0])
        why = "a hub may redirect to HTTP addresses, to HTTPS if it has HTTPS, and to an end"
        return Rejected(
            f"{what}: {self.endpoint} redirects to {place}, which {rule}", why, self.distrust
        )

    def refuse(self, what: str, value: str, rule: str) -> NoReturn:
        """Refuse an answer that breaks a rule.

        Raises:
            TransferError: names the hub, the value and the rule.
        """
        raise TransferError(
            f"{what}: the answer of {self.endpoint} is {value}", f"it may be {rule}", self.distrust
        )

    def flow(self, what: str, found: FlowError) -> QwenkitError:
        """Return the error for an answer that was given up while it came."""
        text = f"{what}: the answer of {self.endpoint} was given up: {found}"
        if found.final:
            return Rejected(text, "no answer of a hub needs so many", self.distrust)
        why = "such a transfer would never end"
        return Unreachable(text, why, "repeat later, or use another hub", slow=True)

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
            pause = asked_pause(response.headers)
            fix = f"repeat in {pause:.0f} s" if pause else "repeat later"
            facts = {"status": status, "pause_s": pause}
            return Unreachable(f"{what}: the hub cannot answer now", why, fix, **facts)
        return TransferError(
            f"{what}: the hub refused the request", why, self.distrust, status=status
        )

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token := from_environment(self._variable):
            request.headers["Authorization"] = f"Bearer {token}"
        return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect: requests would read the body of each, however long it is."""


class _AnswerBytes:
    """The bytes of an answer, not decoded."""

    def __init__(self, response: requests.Response, http: HubSession, what: str) -> None:
        self._raw: urllib3.HTTPResponse = response.raw
        self._http, self._what = http, what

    def skip(self, count: int) -> None:
        """Skip bytes: the hub sent the whole file instead of its end."""
        while count:
            got = len(self.read(min(count, _CHUNK)))
            if not got:
                return
            count -= got

    def readinto(self, buffer: memoryview, /) -> int:
        data = self.read(min(len(buffer), _CHUNK))
        buffer[: len(data)] = data
        return len(data)

    def read(self, count: int) -> bytes:
        """Return the next bytes, up to ``count``, as soon as there are any; none at the end."""
        try:
            return self._raw.read1(count, decode_content=False) or b""
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if found := flow_error(error):
                raise self._http.flow(self._what, found) from None
            raise Unreachable(
                f"{self._what}: the stream of {self._http.endpoint} broke off",
                type(error).__name__,
                "repeat later",
            ) from None


def _check_range(response: requests.Response, file: SourceFile, offset: int) -> int:
    """Return how many leading bytes to skip; refuse an answer with other bytes."""
    headers, last = response.headers, file.size - 1
    asked = f"bytes {offset}-{last}/{file.size}"
    if headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError(
            f"{file.path}: the hub compressed the file although asked not to",
            f"its Content-Encoding is {shown(headers['Content-Encoding'])}",
            "if it persists, download the repository with git and upload the folder",
        )
    stated = headers.get("Content-Range")
    if stated is not None:
        found = _CONTENT_RANGE.fullmatch(stated.strip())
        if not found or tuple(map(int, found.groups())) != (offset, last, file.size):
            raise _wrong_range(file, asked, shown(stated))
        return 0
    size = headers.get("Content-Length", str(file.size))
    if response.status_code == 206 or size != str(file.size):
        raise _wrong_range(file, asked, f"{shown(size)} bytes, no range")
    return offset


def _wrong_range(file: SourceFile, asked: str, stated: str) -> TransferError:
    return TransferError(
        f"{file.path}: the hub sent other bytes than requested",
        f"asked for {asked}, the answer says {stated}",
        "if it persists, the file has changed since it was listed: start again",
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _leads_inside(url: str) -> bool:
    """Return whether an address is this machine's, or of its link: there clouds keep keys."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, 0x7f000001
        except OSError:
            return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _no_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # Given as auth, or ~/.netrc would be asked.
    return request


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

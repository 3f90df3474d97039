"""Which objects does a mounted OSS folder hold? Each request has a V1 signature of the keys."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

import aiohttp
from yarl import URL

from qwenkit.errors import Forbidden, NotFound, QwenkitError, TransferError, Unreachable

MAX_BYTES = 256 * 2**20
_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)
# Nothing but host and port: no user before the host, no path behind it.
_LOCAL = re.compile(r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True)
class MountedFolder:
    """A folder of an OSS bucket as a volume mounts it."""

    endpoint: str
    bucket: str
    prefix: str
    """Without a leading slash; empty for the whole bucket, else with a slash at the end."""
    key_id: str
    key_secret: str = field(repr=False)

    async def list(self, folder: str = "") -> dict[str, int]:
        """Return the sizes of the objects under the volume's folder, by relative name.

        Raises:
            QwenkitError: the endpoint cannot be reached, or refuses the request.
        """
        prefix, found, marker = self.prefix + folder, dict[str, int](), ""
        async with _session() as session:
            while True:
                parameters = {"prefix": prefix, "max-keys": "1000", "encoding-type": "url"}
                parameters |= {"marker": marker} if marker else {}
                page = ElementTree.fromstring(await self._get(session, "", parameters))
                for one in page.iter("Contents"):
                    name = unquote_plus(one.findtext("Key", "")).removeprefix(prefix)
                    if name and not name.endswith("/"):
                        found[name] = int(one.findtext("Size", "0"))
                marker = unquote_plus(page.findtext("NextMarker") or "")
                if page.findtext("IsTruncated") != "true" or not marker:
                    return found

    async def read(self, folder: str = "") -> dict[str, bytes]:
        """Return the objects under a folder of the volume by relative name.

        Raises:
            TransferError: they are larger than ``MAX_BYTES`` together.
            QwenkitError: as for ``list``.
        """
        sizes = await self.list(folder)
        total = sum(sizes.values())
        if total > MAX_BYTES:
            raise TransferError(
                f"{self.bucket}/{self.prefix}{folder} holds {total} bytes",
                f"the sandbox's node reads at most {MAX_BYTES} bytes of a volume into memory",
                "mount the sandbox's own small model",
            )
        async with _session() as session:
            keys = [self.prefix + folder + name for name in sizes]
            bodies = await asyncio.gather(*(self._get(session, key, {}) for key in keys))
        return dict(zip(sizes, bodies, strict=True))

    async def _get(
        self, session: aiohttp.ClientSession, key: str, parameters: Mapping[str, str]
    ) -> bytes:
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        url = f"{self.endpoint}/{self.bucket}/{quote(key)}" + (f"?{query}" if query else "")
        try:
            headers = self._signed(key)
            asked = URL(url, encoded=True)
            async with session.get(asked, headers=headers, allow_redirects=False) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(f"{self.endpoint} cannot be reached", reason) from error
        if response.status != 200:
            raise _refusal(response.status, body, f"{self.bucket}/{key or self.prefix}")
        return body

    def _signed(self, key: str) -> dict[str, str]:
        date = formatdate(usegmt=True)
        text = f"GET\n\n\n{date}\n/{self.bucket}/{key}"
        digest = hmac.new(self.key_secret.encode(), text.encode(), hashlib.sha1).digest()
        signature = base64.b64encode(digest).decode()
        return {"Date": date, "Authorization": f"OSS {self.key_id}:{signature}"}


def is_local(endpoint: str) -> bool:
    """Return whether an endpoint is on this machine: the sandbox reaches no other."""
    found = _LOCAL.fullmatch(endpoint)
    return found is not None and int(found[1] or 80) < 2**16


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)


def _refusal(status: int, body: bytes, where: str) -> QwenkitError:
    code = message = ""
    try:
        answer = ElementTree.fromstring(body)
        code, message = answer.findtext("Code", ""), answer.findtext("Message", "")
    except ElementTree.ParseError:
        message = f"HTTP {status}"
    kind = {403: Forbidden, 404: NotFound}.get(status, TransferError)
    return kind(f"{where}: {code or status}", message, status=status, code=code)

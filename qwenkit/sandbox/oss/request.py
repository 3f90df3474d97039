"""One request to OSS with its decoded parameters, and the forms of its answers."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import quote

from aiohttp import web

from qwenkit.sandbox.connections import bodies
from qwenkit.sandbox.oss.body import Digest
from qwenkit.sandbox.oss.errors import OssError
from qwenkit.sandbox.oss.ledger import ObjectRecord
from qwenkit.sandbox.oss.xml import Value, document

MAX_BODY_BYTES = 4 << 20
MAX_OBJECT_BYTES = 5 << 30
STORAGE_CLASSES = {"Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"}
STANDARD_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
_STORED = {*STANDARD_HEADERS, "x-oss-storage-class"}


@dataclass(frozen=True)
class OssRequest:
    """A request with a valid signature: its bucket and key, and its decoded parameters."""

    http: web.Request
    bucket: str
    key: str
    query: Mapping[str, str]

    def header(self, name: str) -> str:
        """Return a header's value, empty if it is absent."""
        return self.http.headers.get(name, "")

    def text(self, name: str) -> str:
        """Return a parameter's value, empty if it is absent."""
        return self.query.get(name, "")

    def number(self, name: str, *, default: int, low: int, high: int) -> int:
        """Return a numeric parameter.

        Raises:
            OssError: InvalidArgument.
        """
        value = self.text(name)
        if not value:
            return default
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
        if not low <= number <= high:
            message = f"Argument {name} must be an integer between {low} and {high}."
            raise OssError("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
        return number

    def encoded(self, text: str) -> str:
        """Return a key in the encoding that the client requested."""
        return quote(text, safe="") if self.text("encoding-type") == "url" else text

    def encoding(self) -> list[tuple[str, str]]:
        """Return the element that asks the client to decode keys.

        Raises:
            OssError: InvalidArgument.
        """
        encoding = self.text("encoding-type")
        if encoding not in ("", "url"):
            raise OssError("InvalidArgument", "encoding-type must be url.", ArgumentValue=encoding)
        return [("EncodingType", encoding)] if encoding else []

    @property
    def forbids_overwrite(self) -> bool:
        """Whether an existing object must not be replaced."""
        return self.header("x-oss-forbid-overwrite").lower() == "true"

    def stored_headers(self) -> dict[str, str]:
        """Return the headers that belong to the object and come back with it.

        Raises:
            OssError: InvalidArgument: no such storage class.
        """
        headers = {
            name.lower(): value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            for name, value in self.http.headers.items()
            if name.lower() in _STORED or name.lower().startswith("x-oss-meta-")
        }
        wanted = storage_class(headers)
        if wanted not in STORAGE_CLASSES:
            raise OssError("InvalidArgument", "No such storage class.", ArgumentValue=wanted)
        return headers

    async def body(self) -> bytes:
        """Read a small body, an XML document.

        Raises:
            OssError: MalformedXML if it is too large to be one; InvalidDigest.
        """
        try:
            async with bodies.body(self.http, most=MAX_BODY_BYTES) as body:
                digest = hashlib.md5(body, usedforsecurity=False).digest()
                if self.expected_md5() not in (None, digest):
                    raise OssError("InvalidDigest")
                return body
        except web.HTTPRequestEntityTooLarge as error:
            raise OssError("MalformedXML") from error
        except web.HTTPServiceUnavailable as error:
            raise OssError("ServiceUnavailable") from error

    def expected_md5(self) -> bytes | None:
        """Return the digest in Content-MD5.

        Raises:
            OssError: InvalidDigest.
        """
        value = self.header("Content-MD5")
        if not value:
            return None
        try:
            digest = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise OssError("InvalidDigest") from error
        if len(digest) != 16:
            raise OssError("InvalidDigest")
        return digest

    def check_body(self, digest: Digest) -> None:
        """Compare the body that arrived with its headers.

        Raises:
            OssError: IncompleteBody or InvalidDigest.
        """
        length = self.http.content_length
        if length is not None and length != digest.size:
            raise OssError("IncompleteBody")
        expected = self.expected_md5()
        if expected is not None and expected != digest.md5:
            raise OssError("InvalidDigest")


def check_length(request: OssRequest) -> None:
    """Refuse a body before it is sent.

    Raises:
        OssError: EntityTooLarge or MissingContentLength.
    """
    length = request.http.content_length
    if length is None and "chunked" not in request.header("Transfer-Encoding").lower():
        raise OssError("MissingContentLength")
    if length is not None and length > MAX_OBJECT_BYTES:
        raise OssError("EntityTooLarge", MaxSizeAllowed=str(MAX_OBJECT_BYTES))


def xml(root: str, children: Value, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer 200 with a document."""
    return web.Response(
        body=document(root, children), headers=headers, content_type="application/xml"
    )


def empty(status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer without a body."""
    return web.Response(status=status, headers=headers)


def quoted(etag: str) -> str:
    """Return an ETag in quotes, as OSS writes it everywhere."""
    return f'"{etag}"'


def storage_class(headers: Mapping[str, str]) -> str:
    """Return the storage class among an object's or an upload's headers."""
    return headers.get("x-oss-storage-class", "Standard")


def body_headers(digest: Digest, etag: str) -> dict[str, str]:
    """Return the headers that confirm a body."""
    headers = {"ETag": quoted(etag), "x-oss-hash-crc64ecma": str(digest.crc)}
    if digest.md5:
        headers["Content-MD5"] = base64.b64encode(digest.md5).decode()
    return headers


def meta_headers(record: ObjectRecord) -> dict[str, str]:
    """Return the headers that GetObjectMeta gives."""
    return {
        "ETag": quoted(record.etag),
        "Last-Modified": formatdate(record.mtime_ns // 10**9, usegmt=True),
        "x-oss-hash-crc64ecma": str(record.crc),
    }


def object_headers(record: ObjectRecord) -> dict[str, str]:
    """Return the headers that HeadObject and GetObject give; stored names are lower-case."""
    return {
        "content-type": "application/octet-stream",
        **record.headers,
        **meta_headers(record),
        "Accept-Ranges": "bytes",
        "x-oss-object-type": record.kind,
        "x-oss-storage-class": storage_class(record.headers),
    }

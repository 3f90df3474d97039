"""OSS's XML: answers are written without a namespace, request bodies read strictly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Union
from xml.etree import ElementTree

from qwenkit.sandbox.oss.errors import OssError

Value = Union[str, int, bool, "Children"]
Children = Sequence[tuple[str, Value]]

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A bare carriage return would be read back as a line feed.
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


def document(root: str, children: Value) -> bytes:
    """Render an answer. Booleans become ``true``/``false``, characters XML cannot hold U+FFFD."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_element(root, children)}'.encode()


def _element(tag: str, value: Value) -> str:
    if isinstance(value, bool):
        return f"<{tag}>{str(value).lower()}</{tag}>"
    if isinstance(value, str | int):
        return f"<{tag}>{_text(str(value))}</{tag}>"
    return f"<{tag}>{''.join(_element(*child) for child in value)}</{tag}>"


def _text(value: str) -> str:
    cleaned = _ILLEGAL.sub("\ufffd", value)
    return "".join(_ESCAPES.get(character, character) for character in cleaned)


def timestamp(seconds: float) -> str:
    """Return a time as OSS writes it; its clients accept no other form."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def parse_delete(body: bytes) -> tuple[bool, list[str]]:
    """Read a DeleteMultipleObjects body: whether to answer quietly, and the keys.

    Raises:
        OssError: MalformedXML.
    """
    root = _parse(body, "Delete")
    keys = [_required(item, "Key") for item in root.findall("Object")]
    if not 1 <= len(keys) <= 1000:
        raise OssError("MalformedXML", f"Between 1 and 1000 keys may be deleted, not {len(keys)}.")
    return (root.findtext("Quiet") or "").strip().lower() == "true", keys


def parse_complete(body: bytes) -> list[tuple[int, str]]:
    """Read a CompleteMultipartUpload body: part numbers with their ETags, unquoted.

    Raises:
        OssError: MalformedXML.
    """
    parts = []
    for item in _parse(body, "CompleteMultipartUpload").findall("Part"):
        number = _required(item, "PartNumber").strip()
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise OssError("MalformedXML")
        parts.append((int(number), _required(item, "ETag").strip().strip('"')))
    if not parts:
        raise OssError("MalformedXML")
    return parts


def _parse(body: bytes, root: str) -> ElementTree.Element:
    # A document type is never needed and could declare entities that expand without end.
    if b"<!DOCTYPE" in body:
        raise OssError("MalformedXML")
    try:
        tree = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError) as error:
        raise OssError("MalformedXML") from error
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    if tree.tag != root:
        raise OssError("MalformedXML")
    return tree


def _required(parent: ElementTree.Element, tag: str) -> str:
    text = parent.findtext(tag)
    if not text:
        raise OssError("MalformedXML")
    return text

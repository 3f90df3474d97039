"""Decode Kubernetes' protobuf, in which kubectl and Go clients send built-in kinds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from qwenkit.sandbox.kube.api_error import ApiError
from qwenkit.sandbox.kube.objects import Object, timestamp
from qwenkit.sandbox.kube.schema.protobuf_messages import fields, is_message

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}

Value = int | bytes


def decode(content: bytes) -> Object:
    """Return the object of a body: an envelope with the kind, and the object's message.

    Raises:
        ApiError: 415, ``protobuf_messages`` does not have the kind or field.
        ValueError: it is no protobuf.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("the body is no protobuf of Kubernetes")
    envelope = dict(_fields(content[len(_MAGIC) :]))
    type_meta = dict(_fields(_bytes(envelope.get(1, b""))))
    api_version, kind = (_bytes(type_meta.get(number, b"")).decode() for number in (1, 2))
    if not is_message(kind):
        raise _left_out(f"the kind {kind}")
    return {"apiVersion": api_version, "kind": kind} | _message(kind, _bytes(envelope.get(2, b"")))


def _message(name: str, content: bytes) -> Object:
    known, found = fields(name), Object()
    for number, value in _fields(content):
        field = known.get(number)
        if field is None:
            if value:
                raise _left_out(f"field {number} of {name}")
        elif field.form == "list":
            found.setdefault(field.name, []).append(_value(field.type, value))
        elif field.form == "dict":
            entry = dict(_fields(_bytes(value)))
            key = _bytes(entry.get(1, b"")).decode()
            found.setdefault(field.name, {})[key] = _value(field.type, entry.get(2, b""))
        elif field.form == "inline":
            found |= _message(field.type, _bytes(value))
        elif field.type != "-" and (value or field.optional or is_message(field.type)):
            found[field.name] = _value(field.type, value)
    return found


def _value(kind: str, value: Value) -> Any:
    if is_message(kind):
        return _message(kind, _bytes(value))
    return _SCALARS[kind](value)


def _fields(content: bytes) -> Iterator[tuple[int, Value]]:
    """Yield the number and the value of every field of a message."""
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(content, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _varint(content, position)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(content):
            raise ValueError("unexpected end of the message")
        yield number, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(content) or shift > 63:
            raise ValueError("a number does not end")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _bytes(value: Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes where a number belongs")
    return value - 2**64 if value >= 2**63 else value


def _time(value: Value) -> str | None:
    """Return a timestamp; Go's zero time is an empty message, and null in JSON."""
    seconds = dict(_fields(_bytes(value))).get(1)
    return None if seconds is None else timestamp(datetime.fromtimestamp(_int(seconds), UTC))


def _int_or_string(value: Value) -> int | str:
    parts = dict(_fields(_bytes(value)))
    return _bytes(parts.get(3, b"")).decode() if parts.get(1) else _int(parts.get(2, 0))


_SCALARS: dict[str, Callable[[Value], Any]] = {
    "str": lambda value: _bytes(value).decode(),
    "bytes": lambda value: base64.b64encode(_bytes(value)).decode(),
    "bool": bool,
    "int": _int,
    "datetime": _time,
    "Quantity": lambda value: _bytes(dict(_fields(_bytes(value))).get(1, b"")).decode(),
    "object": _int_or_string,
}


def _left_out(what: str) -> ApiError:
    text = (
        "the body of the request was in an unknown format - accepted media types include: "
        f"application/json, application/yaml: {what} in protobuf is not part of the sandbox; "
        "send JSON, as kubectl apply does"
    )
    return ApiError(415, "UnsupportedMediaType", text)

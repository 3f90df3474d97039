"""Decode request bodies in JSON, YAML and protobuf; accept only what JSON can express."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from qwenkit.sandbox.kube.api_error import bad_request
from qwenkit.sandbox.kube.schema import protobuf
from qwenkit.untrusted.parsing import parse_json, parse_yaml

APPLY, YAML_TYPE = "application/apply-patch+yaml", "application/yaml"
_MOST_YAML_BYTES = 2**19
_MOST_DEPTH = 100
TOO_DEEP = "error decoding the body: it is nested too deeply"


async def decode(content: bytes, content_type: str) -> Any:
    """Return the JSON value of a JSON, YAML or protobuf body; YAML is read in a thread.

    Raises:
        ApiError: 415, protobuf of a kind that is not supported; 400, the body does not parse or
            is not JSON: NaN, half a surrogate pair, a recursive value, aliases of YAML (which
            can expand to gigabytes), more than 100 levels.
    """
    try:
        if content_type == protobuf.CONTENT_TYPE:
            return protobuf.decode(content)
        value = await _parsed(content.decode(), is_yaml=content_type in (APPLY, YAML_TYPE))
        if is_deep(value):
            raise bad_request(TOO_DEEP)
        return _plain(value)
    except RecursionError:
        raise bad_request(TOO_DEEP) from None
    except (ValueError, TypeError, OverflowError) as error:
        # Codec errors repeat their input, which may be a Secret.
        why = str(error) if type(error) in (ValueError, json.JSONDecodeError) else "not UTF-8"
        raise bad_request(f"error decoding the body: {why}") from error


async def _parsed(text: str, *, is_yaml: bool) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        if not is_yaml:
            raise
    if len(text) > _MOST_YAML_BYTES:
        raise ValueError(f"more than {_MOST_YAML_BYTES} bytes of YAML; send JSON")
    try:
        return await asyncio.to_thread(parse_yaml, text)
    except ValueError as error:
        raise ValueError(f"the body is no YAML document: {error}") from None


def is_deep(value: Any) -> bool:
    """Return whether a value has more levels than any object of an API."""
    level = [value]
    for _ in range(_MOST_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True


def _plain(value: Any) -> Any:
    """Return a value after a round trip through JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=lambda day: str(day))
    text.encode()
    return json.loads(text)

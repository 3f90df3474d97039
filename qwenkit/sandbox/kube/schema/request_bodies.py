"""Decode request bodies in JSON, YAML and protobuf; accept only what JSON can express."""

from __future__ import annotations

import json
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.tokens import AliasToken

from qwenkit.sandbox.kube.api_error import bad_request
from qwenkit.sandbox.kube.schema import protobuf

APPLY, YAML_TYPE = "application/apply-patch+yaml", "application/yaml"


def decode(content: bytes, content_type: str) -> Any:
    """Return the JSON value of a JSON, YAML or protobuf body.

    Raises:
        ApiError: 415, protobuf of a kind that is not supported; 400, the body does not parse or
            is not JSON: NaN, half a surrogate pair, a recursive value, aliases of YAML (which
            can expand to gigabytes).
    """
    try:
        if content_type == protobuf.CONTENT_TYPE:
            return protobuf.decode(content)
        return _plain(_parsed(content.decode(), is_yaml=content_type in (APPLY, YAML_TYPE)))
    except RecursionError:
        raise bad_request("error decoding the body: it is nested too deeply") from None
    except YAMLError as error:
        raise bad_request("error decoding YAML: the body is no YAML document") from error
    except (ValueError, TypeError, OverflowError) as error:
        # Codec errors repeat their input, which may be a Secret.
        why = str(error) if type(error) in (ValueError, json.JSONDecodeError) else "not UTF-8"
        raise bad_request(f"error decoding the body: {why}") from error


def _parsed(text: str, *, is_yaml: bool) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if not is_yaml:
            raise
    if "*" in text and any(isinstance(token, AliasToken) for token in YAML(typ="safe").scan(text)):
        raise ValueError("YAML aliases are not part of the sandbox; write the value out")
    return YAML(typ="safe", pure=True).load(text)


def _plain(value: Any) -> Any:
    """Return a value after a round trip through JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=lambda day: str(day))
    text.encode()
    return json.loads(text)

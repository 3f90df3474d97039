"""OpenAPI v2 in the protobuf in which kubectl before 1.27 asks for it, and later ones for lists.

Only what they read is there: schemas, patch strategies, and that a PATCH takes its parameters.
The numbers are those of gnostic's ``openapi.v2``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

# Clients ask for "v2@v1.0", which is no media type that they could read in an answer.
CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_V3_REF, _REF = "#/components/schemas/", "#/definitions/"

Schema = Mapping[str, Any]


def encode(documents: Iterable[Schema], server: str) -> bytes:
    """Return the one v2 document that stands for all groups' v3 documents."""
    paths, definitions = [], []
    for document in documents:
        for path, operations in document["paths"].items():
            item = _field(8, _operation(operations["patch"]))
            paths.append(_field(2, _named(path, item)))
        for name, schema in document["components"]["schemas"].items():
            definitions.append(_field(1, _named(name, _schema(schema))))
    info = _field(1, "Kubernetes (qwenkit sandbox)") + _field(2, server)
    content = _field(8, b"".join(paths)) + _field(9, b"".join(definitions))
    return _field(1, "2.0") + _field(2, info) + content


def _operation(operation: Schema) -> bytes:
    parameters = (
        _field(2, parameter["in"]) + _field(4, parameter["name"]) + _field(6, "string")
        for parameter in operation["parameters"]
    )
    # A parameter of the query, which is none of the body.
    wrapped = (_field(8, _field(1, _field(2, _field(3, one)))) for one in parameters)
    return b"".join(wrapped) + _extensions(13, operation)


def _schema(schema: Schema) -> bytes:
    if "allOf" in schema:
        schema = {**schema, **schema["allOf"][0]}
    content = b""
    if reference := schema.get("$ref", ""):
        content += _field(1, reference.replace(_V3_REF, _REF))
    content += _field(2, schema.get("format", "")) + _field(4, schema.get("description", ""))
    content += b"".join(_field(19, name) for name in schema.get("required", ()))
    if "additionalProperties" in schema:
        content += _field(21, _field(1, _schema(schema["additionalProperties"])))
    # v2 has no choice of types: text stands for numbers too.
    if kind := "string" if "oneOf" in schema else schema.get("type"):
        content += _field(22, _field(1, kind))
    if "items" in schema:
        content += _field(23, _field(1, _schema(schema["items"])))
    properties = schema.get("properties", {}).items()
    if properties:
        fields = (_field(1, _named(name, _schema(below))) for name, below in properties)
        content += _field(25, b"".join(fields))
    return content + _extensions(31, schema)


def _extensions(number: int, schema: Schema) -> bytes:
    """Return the ``x-…`` entries; JSON is the YAML that they are kept in."""
    return b"".join(
        _field(number, _named(name, _field(2, json.dumps(value))))
        for name, value in schema.items()
        if name.startswith("x-kubernetes-") and name != "x-kubernetes-action"
    )


def _named(name: str, value: bytes) -> bytes:
    return _field(1, name) + _field(2, value)


def _field(number: int, value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])

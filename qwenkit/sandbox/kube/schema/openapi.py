"""The OpenAPI v3 documents, which ``kubectl explain`` and ``kubectl apply`` read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from qwenkit.sandbox.kube.kinds import Kinds, ResourceKind
from qwenkit.sandbox.kube.schema import knative_openapi
from qwenkit.sandbox.kube.schema.built_in_kinds import (
    ModelField,
    about,
    fields,
    is_model,
    model_of,
    title,
)
from qwenkit.sandbox.kube.schema.fields import SET, list_keys

Schema = dict[str, Any]

_SCALARS: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer", "format": "int32"},
    "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "object": {"type": "object"},
}
# Types of Kubernetes that are strings or objects in the models.
_NAMED: dict[str, Schema] = {
    "Time": {"type": "string", "format": "date-time"},
    "Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "IntOrString": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
}
_INT_OR_STRING = frozenset({"maxSurge", "maxUnavailable", "port", "targetPort"})
_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string"}}
    for name in ("dryRun", "fieldManager", "fieldValidation", "force")
]


def document(kinds: Sequence[ResourceKind], root: str, server: str) -> bytes:
    """Return the document of the kinds under a path, e.g. ``apis/apps/v1``, as JSON."""
    group, _, version = root.removeprefix("apis/").rpartition("/")
    prefix = f"io.k8s.api.{'core' if group == 'api' else group.partition('.')[0]}.{version}."
    schemas = {**_NAMED, **_models([model_of(kind) for kind in kinds if not kind.custom])}
    for kind in kinds:
        schema = knative_openapi.schema(kind) if kind.custom else schemas[kind.kind]
        schemas[kind.kind] = {**schema, "x-kubernetes-group-version-kind": [_gvk(kind)]}
    if any(kind.custom for kind in kinds):
        schemas |= _models(["V1ObjectMeta"])
    body = {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes (qwenkit sandbox)", "version": server},
        "paths": dict(map(_path, kinds)),
        "components": {"schemas": {prefix + name: schema for name, schema in schemas.items()}},
    }
    return json.dumps(body).replace(_REF, _REF + prefix).encode()


_REF = "#/components/schemas/"


def _gvk(kind: ResourceKind) -> Schema:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _path(kind: ResourceKind) -> tuple[str, Schema]:
    space = "/namespaces/{namespace}" if kind.namespaced else ""
    operation = {
        "parameters": _PARAMETERS,
        "responses": {},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": _gvk(kind),
    }
    return f"/{kind.root}{space}/{kind.plural}/{{name}}", {"patch": operation}


def _models(roots: list[str]) -> dict[str, Schema]:
    """Return the schemas of models and of all models that they refer to."""
    found: dict[str, Schema] = {}
    todo = list(roots)
    while todo:
        model = todo.pop()
        if title(model) not in found:
            found[title(model)] = _schema(model)
            todo += [field.type for field in fields(model) if is_model(field.type)]
    return found


@cache
def _schema(model: str) -> Schema:
    declared = fields(model)
    schema: Schema = {
        "type": "object",
        "description": about(model),
        "properties": {
            field.name: {**_property(field), **_merging(model, field)} for field in declared
        },
    }
    required = [field.name for field in declared if field.required]
    return schema | ({"required": required} if required else {})


def _merging(model: str, field: ModelField) -> Schema:
    """Return by which key a list merges, if its items have that key."""
    owner = _owners()["Service" if model == "V1ServiceSpec" else "Pod"]
    keys = list_keys(owner, field.name) if field.form == "list" else None
    if keys == SET:
        return {"x-kubernetes-patch-strategy": "merge"}
    items = fields(field.type) if keys and is_model(field.type) else ()
    if not keys or keys[0] not in [one.name for one in items]:
        return {}
    strategy = "merge,retainKeys" if field.name == "volumes" else "merge"
    return {"x-kubernetes-patch-merge-key": keys[0], "x-kubernetes-patch-strategy": strategy}


_owners = cache(Kinds)


def _property(field: ModelField) -> Schema:
    text = {"description": field.description} if field.description else {}
    item = _type(field)
    if field.form == "list":
        return {"type": "array", "items": item, **text}
    if field.form == "dict":
        return {"type": "object", "additionalProperties": item, **text}
    # A reference must be alone in its object: siblings are ignored.
    return {"allOf": [item], **text} if "$ref" in item else {**item, **text}


def _type(field: ModelField) -> Schema:
    if field.is_quantity:
        return {"$ref": f"{_REF}Quantity"}
    if field.type == "object" and field.name in _INT_OR_STRING:
        return {"$ref": f"{_REF}IntOrString"}
    if field.type == "datetime":
        return {"$ref": f"{_REF}Time"}
    if is_model(field.type):
        return {"$ref": f"{_REF}{title(field.type)}"}
    return _SCALARS[field.type]

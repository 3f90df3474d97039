"""OpenAPI of Knative's kinds: the fields of ``schema``, explained.

A revision's containers and volumes are those of a pod; what they mean is read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.schema import builtin
from qwenkit.sandbox.kube.schema.builtin import Field
from qwenkit.sandbox.kube.schema.fields import fields_of

_ROOT, _TEMPLATE = "V1Pod", "V1PodTemplateSpec"
_KINDS = {
    "KnativeService": "Service manages a Route and a Configuration: one workload under one URL, "
    "with a new Revision for every change of its template.",
    "Configuration": "Configuration is the latest template of a workload, and what Revisions "
    "were made of it.",
    "Revision": "Revision is one version of a workload, which never changes.",
    "Route": "Route splits the requests of one URL over Revisions.",
    "PodAutoscaler": "PodAutoscaler scales a Revision's pods by the metric and target of its "
    "annotations.",
    "ServerlessService": "ServerlessService sends a Revision's requests to its pods (Serve) or "
    "through the activator (Proxy).",
    "Metric": "Metric says which metric the autoscaler collects of a Revision.",
    "Ingress": "Ingress is what the gateway is to be programmed with.",
    "Certificate": "Certificate asks for a TLS certificate of a domain.",
    "ClusterDomainClaim": "ClusterDomainClaim keeps a domain for one namespace.",
}
# Fields of their own, with their types; all others are a pod's.
_FIELDS: Mapping[str, tuple[str, str]] = {
    "spec": ("object", "What is wanted."),
    "status": ("object", "What there is, as the controllers see it."),
    "template": ("object", "The template of the next Revision; any change of it makes one."),
    "traffic": ("array", "Which share of the requests goes to which Revision; 100 in all."),
    "containerConcurrency": (
        "integer",
        "The most requests that one pod works on at a time; more wait. 0, the default: no limit.",
    ),
    "timeoutSeconds": ("integer", "The longest that a request may take, its answer included."),
    "responseStartTimeoutSeconds": (
        "integer",
        "The longest that a request may wait for the first byte of its answer.",
    ),
    "idleTimeoutSeconds": ("integer", "The longest that a request may go without a byte."),
    "configurationName": ("string", "The Configuration whose latest ready Revision is meant."),
    "revisionName": ("string", "The Revision that is meant."),
    "latestRevision": ("boolean", "Whether the latest ready Revision is meant, as it moves on."),
    "percent": ("integer", "The share of the requests, 0 to 100."),
    "tag": ("string", "A name under which this target has a URL of its own."),
    "url": ("string", "Where requests go."),
    "address": ("object", "Where requests from inside the cluster go."),
    "conditions": ("array", "What has been reached: type, status, reason and message of each."),
    "observedGeneration": ("integer", "The generation that this status is about."),
    "latestCreatedRevisionName": ("string", "The Revision of the latest template."),
    "latestReadyRevisionName": ("string", "The latest Revision that became ready."),
    "actualReplicas": ("integer", "How many pods are ready."),
    "desiredReplicas": ("integer", "How many pods the autoscaler wants."),
    "actualScale": ("integer", "How many pods are ready."),
    "desiredScale": ("integer", "How many pods the autoscaler wants; -1 before it knows."),
}
_STATUS = ("conditions", "observedGeneration")
_LATEST = ("latestCreatedRevisionName", "latestReadyRevisionName")
_STATUSES = {
    "KnativeService": (*_STATUS, *_LATEST, "address", "traffic", "url"),
    "Configuration": (*_STATUS, *_LATEST),
    "Revision": (*_STATUS, "actualReplicas", "desiredReplicas"),
    "Route": (*_STATUS, "address", "traffic", "url"),
    "PodAutoscaler": (*_STATUS, "actualScale", "desiredScale"),
}
_SCALARS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of a Knative kind; below what no field declares, anything goes."""
    declared = dict(fields_of(kind) or dict.fromkeys(("apiVersion", "kind", "metadata", "spec")))
    declared["status"] = dict.fromkeys(_STATUSES.get(kind.name, _STATUS))
    return {**_object(declared, _ROOT), "description": _KINDS[kind.name]}


def _object(declared: Mapping[str, Any], model: str) -> dict[str, Any]:
    known = {field.name: field for field in builtin.fields(model)} if model else {}
    properties = {
        name: _property(name, below, known.get(name)) for name, below in sorted(declared.items())
    }
    return {"type": "object", "properties": properties}


def _property(name: str, below: Any, field: Field | None) -> dict[str, Any]:
    kind, text = _FIELDS.get(name, ("object", ""))
    said = {"description": text or (field.description if field else "")}
    model = _TEMPLATE if name == "template" else field.type if field else ""
    if name == "metadata":
        return {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}], **said}
    if isinstance(below, list):
        return {"type": "array", "items": _object(below[0], model), **said}
    if isinstance(below, Mapping):
        return {**_object(below, "" if name == "status" else model), **said}
    if field is None or name in _FIELDS:
        items = {"items": {"type": "object"}} if kind == "array" else {}
        return {"type": kind, **items, **said}
    item = {"type": _SCALARS.get(field.type, "object")}
    if field.form == "list":
        return {"type": "array", "items": item, **said}
    if field.form == "dict":
        return {"type": "object", "additionalProperties": item, **said}
    return {**item, **said}

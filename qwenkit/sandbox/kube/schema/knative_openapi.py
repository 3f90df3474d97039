"""OpenAPI of Knative's kinds, for ``kubectl explain``: fields, types and what they mean.

The fields and types of a spec are those of ``admission.schema.knative``. What the fields of a pod
mean is read from the official client's models; the other descriptions are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.admission.schema.knative import SPECS
from qwenkit.admission.schema.types import (
    INT32,
    INT64,
    STRING,
    ListOf,
    MapOf,
    Opaque,
    Scalar,
    Struct,
    Type,
)
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.schema import built_in_kinds

_KINDS = {
    "KnativeService": "Service manages a Route and a Configuration: one workload under one URL, "
    "with a new Revision for every change of its template.",
    "Configuration": "Configuration holds the latest template of a workload and names the "
    "Revisions made from it.",
    "Revision": "Revision is one version of a workload; it never changes.",
    "Route": "Route splits the requests to one URL over Revisions.",
    "PodAutoscaler": "PodAutoscaler scales a Revision's pods by the metric and target of its "
    "annotations.",
    "ServerlessService": "ServerlessService sends a Revision's requests to its pods (Serve) or "
    "through the activator (Proxy).",
    "Metric": "Metric names the metric of a Revision that the autoscaler collects.",
    "Ingress": "Ingress is the routing that the gateway is configured with.",
    "Certificate": "Certificate requests a TLS certificate for a domain.",
    "ClusterDomainClaim": "ClusterDomainClaim reserves a domain for one namespace.",
}
_DESCRIPTIONS = {
    "spec": "What is wanted.",
    "status": "What the controllers observe.",
    "template": "The template of the next Revision; every change of it makes one.",
    "traffic": "How the requests are split over Revisions; the percentages add up to 100.",
    "containerConcurrency": "The most requests that one pod handles at a time; more requests "
    "wait. 0, the default, means no limit.",
    "timeoutSeconds": "The longest time for a request and its whole answer.",
    "responseStartTimeoutSeconds": "The longest wait for the first byte of the answer.",
    "idleTimeoutSeconds": "The longest time without a byte of the answer.",
    "configurationName": "The Configuration whose latest ready Revision gets the requests.",
    "revisionName": "The Revision that gets the requests.",
    "latestRevision": "Whether the latest ready Revision gets the requests.",
    "percent": "The share of the requests, 0 to 100.",
    "tag": "A name under which this target has its own URL.",
    "url": "Where requests go.",
    "address": "Where requests from inside the cluster go.",
    "conditions": "Type, status, reason and message of each condition.",
    "observedGeneration": "The generation that this status describes.",
    "latestCreatedRevisionName": "The Revision of the latest template.",
    "latestReadyRevisionName": "The latest Revision that became ready.",
    "actualReplicas": "How many pods are ready.",
    "desiredReplicas": "How many pods the autoscaler wants.",
    "actualScale": "How many pods are ready.",
    "desiredScale": "How many pods the autoscaler wants; -1 until its first decision.",
}
_OBJECT, _OBJECTS = Opaque(""), Opaque("", list)
_STATUS: Mapping[str, Type] = {"conditions": _OBJECTS, "observedGeneration": INT64}
_LATEST = dict.fromkeys(("latestCreatedRevisionName", "latestReadyRevisionName"), STRING)
_ROUTED: Mapping[str, Type] = {"address": _OBJECT, "traffic": _OBJECTS, "url": STRING}
_STATUSES: Mapping[str, Mapping[str, Type]] = {
    "KnativeService": {**_STATUS, **_LATEST, **_ROUTED},
    "Configuration": {**_STATUS, **_LATEST},
    "Revision": {**_STATUS, "actualReplicas": INT32, "desiredReplicas": INT32},
    "Route": {**_STATUS, **_ROUTED},
    "PodAutoscaler": {**_STATUS, "actualScale": INT32, "desiredScale": INT32},
}
_SCALARS = {"bool": "boolean", "int32": "integer", "int64": "integer"}
_MODELS = {"v1.RevisionSpec": "V1PodSpec"}


def schema(kind: ResourceKind) -> dict[str, Any]:
    """Return the schema of a Knative kind; parts that are not described are open."""
    fields: Mapping[str, Type] = {
        **dict.fromkeys(("apiVersion", "kind"), STRING),
        "metadata": _OBJECT,
        "spec": SPECS.get(kind.kind, _OBJECT),
        "status": Struct("", _STATUSES.get(kind.name, _STATUS)),
    }
    return {**_schema(Struct("v1.Pod", fields)), "description": _KINDS[kind.name]}


def _schema(of: Type) -> dict[str, Any]:
    match of:
        case Struct(open=False):
            model = _MODELS.get(of.go, of.go.replace("v1.", "V1"))
            described = built_in_kinds.fields(model) if built_in_kinds.is_model(model) else ()
            texts = {field.name: field.description for field in described}
            properties = {
                name: _property(name, field, texts.get(name, ""))
                for name, field in sorted(of.fields.items())
            }
            return {"type": "object", "properties": properties}
        case ListOf():
            return {"type": "array", "items": _schema(of.item)}
        case MapOf():
            return {"type": "object", "additionalProperties": _schema(of.value)}
        case Opaque(kind=kind) if kind is list:
            return {"type": "array", "items": {"type": "object"}}
        case Scalar():
            return {"type": _SCALARS.get(of.go, "string")}
        case _:
            return {"type": "object"}


def _property(name: str, of: Type, description: str) -> dict[str, Any]:
    text = {"description": _DESCRIPTIONS.get(name, description)}
    if name == "metadata":
        return {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}], **text}
    return {**_schema(of), **text}

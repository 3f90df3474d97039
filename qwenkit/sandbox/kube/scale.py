"""The ``scale`` subresource: the replicas of a Deployment or ReplicaSet as a ``Scale``."""

from __future__ import annotations

from typing import Any

from qwenkit.admission import field_errors
from qwenkit.sandbox.kube.api_error import bad_request, invalid
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at

SCALE = ResourceKind("Scale", "Scale", "autoscaling", "v1", "scales", "scale")


def scale_of(obj: Object) -> Object:
    """Return the ``Scale`` of an object."""
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = at(obj, "spec", "selector", "matchLabels") or {}
    return {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {key: obj["metadata"][key] for key in shown},
        "spec": {"replicas": at(obj, "spec", "replicas") or 0},
        "status": {
            "replicas": at(obj, "status", "replicas") or 0,
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def scaled(live: Object, scale: Any) -> Object:
    """Return ``live`` with the replicas of a ``Scale``.

    Raises:
        ApiError: 400, it is no Scale; 422, the number is negative.
    """
    if not isinstance(scale, dict) or not isinstance(scale.get("metadata") or {}, dict):
        raise bad_request("the object provided is unrecognized: it must be a Scale")
    replicas = at(scale, "spec", "replicas") or 0
    if not isinstance(replicas, int) or isinstance(replicas, bool) or abs(replicas) >= 2**31:
        raise bad_request(
            'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal into Go '
            "struct field ScaleSpec.spec.replicas of type int32"
        )
    if replicas < 0:
        rule = "must be greater than or equal to 0"
        error = field_errors.invalid("spec.replicas", replicas, rule)
        raise invalid(SCALE, live["metadata"]["name"], [error])
    version = at(scale, "metadata", "resourceVersion") or live["metadata"]["resourceVersion"]
    return {
        **live,
        "metadata": {**live["metadata"], "resourceVersion": version},
        "spec": {**live["spec"], "replicas": replicas},
    }

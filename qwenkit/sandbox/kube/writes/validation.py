"""What the API server refuses in a write: names, required and immutable fields.

The rules of pods are in ``admission.pod.validation``, those of workloads in ``workload_rules``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from qwenkit.admission.field_errors import (
    Errors,
    FieldError,
    broken,
    forbidden,
    invalid,
    required,
    unsupported,
)
from qwenkit.admission.metadata import NameRule, metadata_errors
from qwenkit.admission.pod.validation import pod_spec_errors
from qwenkit.admission.schema import names, quantities
from qwenkit.sandbox.kube import api_error
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.writes import role_rules, workload_rules

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_RECLAIM = ("Delete", "Recycle", "Retain")
_VOLUME_MODES = ("Block", "Filesystem")
_NAME_RULES: dict[str, NameRule] = {
    "Namespace": names.dns_1123_label,
    "Service": names.dns_1035_label,
    **dict.fromkeys(role_rules.KINDS, role_rules.path_segment),
}
_NOT_SOURCES = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


def validate(kind: ResourceKind, obj: Object, old: Object | None = None) -> None:
    """Check an object that is created, or that replaces ``old``.

    Raises:
        ApiError: 422 with one cause for each broken rule.
    """
    name_rule = _NAME_RULES.get(kind.name, names.dns_1123_subdomain)
    errors = metadata_errors(obj["metadata"], name_rule=name_rule)
    if rules := _RULES.get(kind.name):
        errors += rules(obj)
    if old is not None:
        errors += _new_finalizers(obj, old)
        if rules_of_update := _UPDATE_RULES.get(kind.name):
            errors += rules_of_update(obj, old)
    if errors:
        raise api_error.invalid(kind, obj["metadata"].get("name", ""), errors)


def decode_secret(obj: Object) -> None:
    """Check that a Secret's data is base64, as decoding it does before any validation.

    Raises:
        ApiError: 400; the message never repeats the data.
    """
    for value in (obj.get("data") or {}).values():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise api_error.bad_request(
                'Secret in version "v1" cannot be handled as a Secret: illegal base64 data'
            ) from error


def _quantity(field: str, value: Any) -> Errors:
    if quantities.parse(value) <= 0:
        yield invalid(field, str(value), "must be greater than zero")


def _access_modes(modes: Any, *, why: str) -> Errors:
    if not modes:
        yield required("spec.accessModes", why)
    for mode in modes or []:
        if mode not in _ACCESS_MODES:
            yield unsupported("spec.accessModes", mode, _ACCESS_MODES)


def _volume(obj: Object) -> Errors:
    spec = obj.get("spec") or {}
    yield from _access_modes(spec.get("accessModes"), why="")
    capacity = spec.get("capacity") or {}
    if "storage" not in capacity:
        message = 'Unsupported value: supported values: "storage"'
        unknown = FieldError("FieldValueNotSupported", "spec.capacity", message)
        yield unknown if capacity else required("spec.capacity")
    else:
        yield from _quantity("spec.capacity[storage]", capacity["storage"])
    sources = sorted(spec.keys() - _NOT_SOURCES)
    if not sources:
        yield required("spec", "must specify a volume type")
    for extra in sources[1:]:
        yield forbidden(f"spec.{extra}", "may not specify more than 1 volume type")
    csi = spec.get("csi")
    if isinstance(csi, dict):
        yield from (required(f"spec.csi.{f}") for f in ("driver", "volumeHandle") if not csi.get(f))
        for name, reference in csi.items():
            if name.endswith("SecretRef") and isinstance(reference, dict):
                yield from (
                    required(f"spec.csi.{name}.{part}")
                    for part in ("name", "namespace")
                    if not reference.get(part)
                )
    policy = spec.get("persistentVolumeReclaimPolicy", "Retain")
    if policy not in _RECLAIM:
        yield unsupported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    yield from _volume_mode(spec)


def _volume_mode(spec: Object) -> Errors:
    mode = spec.get("volumeMode", "Filesystem")
    if mode not in _VOLUME_MODES:
        yield unsupported("spec.volumeMode", mode, _VOLUME_MODES)


def _claim(obj: Object) -> Errors:
    spec = obj.get("spec") or {}
    yield from _access_modes(spec.get("accessModes"), why="at least 1 access mode is required")
    storage = at(spec, "resources", "requests", "storage")
    if storage is None:
        yield required("spec.resources[storage]")
    else:
        yield from _quantity("spec.resources[storage]", storage)
    yield from _volume_mode(spec)


def _data_keys(obj: Object) -> Errors:
    for field in ("data", "binaryData", "stringData"):
        for key in obj.get(field) or {}:
            yield from broken(f"{field}[{key}]", key, names.config_key(key))


def _pod(obj: Object) -> Errors:
    return pod_spec_errors(obj.get("spec") or {})


def _service(obj: Object) -> Errors:
    spec = obj.get("spec") or {}
    headless = spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName"
    if not spec.get("ports") and not headless:
        yield required("spec.ports")
    for position, port in enumerate(spec.get("ports") or []):
        number = port.get("port")
        if not isinstance(number, int) or not 0 < number < 65536:
            rule = "must be between 1 and 65535, inclusive"
            yield invalid(f"spec.ports[{position}].port", number or 0, rule)


def _new_finalizers(obj: Object, old: Object) -> Errors:
    """Yield finalizers that are added to an object that is being deleted."""
    before, after = (one["metadata"].get("finalizers") or [] for one in (old, obj))
    if "deletionTimestamp" in old["metadata"] and (added := [f for f in after if f not in before]):
        shown = "[]string{" + ", ".join(f'"{one}"' for one in added) + "}"
        why = "no new finalizers can be added if the object is being deleted, found new finalizers"
        yield forbidden("metadata.finalizers", f"{why} {shown}")


def _fixed_data(obj: Object, old: Object) -> Errors:
    if old.get("immutable"):
        fields = [f for f in ("data", "binaryData") if obj.get(f) != old.get(f)]
        yield from (forbidden(f, "field is immutable when `immutable` is set") for f in fields)


def _fixed_secret(obj: Object, old: Object) -> Errors:
    yield from _fixed_data(obj, old)
    if obj.get("type", "Opaque") != old.get("type"):
        yield invalid("type", obj.get("type"), "field is immutable")


def _fixed_claim(obj: Object, old: Object) -> Errors:
    if _fixed(obj, old) != _fixed(old, old):
        why = "spec is immutable after creation except resources.requests and"
        yield forbidden("spec", f"{why} volumeAttributesClassName for bound claims")


def _fixed_volume(obj: Object, old: Object) -> Errors:
    if _source(obj) != _source(old):
        field = "spec.persistentvolumesource"
        yield forbidden(field, f"{field} is immutable after creation")


def _fixed(claim: Object, old: Object) -> Object:
    """Return the immutable part of a claim; its volume is immutable once there is one."""
    free = {"volumeAttributesClassName"}
    if not old["spec"].get("volumeName"):
        free.add("volumeName")
    spec = {key: value for key, value in claim["spec"].items() if key not in free}
    return spec | {"resources": {**spec.get("resources", {}), "requests": None}}


def _source(volume: Object) -> Object:
    return {k: v for k, v in volume["spec"].items() if k not in _NOT_SOURCES}


_RULES: dict[str, Callable[[Object], Errors]] = {
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Secret": _data_keys,
    "ConfigMap": _data_keys,
    "Pod": _pod,
    "Deployment": workload_rules.replicated,
    "ReplicaSet": workload_rules.replicated,
    "Service": _service,
    "Job": workload_rules.job,
    "Role": role_rules.role,
    "ClusterRole": role_rules.role,
    "RoleBinding": role_rules.binding,
    "ClusterRoleBinding": role_rules.binding,
}
_UPDATE_RULES: dict[str, Callable[[Object, Object], Errors]] = {
    "PersistentVolume": _fixed_volume,
    "PersistentVolumeClaim": _fixed_claim,
    "Secret": _fixed_secret,
    "ConfigMap": _fixed_data,
    "Pod": workload_rules.fixed_pod,
    "Deployment": workload_rules.fixed_selector,
    "ReplicaSet": workload_rules.fixed_selector,
    "Job": workload_rules.fixed_job,
    "RoleBinding": role_rules.fixed_role,
    "ClusterRoleBinding": role_rules.fixed_role,
}

"""What the API server refuses: names, required and immutable fields, in its own words."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Any

from qwenkit.sandbox.kube.api_error import Cause, bad_request, invalid
from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.writes import pod_rules
from qwenkit.sandbox.kube.writes.pod_rules import LABEL_RULE
from qwenkit.sandbox.kube.writes.shapes import QUANTITY, QUANTITY_RULE

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_RECLAIM = ("Delete", "Recycle", "Retain")
_VOLUME_MODES = ("Block", "Filesystem")
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
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    r"for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_NAME_PART_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_DATA_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)

Causes = Iterator[Cause]


def validate(kind: Kind, obj: Object, old: Object | None = None) -> None:
    """Check an object that is created, or that replaces ``old``.

    Raises:
        ApiError: 422 with one cause for each broken rule; 400 for data that is not base64.
    """
    causes = list(_metadata(kind, obj["metadata"]))
    if rules := _RULES.get(kind.name):
        causes += rules(obj)
    if old is not None:
        causes += _unchanged(kind, obj, old)
    if causes:
        raise invalid(kind, obj["metadata"].get("name", ""), causes)


def decode_secret(obj: Object) -> None:
    """Check that a Secret's data is base64, as decoding it does before any validation.

    Raises:
        ApiError: 400; the message never repeats the data.
    """
    for value in (obj.get("data") or {}).values():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise bad_request(
                'Secret in version "v1" cannot be handled as a Secret: illegal base64 data'
            ) from error


def _bad(field: str, value: Any, rule: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {rule}")


def _required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", field, f"Required value{': ' + why if why else ''}")


def _unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{one}"' for one in allowed)
    text = f'Unsupported value: "{value}": supported values: {listed}'
    return Cause("FieldValueNotSupported", field, text)


def _metadata(kind: Kind, metadata: Object) -> Causes:
    name = metadata.get("name")
    if name:
        yield from _name(kind, name)
    for key, value in (metadata.get("labels") or {}).items():
        yield from _qualified("metadata.labels", key)
        if len(value) > 63:
            yield _bad("metadata.labels", value, "must be no more than 63 bytes")
        if not _LABEL_VALUE.fullmatch(value):
            yield _bad("metadata.labels", value, _LABEL_VALUE_RULE)
    for key in metadata.get("annotations") or {}:
        yield from _qualified("metadata.annotations", key.lower())


def _name(kind: Kind, name: str) -> Causes:
    pattern, rule, length = _SUBDOMAIN, _SUBDOMAIN_RULE, 253
    if kind.name == "Namespace":
        pattern, rule, length = _LABEL, LABEL_RULE, 63
    elif kind.name == "Service":
        pattern, rule, length = _LABEL_1035, _LABEL_1035_RULE, 63
    if len(name) > length:
        yield _bad("metadata.name", name, f"must be no more than {length} bytes")
    if not pattern.fullmatch(name):
        yield _bad("metadata.name", name, rule)


def _qualified(field: str, key: str) -> Causes:
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN.fullmatch(prefix):
        yield _bad(field, key, f"prefix part {_SUBDOMAIN_RULE}")
    if len(name) > 63:
        yield _bad(field, key, "name part must be no more than 63 bytes")
    if not _QUALIFIED.fullmatch(name):
        yield _bad(field, key, _NAME_PART_RULE)


def _quantity(field: str, value: Any) -> Causes:
    if not QUANTITY.fullmatch(str(value)):
        yield _bad(field, value, QUANTITY_RULE)
    elif re.fullmatch(r"[-+]?0*\.?0*\D*", str(value)) or str(value).startswith("-"):
        yield _bad(field, str(value), "must be greater than zero")


def _access_modes(modes: Any, *, why: str) -> Causes:
    if not modes:
        yield _required("spec.accessModes", why)
    for mode in modes or []:
        if mode not in _ACCESS_MODES:
            yield _unsupported("spec.accessModes", mode, _ACCESS_MODES)


def _volume(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    yield from _access_modes(spec.get("accessModes"), why="")
    capacity = spec.get("capacity") or {}
    if "storage" not in capacity:
        yield Cause(
            "FieldValueNotSupported" if capacity else "FieldValueRequired",
            "spec.capacity",
            'Unsupported value: supported values: "storage"' if capacity else "Required value",
        )
    else:
        yield from _quantity("spec.capacity[storage]", capacity["storage"])
    sources = sorted(spec.keys() - _NOT_SOURCES)
    if not sources:
        yield _required("spec", "must specify a volume type")
    for extra in sources[1:]:
        yield Cause(
            "FieldValueForbidden",
            f"spec.{extra}",
            "Forbidden: may not specify more than 1 volume type",
        )
    csi = spec.get("csi")
    if isinstance(csi, dict):
        yield from (
            _required(f"spec.csi.{f}") for f in ("driver", "volumeHandle") if not csi.get(f)
        )
        for name, reference in csi.items():
            if name.endswith("SecretRef") and isinstance(reference, dict):
                yield from (
                    _required(f"spec.csi.{name}.{part}")
                    for part in ("name", "namespace")
                    if not reference.get(part)
                )
    policy = spec.get("persistentVolumeReclaimPolicy", "Retain")
    if policy not in _RECLAIM:
        yield _unsupported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    yield from _volume_mode(spec)


def _volume_mode(spec: Object) -> Causes:
    mode = spec.get("volumeMode", "Filesystem")
    if mode not in _VOLUME_MODES:
        yield _unsupported("spec.volumeMode", mode, _VOLUME_MODES)


def _claim(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    yield from _access_modes(spec.get("accessModes"), why="at least 1 access mode is required")
    storage = at(spec, "resources", "requests", "storage")
    if storage is None:
        yield _required("spec.resources[storage]")
    else:
        yield from _quantity("spec.resources[storage]", storage)
    yield from _volume_mode(spec)


def _data_keys(obj: Object) -> Causes:
    for field in ("data", "binaryData", "stringData"):
        for key in obj.get(field) or {}:
            if not _DATA_KEY.fullmatch(key):
                yield _bad(f"{field}[{key}]", key, _DATA_KEY_RULE)


def _pod(obj: Object) -> Causes:
    return pod_rules.pod_spec(obj.get("spec") or {}, "spec")


def _service(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    headless = spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName"
    if not spec.get("ports") and not headless:
        yield _required("spec.ports")
    for position, port in enumerate(spec.get("ports") or []):
        number = port.get("port")
        if not isinstance(number, int) or not 0 < number < 65536:
            rule = "must be between 1 and 65535, inclusive"
            yield _bad(f"spec.ports[{position}].port", number or 0, rule)


def _job(obj: Object) -> Causes:
    spec = at(obj, "spec", "template", "spec") or {}
    if spec.get("restartPolicy") not in ("OnFailure", "Never"):
        why = 'valid values: "OnFailure", "Never"'
        yield _required("spec.template.spec.restartPolicy", why)
    yield from pod_rules.pod_spec(spec, "spec.template.spec")


def _unchanged(kind: Kind, obj: Object, old: Object) -> Causes:
    """Yield what an update may not touch."""
    before, after = (one["metadata"].get("finalizers") or [] for one in (old, obj))
    if "deletionTimestamp" in old["metadata"] and (added := [f for f in after if f not in before]):
        shown = "[]string{" + ", ".join(f'"{one}"' for one in added) + "}"
        yield Cause(
            "FieldValueForbidden",
            "metadata.finalizers",
            "Forbidden: no new finalizers can be added if the object is being deleted, found new "
            f"finalizers {shown}",
        )
    if kind.name in ("Secret", "ConfigMap") and old.get("immutable"):
        fields = [f for f in ("data", "binaryData") if obj.get(f) != old.get(f)]
        rule = "Forbidden: field is immutable when `immutable` is set"
        yield from (Cause("FieldValueForbidden", field, rule) for field in fields)
    if kind.name == "Secret" and obj.get("type", "Opaque") != old.get("type"):
        yield _bad("type", obj.get("type"), "field is immutable")
    if kind.name == "PersistentVolumeClaim" and _fixed(obj, old) != _fixed(old, old):
        yield Cause(
            "FieldValueForbidden",
            "spec",
            "Forbidden: spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims",
        )
    if kind.name in ("Deployment", "ReplicaSet"):
        yield from pod_rules.fixed_selector(obj, old)
    if kind.name == "Pod":
        yield from pod_rules.fixed_pod(obj, old)
    if kind.name == "Job" and obj["spec"]["template"] != old["spec"]["template"]:
        yield Cause("FieldValueInvalid", "spec.template", "Invalid value: field is immutable")
    if kind.name == "PersistentVolume" and _source(obj) != _source(old):
        yield Cause(
            "FieldValueForbidden",
            "spec.persistentvolumesource",
            "Forbidden: spec.persistentvolumesource is immutable after creation",
        )


def _fixed(claim: Object, old: Object) -> Object:
    """Return what is fixed of a claim; the volume is as soon as there is one."""
    free = {"volumeAttributesClassName"}
    if not old["spec"].get("volumeName"):
        free.add("volumeName")
    spec = {key: value for key, value in claim["spec"].items() if key not in free}
    return spec | {"resources": {**spec.get("resources", {}), "requests": None}}


def _source(volume: Object) -> Object:
    return {k: v for k, v in volume["spec"].items() if k not in _NOT_SOURCES}


_RULES: dict[str, Callable[[Object], Causes]] = {
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Secret": _data_keys,
    "ConfigMap": _data_keys,
    "Pod": _pod,
    "Deployment": pod_rules.workload,
    "ReplicaSet": pod_rules.workload,
    "Service": _service,
    "Job": _job,
}

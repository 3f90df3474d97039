"""What the API server refuses in a pod's spec, and in the workloads that make pods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from qwenkit.sandbox.kube.api_error import Cause
from qwenkit.sandbox.kube.objects import Object, at

Causes = Iterator[Cause]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_RESTART = ("Always", "OnFailure", "Never")
_PULL = ("Always", "IfNotPresent", "Never")
_FIXED = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)"
)
_CHANGEABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName")


def pod_spec(spec: Object, where: str) -> Causes:
    """Check the spec of a pod that stands at ``where``."""
    volumes = [one.get("name") for one in _objects(spec, "volumes")]
    yield from _names(volumes, f"{where}.volumes")
    if not spec.get("containers"):
        yield _required(f"{where}.containers")
    for part in ("initContainers", "containers"):
        containers = list(_objects(spec, part))
        yield from _names([one.get("name") for one in containers], f"{where}.{part}")
        for position, container in enumerate(containers):
            yield from _container(container, f"{where}.{part}[{position}]", volumes)
    policy = spec.get("restartPolicy", "Always")
    if policy not in _RESTART:
        yield _unsupported(f"{where}.restartPolicy", policy, _RESTART)


def workload(obj: Object) -> Causes:
    """Check the spec of a Deployment or ReplicaSet."""
    spec = obj.get("spec") or {}
    replicas = spec.get("replicas", 1)
    if isinstance(replicas, int) and replicas < 0:
        yield _bad("spec.replicas", str(replicas), "must be greater than or equal to 0")
    wanted = at(spec, "selector", "matchLabels") or {}
    labels = at(spec, "template", "metadata", "labels") or {}
    if not spec.get("selector"):
        yield _required("spec.selector")
    elif not wanted and not at(spec, "selector", "matchExpressions"):
        rule = "empty selector is invalid for deployment"
        yield _bad("spec.selector", _go_selector(wanted), rule)
    elif not wanted.items() <= labels.items():
        rule = "`selector` does not match template `labels`"
        yield _bad("spec.template.metadata.labels", _go_map(labels), rule)
    template = at(spec, "template", "spec") or {}
    yield from pod_spec(template, "spec.template.spec")
    policy = template.get("restartPolicy", "Always")
    if policy in _RESTART[1:]:
        yield _unsupported("spec.template.spec.restartPolicy", policy, _RESTART[:1])


def fixed_selector(obj: Object, old: Object) -> Causes:
    """Check that a workload selects what it selected."""
    wanted, before = (at(one, "spec", "selector") for one in (obj, old))
    if wanted != before:
        text = _go_selector(at(wanted, "matchLabels") or {})
        yield _bad("spec.selector", text, "field is immutable")


def fixed_pod(obj: Object, old: Object) -> Causes:
    """Check that an update changes of a pod what may change."""
    if _unchangeable(obj["spec"]) != _unchangeable(old["spec"]):
        yield Cause("FieldValueForbidden", "spec", _FIXED)


def _unchangeable(spec: Object) -> Object:
    kept = {key: value for key, value in spec.items() if key not in _CHANGEABLE}
    for part in ("initContainers", "containers"):
        kept[part] = [{**container, "image": None} for container in _objects(spec, part)]
    return kept


def _container(container: Object, where: str, volumes: list[Any]) -> Causes:
    if not container.get("image"):
        yield _required(f"{where}.image")
    elif container["image"] != container["image"].strip():
        rule = "must not have leading or trailing whitespace"
        yield _bad(f"{where}.image", f'"{container["image"]}"', rule)
    policy = container.get("imagePullPolicy", "Always")
    if policy not in _PULL:
        yield _unsupported(f"{where}.imagePullPolicy", policy, _PULL)
    for position, mount in enumerate(_objects(container, "volumeMounts")):
        here = f"{where}.volumeMounts[{position}]"
        if mount.get("name") not in volumes:
            text = f'Not found: "{mount.get("name", "")}"'
            yield Cause("FieldValueNotFound", f"{here}.name", text)
        if not mount.get("mountPath"):
            yield _required(f"{here}.mountPath")
    for position, port in enumerate(_objects(container, "ports")):
        yield from _port(port.get("containerPort"), f"{where}.ports[{position}].containerPort")


def _port(port: Any, where: str) -> Causes:
    if not port:
        yield _required(where)
    elif isinstance(port, int) and not 0 < port < 65536:
        yield _bad(where, str(port), "must be between 1 and 65535, inclusive")


def _names(names: list[Any], where: str) -> Causes:
    for position, name in enumerate(names):
        here = f"{where}[{position}].name"
        if not name:
            yield _required(here)
        elif not _LABEL.fullmatch(name):
            yield _bad(here, f'"{name}"', LABEL_RULE)
        elif name in names[:position]:
            yield Cause("FieldValueDuplicate", here, f'Duplicate value: "{name}"')


def _objects(obj: Object, field: str) -> Iterator[Object]:
    return (item for item in obj.get(field) or [] if isinstance(item, dict))


def _required(field: str) -> Cause:
    return Cause("FieldValueRequired", field, "Required value")


def _bad(field: str, shown: str, rule: str) -> Cause:
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {rule}")


def _unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{one}"' for one in sorted(allowed))
    text = f'Unsupported value: "{value}": supported values: {listed}'
    return Cause("FieldValueNotSupported", field, text)


def _go_map(labels: Object) -> str:
    pairs = ", ".join(f'"{key}":"{value}"' for key, value in sorted(labels.items()))
    return f"map[string]string{{{pairs}}}" if labels else "null"


def _go_selector(labels: Object) -> str:
    shown = _go_map(labels) if labels else "map[string]string(nil)"
    expressions = "[]v1.LabelSelectorRequirement(nil)"
    return f"v1.LabelSelector{{MatchLabels:{shown}, MatchExpressions:{expressions}}}"

"""What the API server refuses in the spec of a pod.

It validates the pod of a revision (``dry_run``), a pod that is created, and the template of a
workload. This covers the fields that revisions can set, in the words of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwenkit.admission.field_errors import (
    Errors,
    broken,
    duplicate,
    invalid,
    not_found,
    required,
    unsupported,
)
from qwenkit.admission.pod.resources import resource_errors
from qwenkit.admission.schema import names

Object = Mapping[str, Any]
RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
# The field in which a volume source names its object.
_SOURCE_NAMES = {"configMap": "name", "persistentVolumeClaim": "claimName", "secret": "secretName"}


def pod_spec_errors(spec: Object, path: str = "spec") -> Errors:
    """Check the spec of a pod; ``path`` is its place in the object."""
    volumes = spec.get("volumes", [])
    yield from _names(volumes, f"{path}.volumes")
    for index, volume in enumerate(volumes):
        for source, name in _SOURCE_NAMES.items():
            if source in volume and not volume[source].get(name):
                yield required(f"{path}.volumes[{index}].{source}.{name}")
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    mountable = {volume.get("name") for volume in volumes}
    for part in ("containers", "initContainers"):
        yield from _names(spec.get(part, []), f"{path}.{part}")
        for index, container in enumerate(spec.get(part, [])):
            yield from _container(container, f"{path}.{part}[{index}]", mountable)
    for field, default, known in (
        ("restartPolicy", "Always", RESTART_POLICIES),
        ("dnsPolicy", "ClusterFirst", _DNS_POLICIES),
    ):
        if (policy := spec.get(field) or default) not in known:
            yield unsupported(f"{path}.{field}", policy, known)
    for key, value in sorted(spec.get("nodeSelector", {}).items()):
        yield from broken(f"{path}.nodeSelector", key, names.qualified_name(key))
        yield from broken(f"{path}.nodeSelector", value, names.label_value(value))


def _names(items: Sequence[Object], path: str) -> Errors:
    seen: set[str] = set()
    for index, item in enumerate(items):
        name, here = item.get("name", ""), f"{path}[{index}].name"
        if not name:
            yield required(here)
        yield from broken(here, name, names.dns_1123_label(name, unit="bytes") if name else [])
        if name in seen:
            yield duplicate(here, name)
        seen.add(name)


def _container(container: Object, path: str, mountable: set[Any]) -> Errors:
    image = container.get("image", "")
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        rule = "must not have leading or trailing whitespace"
        yield invalid(f"{path}.image", image, rule)
    policy = container.get("imagePullPolicy") or "Always"
    if policy not in _PULL_POLICIES:
        yield unsupported(f"{path}.imagePullPolicy", policy, _PULL_POLICIES)
    for index, port in enumerate(container.get("ports", [])):
        yield from _port(port.get("containerPort"), f"{path}.ports[{index}].containerPort")
    for index, variable in enumerate(container.get("env", [])):
        yield from _variable(variable, f"{path}.env[{index}]")
    for index, mount in enumerate(container.get("volumeMounts", [])):
        yield from _mount(mount, f"{path}.volumeMounts[{index}]", mountable)
    for name in _PROBES:
        if name in container:
            yield from _probe(container[name], f"{path}.{name}", once=name != "readinessProbe")
    yield from resource_errors(container.get("resources", {}), f"{path}.resources")


def _port(number: int | None, path: str) -> Errors:
    if not number:
        yield required(path)
    elif not 0 < number < 65536:
        yield invalid(path, number, "must be between 1 and 65535, inclusive")


def _variable(variable: Object, path: str) -> Errors:
    name, source = variable.get("name", ""), variable.get("valueFrom")
    if not name:
        yield required(f"{path}.name")
    if not all(" " <= letter <= "~" and letter != "=" for letter in name):
        rule = "a valid environment variable name must consist only of printable ASCII"
        yield invalid(f"{path}.name", name, f"{rule} characters other than '='")
    if source is None:
        return
    if variable.get("value"):
        yield invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
    if not source:
        rule = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or"
        yield invalid(f"{path}.valueFrom", "", f"{rule} `secretKeyRef`")
    for kind in ("configMapKeyRef", "secretKeyRef"):
        for field in ("name", "key") if kind in source else ():
            if not source[kind].get(field):
                yield required(f"{path}.valueFrom.{kind}.{field}")


def _mount(mount: Object, path: str, mountable: set[Any]) -> Errors:
    if mount.get("name") not in mountable:
        yield not_found(f"{path}.name", mount.get("name", ""))
    if not mount.get("mountPath"):
        yield required(f"{path}.mountPath")
    sub_path = mount.get("subPath", "")
    if sub_path.startswith("/"):
        yield invalid(f"{path}.subPath", sub_path, "must be a relative path")
    if ".." in sub_path.split("/"):
        yield invalid(f"{path}.subPath", sub_path, "must not contain '..'")


def _probe(probe: Object, path: str, *, once: bool) -> Errors:
    """Check a probe; with ``once``, a single success must be enough."""
    for name in _PROBE_NUMBERS:
        if probe.get(name, 0) < 0:
            yield invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
    if once and probe.get("successThreshold", 0) > 1:
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    scheme = probe.get("httpGet", {}).get("scheme") or "HTTP"
    if scheme not in ("HTTP", "HTTPS"):
        yield unsupported(f"{path}.httpGet.scheme", scheme, ("HTTP", "HTTPS"))

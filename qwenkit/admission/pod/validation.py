"""What the API server refuses in the spec of a pod.

It validates the pod of a revision (``dry_run``), a pod that is created, and the template of a
workload. This covers the fields that revisions can set, in the words of Kubernetes 1.36 and in the
order in which it lists them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qwenkit.admission.field_errors import (
    Errors,
    broken,
    duplicate,
    forbidden,
    invalid,
    invalid_as,
    not_found,
    required,
    unsupported,
)
from qwenkit.admission.pod.resources import resource_errors
from qwenkit.admission.pod.source_rules import relative_path, volume_errors
from qwenkit.admission.schema import names

Object = Mapping[str, Any]
RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)


def pod_spec_errors(spec: Object, path: str = "spec") -> Errors:
    """Check the spec of a pod; ``path`` is its place in the object."""
    wrong, mountable = volume_errors(spec.get("volumes", []), f"{path}.volumes")
    yield from wrong
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    parts = ("containers", "initContainers")
    taken: set[str] = set()
    for part in parts:
        yield from _containers(spec.get(part, []), f"{path}.{part}", mountable, taken)
    for field, default, known in (
        ("restartPolicy", "Always", RESTART_POLICIES),
        ("dnsPolicy", "ClusterFirst", _DNS_POLICIES),
    ):
        if (policy := spec.get(field) or default) not in known:
            yield unsupported(f"{path}.{field}", policy, known)
    for key, value in sorted(spec.get("nodeSelector", {}).items()):
        yield from broken(f"{path}.nodeSelector", key, names.qualified_name(key))
        yield from broken(f"{path}.nodeSelector", value, names.label_value(value))
    yield from _seccomp(spec.get("securityContext", {}), f"{path}.securityContext")
    for part in parts:
        for index, container in enumerate(spec.get(part, [])):
            if (image := container.get("image", "")) != image.strip():
                rule = "must not have leading or trailing whitespace"
                yield invalid(f"{path}.{part}[{index}].image", image, rule)


def _containers(
    containers: Sequence[Object], path: str, mountable: set[str], taken: set[str]
) -> Errors:
    """Check containers; ``taken`` holds the names before them, and then theirs too."""
    for index, container in enumerate(containers):
        name, here = container.get("name", ""), f"{path}[{index}]"
        if not name:
            yield required(f"{here}.name")
        rules = names.dns_1123_label(name, unit="bytes") if name else []
        yield from broken(f"{here}.name", name, rules)
        yield from _container(container, here, mountable)
        if name in taken:
            yield duplicate(f"{here}.name", name)
        taken.add(name)
        for probe in _PROBES:
            if probe in container:
                once = probe != "readinessProbe"
                yield from _probe(container[probe], f"{here}.{probe}", once=once)


def _container(container: Object, path: str, mountable: set[str]) -> Errors:
    if not container.get("image"):
        yield required(f"{path}.image")
    for index, port in enumerate(container.get("ports", [])):
        yield from _port(port.get("containerPort"), f"{path}.ports[{index}].containerPort")
    for index, variable in enumerate(container.get("env", [])):
        yield from _variable(variable, f"{path}.env[{index}]")
    for index, source in enumerate(container.get("envFrom", [])):
        for kind in ("configMapRef", "secretRef"):
            if kind in source:
                yield from _reference(source[kind], f"{path}.envFrom[{index}].{kind}.name")
    for index, mount in enumerate(container.get("volumeMounts", [])):
        yield from _mount(mount, f"{path}.volumeMounts", index, mountable)
    policy = container.get("imagePullPolicy") or "Always"
    if policy not in _PULL_POLICIES:
        yield unsupported(f"{path}.imagePullPolicy", policy, _PULL_POLICIES)
    yield from resource_errors(container.get("resources", {}), f"{path}.resources")
    yield from _seccomp(container.get("securityContext", {}), f"{path}.securityContext")


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
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            yield from _key(source[kind], f"{path}.valueFrom.{kind}")
    if not source:
        rule = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or"
        yield invalid(f"{path}.valueFrom", "", f"{rule} `secretKeyRef`")
    elif variable.get("value"):
        yield invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
    elif len(source) > 1:
        rule = "may not have more than one field specified at a time"
        yield invalid(f"{path}.valueFrom", "", rule)


def _key(source: Object, path: str) -> Errors:
    name, key = source.get("name", ""), source.get("key", "")
    yield from broken(f"{path}.name", name, names.dns_1123_subdomain(name, unit="bytes"))
    if not key:
        yield required(f"{path}.key")
    yield from broken(f"{path}.key", key, names.config_key(key) if key else [])


def _reference(source: Object, path: str) -> Errors:
    if name := source.get("name", ""):
        yield from broken(path, name, names.dns_1123_subdomain(name, unit="bytes"))
    else:
        yield required(path)


def _mount(mount: Object, path: str, index: int, mountable: set[str]) -> Errors:
    name = mount.get("name", "")
    if not name:
        yield required(f"{path}[{index}].name")
    if name not in mountable:
        yield not_found(f"{path}[{index}].name", name)
    if not mount.get("mountPath"):
        yield required(f"{path}[{index}].mountPath")
    # The API server leaves out the index here.
    yield from relative_path(mount.get("subPath", ""), f"{path}.subPath")


def _probe(probe: Object, path: str, *, once: bool) -> Errors:
    """Check a probe; with ``once``, a single success must be enough."""
    handlers = [kind for kind in _HANDLERS if kind in probe]
    if not handlers:
        yield required(path, "must specify a handler type")
    for kind in handlers[:1]:
        yield from _handler(kind, probe[kind], f"{path}.{kind}")
    for extra in handlers[1:]:
        yield forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    for name in _PROBE_NUMBERS:
        if probe.get(name, 0) < 0:
            yield invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
    if once and probe.get("successThreshold", 0) not in (0, 1):
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(kind: str, action: Object, path: str) -> Errors:
    if kind == "exec":
        if not action.get("command"):
            yield required(f"{path}.command")
        return
    port = action.get("port", 0)
    # A name is that of the only port, as Knative has checked.
    if isinstance(port, int) and not 0 < port < 65536:
        yield invalid(f"{path}.port", port, "must be between 1 and 65535, inclusive")
    scheme = action.get("scheme") or "HTTP"
    if scheme not in ("HTTP", "HTTPS"):
        yield unsupported(f"{path}.scheme", scheme, ("HTTP", "HTTPS"))


def _seccomp(context: Object, path: str) -> Errors:
    """Check the seccomp profile of a security context."""
    if (profile := context.get("seccompProfile")) is None:
        return
    kind, file, path = (
        profile.get("type"),
        profile.get("localhostProfile"),
        f"{path}.seccompProfile",
    )
    if not kind:
        yield required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _SECCOMP:
        yield unsupported(f"{path}.type", kind, _SECCOMP)
    here = f"{path}.localhostProfile"
    if kind == "Localhost" and file is None:
        yield required(here, "must be set when seccomp type is Localhost")
    elif kind == "Localhost":
        yield from relative_path(file, here)
    elif file is not None:
        shown = json.dumps({"Type": kind or "", "LocalhostProfile": file}, separators=(",", ":"))
        yield invalid_as(here, shown, "can only be set when seccomp type is Localhost")

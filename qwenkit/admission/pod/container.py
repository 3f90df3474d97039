"""Knative's rules for one container."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import (
    HERE,
    Fault,
    disallowed,
    go_quoted,
    invalid,
    masked,
    missing,
    missing_one_of,
    multiple_one_of,
    out_of_bounds,
    via,
)
from qwenkit.admission.pod.security import container_security_faults
from qwenkit.admission.schema import names

Object = Mapping[str, Any]
Role = Literal["user", "sidecar", "init"]
RESERVED_PORTS = (8008, 8012, 8013, 8022, 9090, 9091)
_RESERVED_ENV = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
_RESERVED_PATHS = ("/", "/dev", "/dev/log")
_WRITABLE = ("emptyDir", "persistentVolumeClaim", "ephemeral")
# Set, these come from an init container: of others the API server drops them.
_FORBIDDEN = (
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "stdin",
    "stdinOnce",
    "tty",
    "volumeDevices",
)
_PORT_NAMES = ("", "h2c", "http1")


@dataclass(frozen=True)
class PodContext:
    """What a container is checked against: the cluster and the pod's volumes by name."""

    cluster: ClusterConfigMaps
    volumes: Mapping[str, Object]


def container_faults(container: Object, around: PodContext, *, role: Role) -> list[Fault]:
    """Check one container, its probes apart; paths start at the container."""
    faults = masked(container, *_FORBIDDEN)
    name = container.get("name", "")
    if name == "queue-proxy":
        faults.append(Fault(f'"{name}" is a reserved container name', ("name",)))
    faults += via(_env(container.get("env", []), around.cluster, role), "env")
    faults += via(_env_from(container.get("envFrom", [])), "envFrom")
    faults += _image(container.get("image", ""))
    faults += via(_ports(container.get("ports", []), role), "ports")
    faults += via(masked(container.get("resources", {}), "claims"), "resources")
    context = container.get("securityContext", {})
    faults += via(container_security_faults(context, around.cluster), "securityContext")
    policy = container.get("terminationMessagePolicy", "")
    if policy not in ("", "File", "FallbackToLogsOnError"):
        faults.append(invalid(policy, "terminationMessagePolicy"))
    return faults + via(_mounts(container.get("volumeMounts", []), around), "volumeMounts")


def _env(variables: list[Object], cluster: ClusterConfigMaps, role: Role) -> list[Fault]:
    reserved = _RESERVED_ENV if role == "user" else _RESERVED_ENV[1:]
    faults: list[Fault] = []
    for index, variable in enumerate(variables):
        name, own = variable.get("name", ""), []
        if not name:
            own = [missing("name")]
        elif name in reserved:
            own = [Fault(f'"{name}" is a reserved environment variable', ("name",))]
        source = variable.get("valueFrom", {})
        references = cluster.permits("kubernetes.podspec-fieldref")
        wrong = () if references else ("fieldRef", "resourceFieldRef")
        own += via(masked(source, "fileKeyRef", *wrong), "valueFrom")
        faults += via(own, f"[{index}]")
    return faults


def _env_from(sources: list[Object]) -> list[Fault]:
    faults: list[Fault] = []
    kinds = ("configMapRef", "secretRef")
    for index, source in enumerate(sources):
        for kind in ("secretRef", "configMapRef"):
            if kind in source:  # Knative moves what it found so far under this reference
                faults = via(faults, kind, f"[{index}]")
        count = sum(kind in source for kind in kinds)
        if count != 1:
            faults.append(multiple_one_of(*kinds) if count else missing_one_of(*kinds))
    return faults


def _image(image: str) -> list[Fault]:
    if not image:
        return [missing("image")]
    if names.is_image(image):
        return []
    details = f"image: {go_quoted(image)}, error: could not parse reference: {image}"
    return [Fault("Failed to parse image reference", ("image",), details)]


def _ports(ports: list[Object], role: Role) -> list[Fault]:
    faults: list[Fault] = []
    for port in ports if role == "init" else ports[:1]:
        number = port.get("containerPort", 0)
        faults += masked(port, "hostIP", "hostPort")
        if number in RESERVED_PORTS:
            shown = f"{number} is a reserved port"
            faults.append(invalid(shown, "containerPort", f"{shown}, please use a different value"))
        if not 0 <= number <= 65535:
            faults.append(out_of_bounds(number, 0, 65535, "containerPort"))
        if role == "init":
            continue
        if port.get("protocol", "") not in ("", "TCP"):
            faults.append(invalid(port["protocol"], "protocol"))
        if port.get("name", "") not in _PORT_NAMES:
            rule = "Name must be empty, or one of: 'h2c', 'http1'"
            faults.append(Fault(f"Port name {port['name']} is not allowed", (HERE,), rule))
    return faults


def _mounts(mounts: list[Object], around: PodContext) -> list[Fault]:
    faults: list[Fault] = []
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        own = masked(mount, "recursiveReadOnly", "subPathExpr")
        own += _mount_path(mount.get("mountPath", ""), seen) + _mount(mount, around)
        seen.add(_clean(mount.get("mountPath", "")))
        faults += via(own, f"[{index}]")
    return faults


def _mount_path(path: str, seen: set[str]) -> list[Fault]:
    clean = _clean(path)
    if not path:
        return [missing("mountPath")]
    if clean in _RESERVED_PATHS:
        return [Fault(f'mountPath "{clean}" is a reserved path', ("mountPath",))]
    if not path.startswith("/"):
        return [invalid(path, "mountPath")]
    if clean in seen:
        return [invalid(f'"{path}" must be unique', "mountPath")]
    return []


def _mount(mount: Object, around: PodContext) -> list[Fault]:
    name, read_only = mount.get("name", ""), mount.get("readOnly", False)
    volume = around.volumes.get(name)
    faults = [] if volume is not None else [Fault("volumeMount has no matching volume", ("name",))]
    sources = volume or {}
    if not any(source in sources for source in _WRITABLE) and not read_only:
        rule = "volume mount should be readOnly for this type of volume"
        faults.append(Fault(rule, ("readOnly",)))
    faults += _propagation(mount, around.cluster)
    if sources.get("persistentVolumeClaim", {}).get("readOnly") and not read_only:
        faults.append(Fault("volume is readOnly but volume mount is not", ("readOnly",)))
    return faults


def _propagation(mount: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    if "mountPropagation" not in mount:
        return []
    flag = "kubernetes.podspec-volumes-mount-propagation"
    faults = [] if cluster.permits(flag) else [disallowed("mountPropagation")]
    if not cluster.enabled(flag):
        message = "Volume Mount Propagation support is disabled, but found volume mount"
        faults.append(Fault(f"{message} {mount.get('name', '')} with mount propagation"))
    if mount["mountPropagation"] not in ("None", "HostToContainer"):
        rule = "mount propagation should be set to None or HostToContainer"
        faults.append(Fault(rule, ("mountPropagation",)))
    return faults


def _clean(path: str) -> str:
    """Normalise as Go's ``path.Clean``: unlike POSIX it knows no double leading slash."""
    return posixpath.normpath("/" + path.lstrip("/") if path.startswith("/") else path or ".")

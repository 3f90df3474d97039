"""Knative's rules for one container."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import (
    HERE,
    Fault,
    Faults,
    Object,
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

Role = Literal["user", "sidecar", "init"]
RESERVED_PORTS = (8008, 8012, 8013, 8022, 9090, 9091)
_RESERVED_ENV = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
_RESERVED_PATHS = ("/", "/dev", "/dev/log")
WRITABLE_VOLUMES = ("emptyDir", "persistentVolumeClaim", "ephemeral")
# Only init containers still have these: the API server drops them from other containers.
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
    """What the rules of a container depend on: the cluster, and the pod's volumes by name."""

    cluster: ClusterConfigMaps
    volumes: Mapping[str, Object]


def container_faults(container: Object, pod: PodContext, *, role: Role) -> Faults:
    """Check one container without its probes; paths start at the container."""
    yield from masked(container, *_FORBIDDEN)
    name = container.get("name", "")
    if name == "queue-proxy":
        yield Fault(f'"{name}" is a reserved container name', ("name",))
    yield from via(_env(container.get("env", []), pod.cluster, role), "env")
    yield from via(_env_from(container.get("envFrom", [])), "envFrom")
    yield from _image(container.get("image", ""))
    yield from via(_ports(container.get("ports", []), role), "ports")
    yield from via(masked(container.get("resources", {}), "claims"), "resources")
    context = container.get("securityContext", {})
    yield from via(container_security_faults(context, pod.cluster), "securityContext")
    policy = container.get("terminationMessagePolicy", "")
    if policy not in ("", "File", "FallbackToLogsOnError"):
        yield invalid(policy, "terminationMessagePolicy")
    yield from via(_mounts(container.get("volumeMounts", []), pod), "volumeMounts")


def _env(variables: list[Object], cluster: ClusterConfigMaps, role: Role) -> Faults:
    reserved = _RESERVED_ENV if role == "user" else _RESERVED_ENV[1:]
    references = cluster.permits("kubernetes.podspec-fieldref")
    forbidden = ("fileKeyRef",) if references else ("fileKeyRef", "fieldRef", "resourceFieldRef")
    for index, variable in enumerate(variables):
        name = variable.get("name", "")
        if not name:
            yield from via([missing("name")], f"[{index}]")
        elif name in reserved:
            fault = Fault(f'"{name}" is a reserved environment variable', ("name",))
            yield from via([fault], f"[{index}]")
        source = variable.get("valueFrom", {})
        yield from via(masked(source, *forbidden), f"[{index}]", "valueFrom")


def _env_from(sources: list[Object]) -> list[Fault]:
    faults: list[Fault] = []
    kinds = ("configMapRef", "secretRef")
    for index, source in enumerate(sources):
        for kind in reversed(kinds):
            if kind in source:  # Knative moves the faults found so far under this reference
                faults = via(faults, kind, f"[{index}]")
        count = sum(kind in source for kind in kinds)
        if count != 1:
            faults.append(multiple_one_of(*kinds) if count else missing_one_of(*kinds))
    return faults


def _image(image: str) -> Faults:
    if not image:
        yield missing("image")
    elif not names.is_image(image):
        details = f"image: {go_quoted(image)}, error: could not parse reference: {image}"
        yield Fault("Failed to parse image reference", ("image",), details)


def _ports(ports: list[Object], role: Role) -> Faults:
    for port in ports if role == "init" else ports[:1]:
        number = port.get("containerPort", 0)
        yield from masked(port, "hostIP", "hostPort")
        if number in RESERVED_PORTS:
            shown = f"{number} is a reserved port"
            yield invalid(shown, "containerPort", f"{shown}, please use a different value")
        if not 0 <= number <= 65535:
            yield out_of_bounds(number, 0, 65535, "containerPort")
        if role == "init":
            continue
        if port.get("protocol", "") not in ("", "TCP"):
            yield invalid(port["protocol"], "protocol")
        if port.get("name", "") not in _PORT_NAMES:
            rule = "Name must be empty, or one of: 'h2c', 'http1'"
            yield Fault(f"Port name {port['name']} is not allowed", (HERE,), rule)


def _mounts(mounts: list[Object], pod: PodContext) -> Faults:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        yield from via(_mount(mount, pod, seen), f"[{index}]")
        seen.add(_clean(mount.get("mountPath", "")))


def _mount(mount: Object, pod: PodContext, seen: set[str]) -> Faults:
    yield from masked(mount, "recursiveReadOnly", "subPathExpr")
    yield from _mount_path(mount.get("mountPath", ""), seen)
    read_only = mount.get("readOnly", False)
    volume = pod.volumes.get(mount.get("name", ""))
    if volume is None:
        yield Fault("volumeMount has no matching volume", ("name",))
        volume = {}
    if not any(source in volume for source in WRITABLE_VOLUMES) and not read_only:
        yield Fault("volume mount should be readOnly for this type of volume", ("readOnly",))
    if "mountPropagation" in mount:
        yield from _propagation(mount, pod.cluster)
    if volume.get("persistentVolumeClaim", {}).get("readOnly") and not read_only:
        yield Fault("volume is readOnly but volume mount is not", ("readOnly",))


def _mount_path(path: str, seen: set[str]) -> Faults:
    clean = _clean(path)
    if not path:
        yield missing("mountPath")
    elif clean in _RESERVED_PATHS:
        yield Fault(f'mountPath "{clean}" is a reserved path', ("mountPath",))
    elif not path.startswith("/"):
        yield invalid(path, "mountPath")
    elif clean in seen:
        yield invalid(f'"{path}" must be unique', "mountPath")


def _propagation(mount: Object, cluster: ClusterConfigMaps) -> Faults:
    flag = "kubernetes.podspec-volumes-mount-propagation"
    if not cluster.permits(flag):
        yield disallowed("mountPropagation")
    if not cluster.enabled(flag):
        message = "Volume Mount Propagation support is disabled, but found volume mount"
        yield Fault(f"{message} {mount.get('name', '')} with mount propagation")
    if mount["mountPropagation"] not in ("None", "HostToContainer"):
        rule = "mount propagation should be set to None or HostToContainer"
        yield Fault(rule, ("mountPropagation",))


def _clean(path: str) -> str:
    """Normalise as Go's ``path.Clean`` does, which does not keep a double leading slash."""
    return posixpath.normpath("/" + path.lstrip("/") if path.startswith("/") else path or ".")

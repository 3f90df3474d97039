"""The defaults that Knative's mutating webhook fills in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.pod.container import WRITABLE_VOLUMES
from qwenkit.admission.pod.probes import HANDLERS
from qwenkit.admission.schema import quantities

_GROUP = "serving.knative.dev"
_LEAST_UNPRIVILEGED_PORT = 1024
_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def filled(
    obj: Mapping[str, Any],
    kind: str,
    *,
    cluster: ClusterConfigMaps,
    old: Mapping[str, Any] | None = None,
    user: str | None = None,
) -> dict[str, Any]:
    """Return a decoded object with its defaults.

    ``old`` is the stored object of an update; ``user`` is recorded as creator and last modifier.
    """
    new = copy.deepcopy(dict(obj))
    spec = new.setdefault("spec", {})
    if kind == "Revision":
        if old is None:  # a stored revision never changes
            _revision(spec, cluster, creating=True)
    elif kind != "Route" and not _keeps_own_name(spec, old):
        template = spec.setdefault("template", {})
        _revision(template.setdefault("spec", {}), cluster, creating=old is None)
    if kind in ("Service", "Route"):
        _traffic(spec, has_default_target=kind == "Service")
    owned = kind != "Service" and bool(new.get("metadata", {}).get("ownerReferences"))
    if user is not None and kind != "Revision" and not owned:
        _user(new, old, user)
    return new


def _keeps_own_name(spec: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    if old is None:
        return False
    name = _template_name(spec)
    return name != "" and name == _template_name(old.get("spec", {}))


def _template_name(spec: Mapping[str, Any]) -> str:
    return str(spec.get("template", {}).get("metadata", {}).get("name", ""))


def _revision(spec: dict[str, Any], cluster: ClusterConfigMaps, *, creating: bool) -> None:
    timeout = spec.get("timeoutSeconds") or cluster.number("revision-timeout-seconds")
    spec["timeoutSeconds"] = timeout
    idle = cluster.number("revision-idle-timeout-seconds")
    for name, value in (
        ("idleTimeoutSeconds", idle),
        ("responseStartTimeoutSeconds", cluster.response_start_timeout),
    ):
        if name not in spec and 0 != value < timeout:
            spec[name] = value
    spec.setdefault("containerConcurrency", cluster.number("container-concurrency"))
    containers, init_containers = spec.get("containers", []), spec.get("initContainers", [])
    _name(containers, init_containers, "user-container")
    _name(init_containers, containers, "init-container")
    for container in containers:
        _container(container, spec, cluster)
    if cluster.secures_pods:
        for container in (*containers, *init_containers):
            _secure(container, spec.get("securityContext", {}), cluster)
    links = cluster.enable_service_links
    if containers and creating and links is not None:
        spec.setdefault("enableServiceLinks", links)


def _name(unnamed: list[dict[str, Any]], others: list[dict[str, Any]], name: str) -> None:
    taken = {container.get("name", "") for container in (*unnamed, *others)}
    suffix = 0
    for container in unnamed:
        if container.get("name"):
            continue
        chosen = name
        while len(unnamed) > 1 or chosen in taken:
            chosen, suffix = f"{name}-{suffix}", suffix + 1
            if chosen not in taken:
                break
        container["name"] = chosen


def _container(
    container: dict[str, Any], spec: Mapping[str, Any], cluster: ClusterConfigMaps
) -> None:
    resources = container["resources"]
    for side in ("requests", "limits"):
        for resource in _RESOURCES:
            value = cluster.defaults.get(f"revision-{resource}-{side.removesuffix('s')}")
            if value is not None:
                resources.setdefault(side, {}).setdefault(resource, quantities.canonical(value))
    if len(spec["containers"]) == 1 or container.get("ports"):
        probe = container.setdefault("readinessProbe", {})
        if not any(handler in probe for handler in HANDLERS):
            probe["tcpSocket"] = {"port": 0}
    if "readinessProbe" in container:
        _readiness(container["readinessProbe"])
    writable = {
        volume.get("name", "")
        for volume in spec.get("volumes", [])
        if any(source in volume for source in WRITABLE_VOLUMES)
    }
    for mount in container.get("volumeMounts", []):
        if mount.get("name", "") not in writable:
            mount["readOnly"] = True


def _secure(container: dict[str, Any], pod: Mapping[str, Any], cluster: ClusterConfigMaps) -> None:
    """Fill in what the ``restricted`` pod security standard requires."""
    context = container.setdefault("securityContext", {})
    context.setdefault("allowPrivilegeEscalation", False)
    if not pod.get("seccompProfile", {}).get("type"):
        profile = context.setdefault("seccompProfile", {})
        profile["type"] = profile.get("type") or "RuntimeDefault"
    if "capabilities" not in context:
        context["capabilities"] = {"drop": ["ALL"]}
        ports = container.get("ports", [])
        if any(port["containerPort"] < _LEAST_UNPRIVILEGED_PORT for port in ports):
            context["capabilities"]["add"] = ["NET_BIND_SERVICE"]
    if cluster.secure_pod_defaults == "enabled" and "runAsNonRoot" not in pod:
        context.setdefault("runAsNonRoot", True)


def _readiness(probe: dict[str, Any]) -> None:
    probe["successThreshold"] = probe.get("successThreshold") or 1
    if probe.get("periodSeconds"):
        probe["failureThreshold"] = probe.get("failureThreshold") or 3
        probe["timeoutSeconds"] = probe.get("timeoutSeconds") or 1


def _traffic(spec: dict[str, Any], *, has_default_target: bool) -> None:
    if not spec.get("traffic") and has_default_target:
        spec["traffic"] = [{"latestRevision": True, "percent": 100}]
    for target in spec.get("traffic", []):
        target.setdefault("latestRevision", not target.get("revisionName"))
        target.setdefault("percent", 0)


def _user(new: dict[str, Any], old: Mapping[str, Any] | None, user: str) -> None:
    if old is not None and old.get("spec", {}) == new["spec"]:
        return
    annotations = new.setdefault("metadata", {}).setdefault("annotations", {})
    if old is None:
        annotations[f"{_GROUP}/creator"] = user
    annotations[f"{_GROUP}/lastModifier"] = user

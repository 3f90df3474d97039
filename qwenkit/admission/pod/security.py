"""Knative's rules for the security contexts of pods and containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import Fault, disallowed, masked, out_of_bounds, via

Object = Mapping[str, Any]
_FEATURE = "kubernetes.podspec-securitycontext"
_POD = {
    "fsGroup",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
    "supplementalGroups",
}
# Where pods are secured by default, a pod may still choose between these two.
_PLAIN_PROFILES = ({"type": "RuntimeDefault"}, {"type": "Unconfined"})
_CONTAINER_FORBIDDEN = ("appArmorProfile", "procMount", "seLinuxOptions", "windowsOptions")
_GREATEST_ID = 2**31 - 1


def pod_security_faults(context: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    """Check a pod's security context; paths start there."""
    allowed = _POD if cluster.permits(_FEATURE) else set()
    if cluster.secures_pods and context.get("seccompProfile") in _PLAIN_PROFILES:
        allowed = allowed | {"seccompProfile"}
    faults = masked(context, *(set(context) - allowed))
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        faults += _identity(context.get(name, 0), name)
    for index, group in enumerate(context.get("supplementalGroups", [])):
        faults += _identity(group, f"supplementalGroups[{index}]")
    return faults


def container_security_faults(context: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    """Check a container's security context; paths start there."""
    privileged = ("privileged",) if context.get("privileged") else ()
    faults = masked(context, *_CONTAINER_FORBIDDEN, *privileged)
    added = context.get("capabilities", {}).get("add", [])
    if added and not _may_add(added, cluster):
        faults += via([disallowed("add")], "capabilities")
    for name in ("runAsUser", "runAsGroup"):
        faults += _identity(context.get(name, 0), name)
    return faults


def _may_add(capabilities: list[str], cluster: ClusterConfigMaps) -> bool:
    if cluster.enabled("kubernetes.containerspec-addcapabilities"):
        return True
    return cluster.secures_pods and capabilities == ["NET_BIND_SERVICE"]


def _identity(number: int, path: str) -> list[Fault]:
    inside = 0 <= number <= _GREATEST_ID
    return [] if inside else [out_of_bounds(number, 0, _GREATEST_ID, path)]

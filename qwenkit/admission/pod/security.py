"""Knative's rules for the security contexts of pods and containers."""

from __future__ import annotations

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import Faults, Object, disallowed, masked, out_of_bounds

_FEATURE = "kubernetes.podspec-securitycontext"
_POD = {
    "fsGroup",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
    "supplementalGroups",
}
# If pods are secured by default, a pod may still choose one of these two.
_PLAIN_PROFILES = ({"type": "RuntimeDefault"}, {"type": "Unconfined"})
_CONTAINER_FORBIDDEN = ("appArmorProfile", "procMount", "seLinuxOptions", "windowsOptions")
_GREATEST_ID = 2**31 - 1


def pod_security_faults(context: Object, cluster: ClusterConfigMaps) -> Faults:
    """Check a pod's security context; paths start there."""
    allowed = _POD if cluster.permits(_FEATURE) else set()
    if cluster.secures_pods and context.get("seccompProfile") in _PLAIN_PROFILES:
        allowed = allowed | {"seccompProfile"}
    yield from masked(context, *(set(context) - allowed))
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from _identity(context.get(name, 0), name)
    for index, group in enumerate(context.get("supplementalGroups", [])):
        yield from _identity(group, f"supplementalGroups[{index}]")


def container_security_faults(context: Object, cluster: ClusterConfigMaps) -> Faults:
    """Check a container's security context; paths start there."""
    privileged = ("privileged",) if context.get("privileged") else ()
    yield from masked(context, *_CONTAINER_FORBIDDEN, *privileged)
    added = context.get("capabilities", {}).get("add", [])
    if added and not _may_add(added, cluster):
        yield disallowed("capabilities.add")
    for name in ("runAsUser", "runAsGroup"):
        yield from _identity(context.get(name, 0), name)


def _may_add(capabilities: list[str], cluster: ClusterConfigMaps) -> bool:
    if cluster.enabled("kubernetes.containerspec-addcapabilities"):
        return True
    return cluster.secures_pods and capabilities == ["NET_BIND_SERVICE"]


def _identity(number: int, path: str) -> Faults:
    if not 0 <= number <= _GREATEST_ID:
        yield out_of_bounds(number, 0, _GREATEST_ID, path)

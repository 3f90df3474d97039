"""Parse the path of a request: which collection, object or subresource it names."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.sandbox.kube.api_error import ApiError, no_such_resource
from qwenkit.sandbox.kube.kinds import Kinds, ResourceKind

_NO_PROGRAMS = "its containers run no programs; read kubectl logs and kubectl describe"
_NO_TUNNELS = (
    "send requests to the gateway with the Host header of the Service's URL; "
    "qwenkit sandbox status says where it listens"
)
# Subresources of a real server that the sandbox does not have, and what to do instead.
_LEFT_OUT = {
    "attach": _NO_PROGRAMS,
    "binding": "its scheduler binds pods; set spec.nodeName for one that you place yourself",
    "ephemeralcontainers": _NO_PROGRAMS,
    "eviction": "delete the pod",
    "exec": _NO_PROGRAMS,
    "finalize": "a namespace is removed when it is empty; kubectl get all -n shows its content",
    "portforward": _NO_TUNNELS,
    "proxy": "only pods and Services have one",
    "resize": "change the template that the pod comes from",
}
# Besides the groups of k8s.io, every real cluster serves these.
_GROUPS = frozenset({"apps", "autoscaling", "batch", "policy"})
_CORE = frozenset({"podtemplates", "replicationcontrollers"})


@dataclass(frozen=True)
class ResourcePath:
    """A collection (without a name), an object, or its subresource."""

    kind: ResourceKind
    namespace: str | None
    name: str = ""
    subresource: str = ""


def parse_path(kinds: Kinds, path: str) -> ResourcePath:
    """Parse ``api/v1/namespaces/default/pods/x/log`` and the like.

    Raises:
        ApiError: 404, no such resource; 501, the sandbox does not have this subresource.
    """
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_resource()
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = kinds.at(group, version, rest[0])
    if kind is None:
        raise _unserved(group, rest[0])
    if len(rest) > 3 and rest[2] != "proxy":
        raise no_such_resource()
    name, subresource = [*rest[1:], "", ""][:2]
    named_without_space = name and kind.namespaced and namespace is None
    if named_without_space or (namespace is not None and not kind.namespaced):
        raise no_such_resource()
    if subresource and subresource not in kind.subresources:
        if subresource in _LEFT_OUT:
            instead = _LEFT_OUT[subresource]
            text = f"{kind.plural}/{subresource} is not part of the sandbox: {instead}"
            raise ApiError(501, "NotImplemented", text)
        raise no_such_resource()
    return ResourcePath(kind, namespace, name, subresource)


def _unserved(group: str, plural: str) -> ApiError:
    """Return 404, with an explanation if every real cluster serves the resource."""
    error = no_such_resource()
    if group in _GROUPS or group.endswith(".k8s.io") or (not group and plural in _CORE):
        resource = f"{plural}.{group}" if group else plural
        text = f"{error.message}: {resource} is not part of the sandbox; kubectl api-resources"
        return ApiError(error.status, error.reason, f"{text} lists what is")
    return error

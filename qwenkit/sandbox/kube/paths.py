"""What a request's path names."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.sandbox.kube.api_error import ApiError, no_such_resource
from qwenkit.sandbox.kube.kinds import Kind, Kinds

# Real subresources that the sandbox leaves out; everything else unknown is simply not found.
_LEFT_OUT = frozenset(
    {
        "attach",
        "binding",
        "ephemeralcontainers",
        "eviction",
        "exec",
        "finalize",
        "portforward",
        "proxy",
        "resize",
        "scale",
        "token",
    }
)


@dataclass(frozen=True)
class Target:
    """A collection (no name), an object, or its subresource."""

    kind: Kind
    namespace: str | None
    name: str = ""
    subresource: str = ""


def target(kinds: Kinds, path: str) -> Target:
    """Parse ``api/v1/namespaces/default/pods/x/log`` and the like.

    Raises:
        ApiError: 404, no such resource; 501, one that the sandbox leaves out.
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
    if kind is None or len(rest) > 3:
        raise no_such_resource()
    name, subresource = [*rest[1:], "", ""][:2]
    named_without_space = name and kind.namespaced and namespace is None
    if named_without_space or (namespace is not None and not kind.namespaced):
        raise no_such_resource()
    if subresource and subresource not in kind.subresources:
        if subresource in _LEFT_OUT:
            text = f"{kind.plural}/{subresource} is not part of the sandbox"
            raise ApiError(501, "NotImplemented", text)
        raise no_such_resource()
    return Target(kind, namespace, name, subresource)

"""What a request asks for, as the authorizer sees it: a verb on a resource, or on a path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwenkit.sandbox.kube.api_error import ApiError

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_NAMESPACES = ("status", "finalize")


@dataclass(frozen=True)
class Attributes:
    """One request; without a ``resource`` it is of the ``path``."""

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def full_resource(self) -> str:
        """The resource as rules name it: ``pods``, ``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def forbidden(self, user: str, why: str) -> ApiError:
        """403, in the words of the API server.

        Args:
            user: the name of who asks.
            why: what else the authorizer says, or nothing.
        """
        suffix = f": {why}" if why else ""
        if not self.resource:
            text = f'forbidden: User "{user}" cannot {self.verb} path "{self.path}"{suffix}'
            return ApiError(403, "Forbidden", text)
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        subject = f"{self.resource}.{self.group}" if self.group else self.resource
        subject += f' "{self.name}"' if self.name else ""
        text = (
            f'{subject} is forbidden: User "{user}" cannot {self.verb} resource '
            f'"{self.full_resource}" in API group "{self.group}" {where}{suffix}'
        )
        details = {"name": self.name, "group": self.group, "kind": self.resource}
        return ApiError(403, "Forbidden", text, {key: one for key, one in details.items() if one})


def requested(method: str, path: str, query: Mapping[str, str]) -> Attributes:
    """Read a request as the API server's ``RequestInfo`` does, whether it serves the path or not.

    A namespace itself is in the namespace of its name, so that a Role in it can grant it.
    """
    parts = [part for part in path.split("/") if part]
    group = ""
    if parts[:1] == ["apis"] and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    elif parts[:1] == ["api"] and len(parts) > 2:
        rest = parts[2:]
    else:
        return Attributes(method.lower(), path=f"/{path}")
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _OF_NAMESPACES:
            rest = rest[2:]
    resource, name, subresource = [*rest, "", ""][:3]
    verb = _VERBS.get(method, "get")
    if not name and verb == "delete":
        verb = "deletecollection"
    elif not name and verb == "get":
        verb = "watch" if query.get("watch", "").lower() in ("true", "1") else "list"
        selected = (one.partition("=") for one in query.get("fieldSelector", "").split(","))
        name = next((value.strip("=") for key, _, value in selected if key == "metadata.name"), "")
    return Attributes(verb, "", group, resource, subresource, namespace, name)

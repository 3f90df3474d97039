"""Discovery: the server's version, its groups and resources, and where OpenAPI describes them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from qwenkit.sandbox.kube.access.reviews import REVIEWS, Review
from qwenkit.sandbox.kube.access.users import TOKEN_REQUEST
from qwenkit.sandbox.kube.kinds import Kinds, ResourceKind
from qwenkit.sandbox.kube.scale import SCALE
from qwenkit.sandbox.kube.schema import openapi

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2+qwenkit-sandbox",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}
# All that kubectl still reads of OpenAPI v2 is that it is there, when it applies a List: a document
# that describes nothing (in protobuf, field 1 is the version) leaves the validation to the server.
OPENAPI_V2 = b"\x0a\x032.0"
OPENAPI_V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_PATHS = ("api", "apis", "healthz", "livez", "openapi/v2", "openapi/v3", "readyz", "version")
_STATUS_VERBS = ["get", "patch", "update"]
_VERBS = {
    "log": ["get"],
    "proxy": ["create", "delete", *_STATUS_VERBS],  # here only GET passes
    "token": ["create"],
}
_OWN_KINDS = {"scale": SCALE, "token": TOKEN_REQUEST}


class Discovery:
    """The discovery documents for the kinds that are served."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    def document(self, path: str, address: str = "") -> dict[str, Any] | None:
        """Return the document at a path without leading slash, or None."""
        if not path:
            return {"paths": sorted(self._paths())}
        if path == "api":
            cidr = {"clientCIDR": "0.0.0.0/0", "serverAddress": address}
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [cidr]}
        groups = self._groups()
        if path == "apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups.values())}
        if path in self._roots():
            return self._resources(path)
        group = groups.get(path.removeprefix("apis/"))
        return {"kind": "APIGroup", "apiVersion": "v1", **group} if group else None

    def openapi_index(self) -> dict[str, Any]:
        """Return the answer of ``/openapi/v3``: the URL of each group's document."""
        return {
            "paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in self._roots()}
        }

    @cache  # noqa: B019 - as many entries as groups, and one registry a server
    def openapi(self, root: str) -> bytes | None:
        """Return the OpenAPI v3 of a group, e.g. ``apis/apps/v1``, as JSON, or None."""
        if root not in self._roots():
            return None
        kinds = [kind for kind in self._kinds if kind.root == root]
        return openapi.document(kinds, root, str(VERSION["gitVersion"]))

    def _paths(self) -> set[str]:
        groups = (f"apis/{name}" for name in self._groups())
        return {f"/{path}" for path in (*_PATHS, *groups, *self._roots())}

    def _roots(self) -> list[str]:
        return list(dict.fromkeys(one.root for one in (*self._kinds, *REVIEWS)))

    def _groups(self) -> dict[str, dict[str, Any]]:
        groups = {}
        for root in self._roots():
            if root.startswith("apis/"):
                _, name, version = root.split("/")
                served = {"groupVersion": f"{name}/{version}", "version": version}
                groups[name] = {"name": name, "versions": [served], "preferredVersion": served}
        return groups

    def _resources(self, root: str) -> dict[str, Any]:
        resources = [entry for kind in self._kinds if kind.root == root for entry in _entries(kind)]
        resources += [_review(review) for review in REVIEWS if review.root == root]
        prefix, _, group_version = root.partition("/")
        head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if prefix == "apis" else {})
        return {**head, "groupVersion": group_version, "resources": resources}


def _entries(kind: ResourceKind) -> Iterator[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    yield entry | {"storageVersionHash": kind.storage_hash}
    for name in kind.subresources:
        own = _OWN_KINDS.get(name)
        yield {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            **({"group": own.group, "version": own.version} if own else {}),
            "kind": f"{kind.kind}ProxyOptions" if name == "proxy" else (own or kind).kind,
            "verbs": _VERBS.get(name, _STATUS_VERBS),
        }


def _review(review: Review) -> dict[str, Any]:
    return {
        "name": review.plural,
        "singularName": review.kind.lower(),
        "namespaced": False,
        "kind": review.kind,
        "verbs": ["create"],
    }

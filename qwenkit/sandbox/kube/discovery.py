"""Discovery: the server's version, its groups and resources, and where OpenAPI describes them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from qwenkit.sandbox.kube.kinds import Kinds, ResourceKind
from qwenkit.sandbox.kube.reviews import REVIEWS, Review
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
_STATUS_VERBS = ["get", "patch", "update"]


class Discovery:
    """The discovery documents for the kinds that are served."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    def document(self, path: str, address: str = "") -> dict[str, Any] | None:
        """Return the document at a path without leading slash, or None."""
        parts = path.split("/")
        if not path:
            return {"paths": sorted(self._paths())}
        if path == "api":
            cidr = {"clientCIDR": "0.0.0.0/0", "serverAddress": address}
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [cidr]}
        if path == "apis":
            groups = [self._group(name) for name in self._versions() if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "api/v1":
            return self._resources("", "v1")
        if parts[0] != "apis" or len(parts) > 3 or parts[1] not in self._versions():
            return None
        if len(parts) == 2:
            return {"kind": "APIGroup", "apiVersion": "v1", **self._group(parts[1])}
        if parts[2] not in self._versions()[parts[1]]:
            return None
        return self._resources(parts[1], parts[2])

    def openapi_index(self) -> dict[str, Any]:
        """Return where OpenAPI v3 describes each group."""
        return openapi.index(self._versions())

    @cache  # noqa: B019 - as many entries as groups, and one registry a server
    def openapi(self, path: str) -> bytes | None:
        """Return the OpenAPI v3 of a group, e.g. ``apis/apps/v1``, as JSON, or None."""
        root, _, rest = path.partition("/")
        group, version = ("", rest) if root == "api" else rest.rpartition("/")[::2]
        if version not in self._versions().get(group, []):
            return None
        return openapi.document(self._kinds, group, version, str(VERSION["gitVersion"]))

    def _paths(self) -> Iterator[str]:
        yield from (
            "/api",
            "/apis",
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        )
        for group, versions in self._versions().items():
            base = f"/apis/{group}" if group else "/api"
            yield from (f"{base}/{version}" for version in versions)
            if group:
                yield base

    def _versions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        served = [(kind.group, kind.version) for kind in self._kinds]
        for group, version in [*served, *((review.group, "v1") for review in REVIEWS)]:
            if version not in found.setdefault(group, []):
                found[group].append(version)
        return found

    def _group(self, name: str) -> dict[str, Any]:
        versions = [
            {"groupVersion": f"{name}/{version}", "version": version}
            for version in self._versions()[name]
        ]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def _resources(self, group: str, version: str) -> dict[str, Any]:
        resources = [
            entry
            for kind in self._kinds
            if (kind.group, kind.version) == (group, version)
            for entry in _entries(kind)
        ]
        resources += [_review(one) for one in REVIEWS if (one.group, "v1") == (group, version)]
        head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
        full = f"{group}/{version}" if group else version
        return {**head, "groupVersion": full, "resources": resources}


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
        yield {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            **({"group": SCALE.group, "version": SCALE.version} if name == "scale" else {}),
            "kind": SCALE.kind if name == "scale" else kind.kind,
            "verbs": ["get"] if name == "log" else _STATUS_VERBS,
        }


def _review(review: Review) -> dict[str, Any]:
    return {
        "name": review.plural,
        "singularName": review.kind.lower(),
        "namespaced": False,
        "kind": review.kind,
        "verbs": ["create"],
    }

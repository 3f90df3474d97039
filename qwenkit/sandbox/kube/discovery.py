"""What the server says about itself: version, groups, resources, and where validation works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qwenkit.sandbox.kube.kinds import Kind, Kinds

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
# Reviews are answered by the server and never stored.
REVIEWS = {
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"): "SelfSubjectAccessReview",
    ("authentication.k8s.io", "v1", "selfsubjectreviews"): "SelfSubjectReview",
}
_STATUS_VERBS = ["get", "patch", "update"]


class Discovery:
    """The discovery documents of a registry of kinds."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    def document(self, path: str, address: str = "") -> dict[str, Any] | None:
        """Return the document at a path without leading slash, or None."""
        parts = path.split("/")
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

    def openapi(self, path: str) -> dict[str, Any] | None:
        """Return OpenAPI v3's index, or a group's operations without their schemas.

        kubectl asks it one thing: whether a patch takes ``fieldValidation``.
        """
        versions = {
            f"apis/{group}/{version}" if group else f"api/{version}": (group, version)
            for group, all_versions in self._versions().items()
            for version in all_versions
        }
        if path == "openapi/v3":
            links = {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in versions}
            return {"paths": links}
        found = versions.get(path.removeprefix("openapi/v3/"))
        if found is None:
            return None
        paths = dict(self._operations(*found))
        info = {"title": "Kubernetes (qwenkit sandbox)", "version": VERSION["gitVersion"]}
        return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}

    def _operations(self, group: str, version: str) -> Iterator[tuple[str, Any]]:
        names = ("dryRun", "fieldManager", "fieldValidation", "force")
        parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
        for kind in self._kinds:
            if (kind.group, kind.version) == (group, version):
                gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
                base = f"/apis/{group}/{version}" if group else f"/api/{version}"
                space = "/namespaces/{namespace}" if kind.namespaced else ""
                operation = {
                    "parameters": parameters,
                    "responses": {},
                    "x-kubernetes-action": "patch",
                    "x-kubernetes-group-version-kind": gvk,
                }
                yield f"{base}{space}/{kind.plural}/{{name}}", {"patch": operation}

    def _versions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        served = [(kind.group, kind.version) for kind in self._kinds]
        for group, version in [*served, *((group, version) for group, version, _ in REVIEWS)]:
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
        for (review_group, review_version, plural), name in REVIEWS.items():
            if (review_group, review_version) == (group, version):
                resources.append(_review(plural, name))
        head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
        full = f"{group}/{version}" if group else version
        return {**head, "groupVersion": full, "resources": resources}


def _entries(kind: Kind) -> Iterator[dict[str, Any]]:
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
            "kind": kind.kind,
            "verbs": ["get"] if name == "log" else _STATUS_VERBS,
        }


def _review(plural: str, kind: str) -> dict[str, Any]:
    singular = plural.removesuffix("s")
    return {
        "name": plural,
        "singularName": singular,
        "namespaced": False,
        "kind": kind,
        "verbs": ["create"],
    }

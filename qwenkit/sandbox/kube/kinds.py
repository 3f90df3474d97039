"""The kinds that the sandbox's API serves, with their paths, names and verbs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_BUILTIN = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_CUSTOM = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_READ_ONLY = ("get", "list", "watch")
RBAC = "rbac.authorization.k8s.io"
READ_ONLY = ("log", "proxy")
"""Subresources that are only read here."""


@dataclass(frozen=True)
class ResourceKind:
    """One kind. ``name`` is unique in the sandbox; ``kind`` stands in the objects."""

    name: str
    kind: str
    group: str
    version: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _BUILTIN
    subresources: tuple[str, ...] = ()
    generation: bool = False
    custom: bool = False

    @property
    def api_version(self) -> str:
        """``v1`` or ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path of its group and version: ``api/v1``, ``apis/apps/v1``."""
        return f"apis/{self.api_version}" if self.group else f"api/{self.version}"

    @property
    def resource(self) -> str:
        """The resource as messages name it: ``pods``, ``services.serving.knative.dev``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        """Whether status is a subresource."""
        return "status" in self.subresources

    @property
    def storage_hash(self) -> str:
        """The ``storageVersionHash`` of discovery, as every API server computes it."""
        digest = hashlib.sha256(f"{self.group}/{self.version}/{self.kind}".encode()).digest()
        return base64.b64encode(digest[:8]).decode()


def _kind(api_version: str, kind: str, **fields: Any) -> ResourceKind:
    """Make a kind; short names, categories and subresources are words in one text."""
    group, _, version = api_version.rpartition("/")
    singular = kind.lower()
    texts = ("short_names", "categories", "subresources")
    words = {name: tuple(fields.pop(name, "").split()) for name in texts}
    fields = {"plural": f"{singular}s", "name": kind, "singular": singular} | words | fields
    return ResourceKind(kind=kind, group=group, version=version, **fields)


def _knative(
    api_version: str, kind: str, categories: str, short_names: str = "", **fields: Any
) -> ResourceKind:
    group, _, version = api_version.partition("/")
    fields |= {"categories": categories, "short_names": short_names, "subresources": "status"}
    fields |= {"verbs": _CUSTOM, "generation": True, "custom": True}
    return _kind(f"{group}.knative.dev/{version}", kind, **fields)


_SERVING, _SCALING, _NETWORK = (
    "all knative serving",
    "knative-internal autoscaling",
    "knative-internal networking",
)
_NO_COLLECTION = tuple(verb for verb in _BUILTIN if verb != "deletecollection")
_SCALED = {"categories": "all", "subresources": "scale status", "generation": True}
_TABLE = (
    _kind("v1", "ConfigMap", short_names="cm"),
    _kind("v1", "Endpoints", plural="endpoints", short_names="ep"),
    _kind("v1", "Event", short_names="ev"),
    _kind("v1", "LimitRange", short_names="limits"),
    _kind(
        "v1",
        "Namespace",
        namespaced=False,
        short_names="ns",
        verbs=_NO_COLLECTION,
        subresources="status",
    ),
    _kind("v1", "Node", namespaced=False, short_names="no", subresources="status"),
    _kind("v1", "PersistentVolumeClaim", short_names="pvc", subresources="status"),
    _kind("v1", "PersistentVolume", namespaced=False, short_names="pv", subresources="status"),
    _kind("v1", "Pod", short_names="po", **_SCALED | {"subresources": "log proxy status"}),
    _kind("v1", "ResourceQuota", short_names="quota", subresources="status"),
    _kind("v1", "Secret"),
    _kind("v1", "ServiceAccount", short_names="sa", subresources="token"),
    _kind("v1", "Service", short_names="svc", categories="all", subresources="proxy status"),
    _kind("apps/v1", "Deployment", short_names="deploy", **_SCALED),
    _kind("apps/v1", "ReplicaSet", short_names="rs", **_SCALED),
    _kind("batch/v1", "Job", **_SCALED | {"subresources": "status"}),
    _kind("batch/v1", "CronJob", short_names="cj", **_SCALED | {"subresources": "status"}),
    _kind("coordination.k8s.io/v1", "Lease"),
    _kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        plural="networkpolicies",
        short_names="netpol",
        generation=True,
    ),
    _kind(f"{RBAC}/v1", "ClusterRole", namespaced=False),
    _kind(f"{RBAC}/v1", "ClusterRoleBinding", namespaced=False),
    _kind(f"{RBAC}/v1", "Role"),
    _kind(f"{RBAC}/v1", "RoleBinding"),
    _kind("storage.k8s.io/v1", "CSIDriver", namespaced=False),
    _kind("storage.k8s.io/v1", "CSINode", namespaced=False),
    _kind("node.k8s.io/v1", "RuntimeClass", plural="runtimeclasses", namespaced=False),
    _kind(
        "storage.k8s.io/v1",
        "StorageClass",
        plural="storageclasses",
        namespaced=False,
        short_names="sc",
    ),
    _kind(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        namespaced=False,
        short_names="crd crds",
        categories="api-extensions",
        verbs=_READ_ONLY,
        generation=True,
    ),
    _knative("serving/v1", "Configuration", _SERVING, "config cfg"),
    _knative("serving/v1", "Revision", _SERVING, "rev"),
    _knative("serving/v1", "Route", _SERVING, "rt"),
    _knative("serving/v1", "Service", _SERVING, "kservice ksvc", name="KnativeService"),
    _knative("autoscaling.internal/v1alpha1", "Metric", _SCALING),
    _knative("autoscaling.internal/v1alpha1", "PodAutoscaler", _SCALING, "kpa pa"),
    _knative("networking.internal/v1alpha1", "ServerlessService", _NETWORK, "sks"),
    _knative("networking.internal/v1alpha1", "Certificate", _NETWORK, "kcert"),
    _knative(
        "networking.internal/v1alpha1", "ClusterDomainClaim", _NETWORK, "cdc", namespaced=False
    ),
    _knative(
        "networking.internal/v1alpha1", "Ingress", _NETWORK, "kingress king", plural="ingresses"
    ),
)


class Kinds:
    """All kinds, by unique name and by path."""

    def __init__(self) -> None:
        self._by_name = {kind.name: kind for kind in _TABLE}
        self._by_path = {
            (kind.group, kind.version, kind.plural): kind for kind in self._by_name.values()
        }

    def __iter__(self) -> Iterator[ResourceKind]:
        return iter(self._by_name.values())

    def __getitem__(self, kind: str | ResourceKind) -> ResourceKind:
        """Return the kind of that unique name, e.g. ``KnativeService``.

        Raises:
            KeyError: the sandbox has no such kind, a programming error.
        """
        return kind if isinstance(kind, ResourceKind) else self._by_name[kind]

    def at(self, group: str, version: str, plural: str) -> ResourceKind | None:
        """Return the kind served at a path, or None."""
        return self._by_path.get((group, version, plural))

    def of(self, obj: dict[str, Any]) -> ResourceKind | None:
        """Return the kind that an object's ``apiVersion`` and ``kind`` name, or None."""
        wanted = (obj.get("apiVersion"), obj.get("kind"))
        return next((kind for kind in self if (kind.api_version, kind.kind) == wanted), None)

"""Which kinds the sandbox's API serves, under which paths and names."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_BUILTIN = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_CUSTOM = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_READ_ONLY = ("get", "list", "watch")


@dataclass(frozen=True)
class Kind:
    """One kind. ``name`` is unique in the sandbox; ``kind`` is what objects say."""

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
    def resource(self) -> str:
        """How messages name the resource: ``pods``, ``services.serving.knative.dev``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        """Whether status has its own subresource."""
        return "status" in self.subresources

    @property
    def storage_hash(self) -> str:
        """Discovery's ``storageVersionHash``: equal for every server that stores this kind."""
        digest = hashlib.sha256(f"{self.group}/{self.version}/{self.kind}".encode()).digest()
        return base64.b64encode(digest[:8]).decode()


def _core(kind: str, plural: str = "", **more: Any) -> Kind:
    return _kind(kind, kind, "", "v1", plural, **more)


def _kind(name: str, kind: str, group: str, version: str, plural: str = "", **more: Any) -> Kind:
    singular = kind.lower()
    return Kind(name, kind, group, version, plural or f"{singular}s", singular, **more)


def _knative(name: str, kind: str, group: str, version: str, plural: str = "", **more: Any) -> Kind:
    more = {"verbs": _CUSTOM, "subresources": ("status",), "generation": True} | more
    return _kind(name, kind, f"{group}.knative.dev", version, plural, custom=True, **more)


_STATUS = ("status",)
_SCALED = ("scale", "status")
_ALL = ("all",)
_SERVING = ("all", "knative", "serving")
_SCALING = ("knative-internal", "autoscaling")
_NETWORK = ("knative-internal", "networking")
_TABLE = (
    _core("ConfigMap", short_names=("cm",)),
    _core("Endpoints", "endpoints", short_names=("ep",)),
    _core("Event", short_names=("ev",)),
    _core(
        "Namespace",
        namespaced=False,
        short_names=("ns",),
        verbs=tuple(verb for verb in _BUILTIN if verb != "deletecollection"),
        subresources=_STATUS,
    ),
    _core("Node", namespaced=False, short_names=("no",), subresources=_STATUS),
    _core("PersistentVolumeClaim", short_names=("pvc",), subresources=_STATUS),
    _core("PersistentVolume", namespaced=False, short_names=("pv",), subresources=_STATUS),
    _core(
        "Pod",
        short_names=("po",),
        categories=_ALL,
        subresources=("log", "status"),
        generation=True,
    ),
    _core("Secret"),
    _core("ServiceAccount", short_names=("sa",)),
    _core("Service", short_names=("svc",), categories=_ALL, subresources=_STATUS),
    _kind(
        "Deployment",
        "Deployment",
        "apps",
        "v1",
        short_names=("deploy",),
        categories=_ALL,
        subresources=_SCALED,
        generation=True,
    ),
    _kind(
        "ReplicaSet",
        "ReplicaSet",
        "apps",
        "v1",
        short_names=("rs",),
        categories=_ALL,
        subresources=_SCALED,
        generation=True,
    ),
    _kind("Job", "Job", "batch", "v1", categories=_ALL, subresources=_STATUS, generation=True),
    _kind("CSIDriver", "CSIDriver", "storage.k8s.io", "v1", namespaced=False),
    _kind(
        "StorageClass",
        "StorageClass",
        "storage.k8s.io",
        "v1",
        "storageclasses",
        namespaced=False,
        short_names=("sc",),
    ),
    _kind(
        "CustomResourceDefinition",
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "v1",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        verbs=_READ_ONLY,
        generation=True,
    ),
    _knative(
        "Configuration",
        "Configuration",
        "serving",
        "v1",
        short_names=("config", "cfg"),
        categories=_SERVING,
    ),
    _knative("Revision", "Revision", "serving", "v1", short_names=("rev",), categories=_SERVING),
    _knative("Route", "Route", "serving", "v1", short_names=("rt",), categories=_SERVING),
    _knative(
        "KnativeService",
        "Service",
        "serving",
        "v1",
        short_names=("kservice", "ksvc"),
        categories=_SERVING,
    ),
    _knative("Metric", "Metric", "autoscaling.internal", "v1alpha1", categories=_SCALING),
    _knative(
        "PodAutoscaler",
        "PodAutoscaler",
        "autoscaling.internal",
        "v1alpha1",
        short_names=("kpa", "pa"),
        categories=_SCALING,
    ),
    _knative(
        "ServerlessService",
        "ServerlessService",
        "networking.internal",
        "v1alpha1",
        short_names=("sks",),
        categories=_NETWORK,
    ),
    _knative(
        "Certificate",
        "Certificate",
        "networking.internal",
        "v1alpha1",
        short_names=("kcert",),
        categories=_NETWORK,
    ),
    _knative(
        "ClusterDomainClaim",
        "ClusterDomainClaim",
        "networking.internal",
        "v1alpha1",
        namespaced=False,
        short_names=("cdc",),
        categories=_NETWORK,
    ),
    _knative(
        "Ingress",
        "Ingress",
        "networking.internal",
        "v1alpha1",
        "ingresses",
        short_names=("kingress", "king"),
        categories=_NETWORK,
    ),
)


class Kinds:
    """The registry: kinds by unique name and by path."""

    def __init__(self, kinds: Iterable[Kind] = _TABLE) -> None:
        self._by_name = {kind.name: kind for kind in kinds}
        self._by_path = {
            (kind.group, kind.version, kind.plural): kind for kind in self._by_name.values()
        }

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_name.values())

    def __getitem__(self, kind: str | Kind) -> Kind:
        """Return the kind of that unique name, e.g. ``KnativeService``.

        Raises:
            KeyError: a programming error: the sandbox has no such kind.
        """
        return kind if isinstance(kind, Kind) else self._by_name[kind]

    def at(self, group: str, version: str, plural: str) -> Kind | None:
        """Return the kind served at a path, or None."""
        return self._by_path.get((group, version, plural))

    def of(self, obj: dict[str, Any]) -> Kind | None:
        """Return the kind that an object's ``apiVersion`` and ``kind`` name, or None."""
        said = (obj.get("apiVersion"), obj.get("kind"))
        return next((kind for kind in self if (kind.api_version, kind.kind) == said), None)

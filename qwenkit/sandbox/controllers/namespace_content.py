"""What does every namespace hold? The ServiceAccount ``default`` and the API's root certificate.

Each is created with the namespace, and again if somebody deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.loop import Context, Controller
from qwenkit.sandbox.controllers.object_fields import Key, deleting
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.history import WatchEvent

ACCOUNT, ROOT_CA = "default", "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


class _NamespaceObject(Controller):
    """Keeps one object in every namespace. Its keys are ("", namespace)."""

    kind = "Namespace"
    content: str
    content_name: str

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return a namespace that changed, or whose object changed or was deleted."""
        metadata = change.object["metadata"]
        if change.kind == self.kind:
            return [("", metadata["name"])]
        return [("", metadata["namespace"])] if metadata["name"] == self.content_name else []

    def reconcile(self, namespace: str, name: str) -> None:
        """Create or restore the object, unless the namespace is being deleted."""
        home = self.store.find(self.kind, None, name)
        if home is None or deleting(home):
            return
        wanted: Object = {"metadata": {"name": self.content_name, "namespace": name}}
        self.supply(wanted, self.store.find(self.content, name, self.content_name))

    def supply(self, wanted: Object, found: Object | None) -> None:
        """Create the object, or restore it."""
        if found is None:
            self.store.create(self.content, wanted)


class DefaultServiceAccount(_NamespaceObject):
    """Keeps the account of pods that name none."""

    name = "service-account"
    watches = frozenset({"Namespace", "ServiceAccount"})
    content, content_name = "ServiceAccount", ACCOUNT


class RootCaPublisher(_NamespaceObject):
    """Keeps the certificate by which pods verify the API server.

    Args:
        context: what every controller works with.
        root_ca: PEM.
    """

    name = "root-ca-certificate-publisher"
    watches = frozenset({"Namespace", "ConfigMap"})
    content, content_name = "ConfigMap", ROOT_CA

    def __init__(self, context: Context, root_ca: str) -> None:
        super().__init__(context)
        self._data = {"ca.crt": root_ca}

    def supply(self, wanted: Object, found: Object | None) -> None:
        """Create the ConfigMap, or restore its data."""
        wanted["metadata"]["annotations"] = {"kubernetes.io/description": _DESCRIPTION}
        if found is None:
            self.store.create(self.content, wanted | {"data": self._data})
        elif found.get("data") != self._data:
            self.store.update(self.content, found | {"data": self._data})

"""What every namespace has: the ServiceAccount ``default``, and the authority of the API's TLS.

Each comes with the namespace and comes again if somebody deletes it; it goes with the namespace.
"""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.loop import Controller, Key, World, deleting
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object

ACCOUNT, ROOT_CA = "default", "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


class _Supplier(Controller):
    """Keeps one object in every namespace. Its keys are ("", namespace)."""

    kind = "Namespace"
    content: str
    content_name: str

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Look at a namespace that is new, and at one whose object changed or is gone."""
        metadata = change.object["metadata"]
        if change.kind == self.kind:
            return [("", metadata["name"])]
        return [("", metadata["namespace"])] if metadata["name"] == self.content_name else []

    def reconcile(self, namespace: str, name: str) -> None:
        """Supply what a namespace lacks, unless it is going."""
        home = self.store.find(self.kind, None, name)
        if home is None or deleting(home):
            return
        wanted: Object = {"metadata": {"name": self.content_name, "namespace": name}}
        self.supply(wanted, self.store.find(self.content, name, self.content_name))

    def supply(self, wanted: Object, found: Object | None) -> None:
        """Create the object, or restore it."""
        if found is None:
            self.store.create(self.content, wanted)


class AccountSupplier(_Supplier):
    """Keeps the account under which pods run that name none."""

    name = "service-account"
    watches = frozenset({"Namespace", "ServiceAccount"})
    content, content_name = "ServiceAccount", ACCOUNT


class RootCaPublisher(_Supplier):
    """Keeps the certificates by which pods know the API server.

    Args:
        world: what every controller works with.
        root_ca: PEM.
    """

    name = "root-ca-certificate-publisher"
    watches = frozenset({"Namespace", "ConfigMap"})
    content, content_name = "ConfigMap", ROOT_CA

    def __init__(self, world: World, root_ca: str) -> None:
        super().__init__(world)
        self._data = {"ca.crt": root_ca}

    def supply(self, wanted: Object, found: Object | None) -> None:
        """Create the ConfigMap, or give it its data back."""
        wanted["metadata"]["annotations"] = {"kubernetes.io/description": _DESCRIPTION}
        if found is None:
            self.store.create(self.content, wanted | {"data": self._data})
        elif found.get("data") != self._data:
            self.store.update(self.content, found | {"data": self._data})

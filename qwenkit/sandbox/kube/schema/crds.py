"""CustomResourceDefinitions of the custom kinds, as ``kubectl get crd`` lists them."""

from __future__ import annotations

from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore

_CRD = "CustomResourceDefinition"


def ensure_definitions(store: ObjectStore) -> None:
    """Create the definitions that are not in the store."""
    for kind in store.kinds:
        if kind.custom and store.find(_CRD, None, kind.resource) is None:
            store.create(_CRD, _definition(kind))


def _definition(kind: ResourceKind) -> Object:
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.singular,
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
    }
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": anything},
    }
    established = [
        {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts"},
        {"type": "Established", "status": "True", "reason": "InitialNamesAccepted"},
    ]
    return {
        "metadata": {"name": kind.resource},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
        "status": {
            "acceptedNames": names,
            "conditions": established,
            "storedVersions": [kind.version],
        },
    }

"""CustomResourceDefinitions of the custom kinds, as ``kubectl get crd`` lists them."""

from __future__ import annotations

from qwenkit.sandbox.kube.kinds import Kinds, ResourceKind
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.store import ObjectStore


def ensure_definitions(store: ObjectStore) -> None:
    """Create the definitions that are not in the store."""
    for obj in definitions(store.kinds):
        if store.find("CustomResourceDefinition", None, obj["metadata"]["name"]) is None:
            store.create("CustomResourceDefinition", obj)


def definitions(kinds: Kinds) -> list[Object]:
    """Return one definition for each custom kind, without its schema."""
    return [_definition(kind) for kind in kinds if kind.custom]


def _definition(kind: ResourceKind) -> Object:
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.singular,
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
    }
    version = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
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

"""What loses its last owner goes too; foreground deletion waits for it."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.loop import Controller, Key, World, deleting
from qwenkit.sandbox.kube.history import Change
from qwenkit.sandbox.kube.kinds import Kind
from qwenkit.sandbox.kube.objects import Object

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class GarbageCollector(Controller):
    """Deletes dependents of objects that are gone. Its keys are (kind, owner's uid)."""

    name = "garbage"
    kind = ""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._kinds = [kind for kind in world.store.kinds if kind.name != "Event"]
        self.watches = frozenset(kind.name for kind in self._kinds)

    def keys(self, change: Change) -> Iterable[Key]:
        """Look after dependents of what is gone or waits for them; check new ones' owners."""
        obj = change.object
        if change.type == "DELETED":
            self._later(obj["metadata"]["uid"])
            for reference in obj["metadata"].get("ownerReferences", []):
                self._later(reference["uid"])  # it may wait for this dependent
        elif deleting(obj) and {FOREGROUND, ORPHAN} & set(obj["metadata"].get("finalizers", [])):
            self._later(obj["metadata"]["uid"])
        elif change.type == "ADDED":
            for reference in obj["metadata"].get("ownerReferences", []):
                if self._by_uid(reference["uid"]) is None:
                    self._later(reference["uid"])
        return []

    def reconcile(self, namespace: str, name: str) -> None:
        """Handle the dependents of one owner; ``name`` is its uid."""
        found = self._by_uid(name)
        if found is None:
            self._collect(name, propagation="Background")
            return
        kind, owner = found
        finalizers = owner["metadata"].get("finalizers", [])
        if not deleting(owner):
            return
        if ORPHAN in finalizers:
            self._orphan(name)
            self._release(kind, owner, ORPHAN)
        elif FOREGROUND in finalizers and not self._collect(name, propagation="Foreground"):
            self._release(kind, owner, FOREGROUND)

    def _later(self, uid: str) -> None:
        self.later(("", uid), self.world.delays.collect_garbage)

    def _by_uid(self, uid: str) -> tuple[Kind, Object] | None:
        for kind in self._kinds:
            for obj in self.store.list(kind):
                if obj["metadata"]["uid"] == uid:
                    return kind, obj
        return None

    def _dependents(self, uid: str) -> list[tuple[Kind, Object]]:
        return [
            (kind, obj)
            for kind in self._kinds
            for obj in self.store.list(kind)
            if any(ref["uid"] == uid for ref in obj["metadata"].get("ownerReferences", []))
        ]

    def _collect(self, uid: str, *, propagation: str) -> bool:
        """Delete dependents without another living owner; return whether any is left waiting."""
        waiting = False
        for kind, obj in self._dependents(uid):
            references = obj["metadata"]["ownerReferences"]
            others = [ref for ref in references if ref["uid"] != uid]
            if any(self._by_uid(ref["uid"]) for ref in others):
                obj["metadata"]["ownerReferences"] = others
                self.store.update(kind, obj)
                continue
            metadata = obj["metadata"]
            if not deleting(obj):
                self.store.delete(
                    kind, metadata.get("namespace"), metadata["name"], propagation=propagation
                )
            waiting = waiting or any(
                ref["uid"] == uid and ref.get("blockOwnerDeletion") for ref in references
            )
        return waiting and bool(self._dependents(uid))

    def _orphan(self, uid: str) -> None:
        for kind, obj in self._dependents(uid):
            references = obj["metadata"]["ownerReferences"]
            obj["metadata"]["ownerReferences"] = [ref for ref in references if ref["uid"] != uid]
            self.store.update(kind, obj)

    def _release(self, kind: Kind, owner: Object, finalizer: str) -> None:
        finalizers = owner["metadata"]["finalizers"]
        owner["metadata"]["finalizers"] = [item for item in finalizers if item != finalizer]
        self.store.update(kind, owner)

"""Which objects are deleted because their owners are? Foreground deletion waits for them."""

from __future__ import annotations

from collections.abc import Iterable

from qwenkit.sandbox.controllers.loop import Context, Controller
from qwenkit.sandbox.controllers.object_fields import Key, deleting, set_finalizer
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.history import WatchEvent

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_Place = tuple[str, str | None, str]  # kind, namespace, name


class GarbageCollector(Controller):
    """Deletes the dependents of deleted objects. Its keys are ("", owner's uid)."""

    name = "garbage"
    kind = ""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.watches = frozenset(kind.name for kind in self.store.kinds if kind.name != "Event")
        self._places: dict[str, _Place] = {}
        self._owned: dict[str, dict[str, None]] = {}  # ordered: the first created is deleted first

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Queue owners that are gone or wait for their dependents, after a delay."""
        metadata = change.object["metadata"]
        uid, owners = metadata["uid"], [ref["uid"] for ref in _owners(change.object)]
        if change.type == "DELETED":
            self._places.pop(uid, None)
            for concerned in (uid, *owners):  # an owner may wait for this dependent
                self._later(concerned)
            return []
        self._places[uid] = (change.kind, metadata.get("namespace"), metadata["name"])
        for owner in owners:
            self._owned.setdefault(owner, {})[uid] = None
            if owner not in self._places:
                self._later(owner)
        if deleting(change.object) and {FOREGROUND, ORPHAN} & set(metadata.get("finalizers", [])):
            self._later(uid)
        return []

    def reconcile(self, namespace: str, name: str) -> None:
        """Handle the dependents of one owner; ``name`` is its uid."""
        owner = self._find(name)
        if owner is None:
            self._collect(name, propagation="Background")
            if not self._dependents(name):
                self._owned.pop(name, None)
            return
        finalizers = owner["metadata"].get("finalizers", [])
        if not deleting(owner):
            return
        if ORPHAN in finalizers:
            self._orphan(name)
            self._release(owner, ORPHAN)
        elif FOREGROUND in finalizers:
            self._collect(name, propagation="Foreground")
            if not any(_blocks(obj, name) for obj in self._dependents(name)):
                self._release(owner, FOREGROUND)

    def _later(self, uid: str) -> None:
        self.later(("", uid), self.context.delays.collect_garbage)

    def _find(self, uid: str) -> Object | None:
        place = self._places.get(uid)
        found = self.store.find(*place) if place else None
        return found if found and found["metadata"]["uid"] == uid else None

    def _dependents(self, uid: str) -> list[Object]:
        found = (self._find(dependent) for dependent in self._owned.get(uid, ()))
        return [obj for obj in found if obj and uid in {ref["uid"] for ref in _owners(obj)}]

    def _collect(self, uid: str, *, propagation: str) -> None:
        """Delete dependents that have no other living owner."""
        for obj in self._dependents(uid):
            metadata = obj["metadata"]
            others = [ref for ref in _owners(obj) if ref["uid"] != uid]
            if any(self._find(ref["uid"]) for ref in others):
                metadata["ownerReferences"] = others
                self.store.update(self._kind(obj), obj)
            elif not deleting(obj):
                namespace, name = metadata.get("namespace"), metadata["name"]
                self.store.delete(self._kind(obj), namespace, name, propagation=propagation)

    def _orphan(self, uid: str) -> None:
        for obj in self._dependents(uid):
            obj["metadata"]["ownerReferences"] = [ref for ref in _owners(obj) if ref["uid"] != uid]
            self.store.update(self._kind(obj), obj)

    def _release(self, owner: Object, finalizer: str) -> None:
        set_finalizer(self.store, self._kind(owner), owner, finalizer, present=False)

    def _kind(self, obj: Object) -> str:
        return self._places[obj["metadata"]["uid"]][0]


def _owners(obj: Object) -> list[Object]:
    references: list[Object] = obj["metadata"].get("ownerReferences", [])
    return references


def _blocks(obj: Object, uid: str) -> bool:
    return any(ref["uid"] == uid and ref.get("blockOwnerDeletion") for ref in _owners(obj))

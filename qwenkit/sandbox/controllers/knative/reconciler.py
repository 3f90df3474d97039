"""What do all Knative reconcilers share: conditions, generation, finalizer, children, failure?"""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.errors import QwenkitError
from qwenkit.sandbox.controllers.conditions import READY, Conditions
from qwenkit.sandbox.controllers.loop import Controller
from qwenkit.sandbox.controllers.object_fields import (
    Key,
    deleting,
    key_of,
    owned_by,
    set_finalizer,
)
from qwenkit.sandbox.kube.objects import Object, copied


class ReconcileError(QwenkitError):
    """A reconciliation stopped; ``what`` becomes an event, the conditions marked so far stay."""


class KnativeReconciler(Controller):
    """A controller whose kind has Knative's status.

    ``dependents`` are the conditions that together make an object Ready.
    """

    dependents: Sequence[str] = ()
    finalizer = ""

    def reconcile(self, namespace: str, name: str) -> None:
        """Reconcile one object and write its status if it changed."""
        obj = self.store.find(self.kind, namespace, name)
        if obj is None:
            self.forget((namespace, name))
        elif deleting(obj):
            self._finalize(obj)
        else:
            self._add_finalizer(obj)
            self._reconcile(obj)

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Make what the spec asks for and mark ``status`` and ``conditions``, both in place.

        Raises:
            ReconcileError: it cannot go on now.
        """
        raise NotImplementedError

    def finalize_kind(self, obj: Object) -> bool:
        """Clean up before the object is removed; False keeps it for now."""
        return True

    def forget(self, key: Key) -> None:
        """Drop what is remembered of an object that is gone."""
        self._waits.pop(key, None)

    def create_child(self, obj: Object, kind: str, wanted: Object, *, shown: str = "") -> Object:
        """Create an object that ``obj`` manages, and record it; ``shown`` names its kind."""
        created = self.store.create(kind, wanted)
        message = f'Created {shown or kind} "{created["metadata"]["name"]}"'
        self.recorder.normal(obj, "Created", message)
        return created

    def update_child(self, kind: str, found: Object, wanted: Object) -> Object:
        """Give an object the labels, annotations and spec that its owner wants."""
        for field in ("labels", "annotations"):
            found["metadata"][field] = wanted["metadata"][field]
        return self.store.update(kind, {**found, "spec": wanted["spec"]})

    def check_owner(
        self,
        obj: Object,
        child: Object,
        conditions: Conditions,
        condition: str,
        *,
        message: str = "",
        error: str = "",
    ) -> None:
        """Mark a condition False unless ``obj`` manages the object that has its child's name.

        Raises:
            ReconcileError: it does not.
        """
        if owned_by(child, obj):
            return
        kind, name = child["kind"], child["metadata"]["name"]
        message = message or f'There is an existing {kind} "{name}" that we do not own.'
        conditions.mark_false(condition, "NotOwned", message)
        owner = obj["metadata"]["name"]
        raise ReconcileError(error or f'{self.name}: "{owner}" does not own {kind}: "{name}"')

    def _reconcile(self, obj: Object) -> None:
        status: Object = copied(obj.get("status") or {})
        conditions = Conditions(self.dependents, status)
        conditions.initialize()
        generation = obj["metadata"]["generation"]
        if status.get("observedGeneration") != generation:
            conditions.mark_unknown(
                READY, "NewObservedGenFailure", "unsuccessfully observed a new generation"
            )
        failure = ""
        try:
            self.reconcile_kind(obj, status, conditions)
        except ReconcileError as error:
            failure = error.what
        status["observedGeneration"] = generation
        conditions.groom()
        self.write_status(obj, status)
        if failure:
            self.recorder.warning(obj, "InternalError", failure)
            self.retry(key_of(obj), failure)

    def _add_finalizer(self, obj: Object) -> None:
        if self.finalizer and set_finalizer(
            self.store, self.kind, obj, self.finalizer, present=True
        ):
            self._record_finalizer(obj)

    def _finalize(self, obj: Object) -> None:
        present = self.finalizer in obj["metadata"].get("finalizers", [])
        if present and self.finalize_kind(obj):
            set_finalizer(self.store, self.kind, obj, self.finalizer, present=False)
            self._record_finalizer(obj)
            self.forget(key_of(obj))

    def _record_finalizer(self, obj: Object) -> None:
        message = f'Updated "{obj["metadata"]["name"]}" finalizers'
        self.recorder.normal(obj, "FinalizerUpdate", message)

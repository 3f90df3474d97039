"""The frame of every Knative reconciler: conditions, observed generation, finalizer, failure."""

from __future__ import annotations

from qwenkit.errors import QwenkitError
from qwenkit.sandbox.controllers.events import Recorder
from qwenkit.sandbox.controllers.knative.conditions import READY, Conditions, ConditionSet
from qwenkit.sandbox.controllers.loop import Controller, World, deleting, key_of
from qwenkit.sandbox.kube.objects import Object, copied


class ReconcileError(QwenkitError):
    """A reconciliation stopped; its words become an event, what it marked is kept."""


class Shaped(Controller):
    """A controller whose kind has Knative's status."""

    rules: ConditionSet
    component: str
    finalizer = ""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.recorder = Recorder(world.store, self.component)

    def reconcile(self, namespace: str, name: str) -> None:
        """Reconcile one object and write its status if it changed."""
        obj = self.store.find(self.kind, namespace, name)
        if obj is None:
            self.forget((namespace, name))
        elif deleting(obj):
            self._finalize(obj)
        else:
            self._shape(self._with_finalizer(obj))

    def shape(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Make what the spec asks for and mark ``status`` and ``conditions``, both in place.

        Raises:
            ReconcileError: it cannot go on now.
        """
        raise NotImplementedError

    def finalize(self, obj: Object) -> bool:
        """Clean up before the object goes; False keeps it for now."""
        return True

    def forget(self, key: tuple[str, str]) -> None:
        """Drop what is remembered of an object that is gone."""

    def _shape(self, obj: Object) -> None:
        status: Object = copied(obj.get("status") or {})
        conditions = Conditions(self.rules, status)
        conditions.initialize()
        generation = obj["metadata"]["generation"]
        if status.get("observedGeneration") != generation:
            conditions.mark_unknown(
                READY, "NewObservedGenFailure", "unsuccessfully observed a new generation"
            )
        failure = self._attempt(obj, status, conditions)
        status["observedGeneration"] = generation
        conditions.groom()
        metadata = {**obj["metadata"], "resourceVersion": None}
        self.store.update_status(self.kind, {**obj, "metadata": metadata, "status": status})
        if failure:
            self.recorder.warning(obj, "InternalError", failure)
            self.retry(key_of(obj), failure)

    def _attempt(self, obj: Object, status: Object, conditions: Conditions) -> str:
        try:
            self.shape(obj, status, conditions)
        except ReconcileError as error:
            return error.what
        return ""

    def _with_finalizer(self, obj: Object) -> Object:
        present = obj["metadata"].get("finalizers", [])
        if not self.finalizer or self.finalizer in present:
            return obj
        obj["metadata"]["finalizers"] = [*present, self.finalizer]
        updated = self.store.update(self.kind, obj)
        self._finalizer_event(updated)
        return updated

    def _finalize(self, obj: Object) -> None:
        present = obj["metadata"].get("finalizers", [])
        if self.finalizer not in present or not self.finalize(obj):
            return
        obj["metadata"]["finalizers"] = [item for item in present if item != self.finalizer]
        self.store.update(self.kind, obj)
        self._finalizer_event(obj)
        self.forget(key_of(obj))

    def _finalizer_event(self, obj: Object) -> None:
        self.recorder.normal(
            obj, "FinalizerUpdate", f'Updated "{obj["metadata"]["name"]}" finalizers'
        )

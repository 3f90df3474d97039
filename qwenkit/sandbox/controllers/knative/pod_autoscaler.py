"""How do the KPA's decisions reach the ServerlessService and the Deployment's replicas?"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from qwenkit.autoscaling.annotation_keys import KPA, PREFIX
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import UNKNOWN
from qwenkit.autoscaling.scale_to_zero import Mode, Scaler, ScalerStep, ScaleState
from qwenkit.errors import InvalidValue
from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.conditions import READY, TRUE, Conditions
from qwenkit.sandbox.controllers.knative.autoscaler import Autoscaler
from qwenkit.sandbox.controllers.knative.configuration import is_ready
from qwenkit.sandbox.controllers.knative.reconciler import KnativeReconciler, ReconcileError
from qwenkit.sandbox.controllers.loop import Context
from qwenkit.sandbox.controllers.object_fields import (
    Key,
    annotations_of,
    child_metadata,
    key_of,
    labels_of,
)
from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.controllers.workloads.pods import is_active, is_ready_pod
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.kube.storage.history import WatchEvent

log = logging.getLogger("qwenkit.sandbox.autoscaler")

ACTIVE, INITIALIZED, SKS_READY = "Active", "ScaleTargetInitialized", "SKSReady"
_MESSAGES = {
    "Queued": "Requests to the target are being buffered as resources are provisioned.",
    "NoTraffic": "The target is not receiving traffic.",
    "TimedOut": "The target could not be activated.",
}
_MIN_ACTIVATORS = 2
_STATES = {"True": ScaleState.ACTIVE, "False": ScaleState.INACTIVE}


class PodAutoscalerController(KnativeReconciler):
    """Reconciles PodAutoscalers."""

    name = "pod-autoscaler"
    kind = "PodAutoscaler"
    component = "autoscaler"
    watches = frozenset({"PodAutoscaler", "ServerlessService", "Pod", "ConfigMap"})
    configs = frozenset({"config-autoscaler"})
    dependents = (ACTIVE, INITIALIZED, SKS_READY)

    def __init__(self, context: Context, traffic: Traffic) -> None:
        super().__init__(context)
        self._scalers: dict[Key, Scaler] = {}
        self._specs: dict[Key, ScalingSpec] = {}
        self._uids: dict[Key, str] = {}
        notify = partial(context.queue.add, self)
        self.autoscaler = Autoscaler(traffic, ready=self._ready_pods, notify=notify)

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """A pod concerns its revision's autoscaler."""
        if change.kind != "Pod":
            return super().keys(change)
        revision = labels_of(change.object).get(names.REVISION)
        return [(change.object["metadata"]["namespace"], revision)] if revision else []

    def reconcile(self, namespace: str, name: str) -> None:
        """Reconcile an object of the KPA's class; the sandbox has no other autoscaler."""
        found = self.store.find(self.kind, namespace, name)
        wanted = at(found, "metadata", "annotations", f"{PREFIX}class") or KPA
        if found is None or wanted == KPA:
            super().reconcile(namespace, name)
        else:
            why = f"the sandbox has no autoscaler of class {wanted}, only {KPA}"
            self.recorder.warning(found, "NotInSandbox", why)

    def forget(self, key: Key) -> None:
        """Stop scaling a revision that is gone."""
        super().forget(key)
        self.autoscaler.forget(key)
        self._scalers.pop(key, None)
        self._specs.pop(key, None)
        self._uids.pop(key, None)

    def reconcile_kind(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Apply what the decider wants and report it."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        if self._uids.setdefault(key, uid) != uid:  # deleted and created again before we looked
            self.forget(key)
            self._uids[key] = uid
        sks = self.store.find("ServerlessService", *key)
        spec = self._spec(key, obj)
        scaler = self._scaler(key, obj, spec, sks)
        reachable = obj["spec"].get("reachability") != "Unreachable"
        ready, now = self._ready_pods(key), self.context.clock.now()
        status.setdefault("metricsServiceName", "")
        status.setdefault("serviceName", "")
        private = at(sks, "status", "privateServiceName")
        if not private:
            step = scaler.reconcile(
                now, desired=UNKNOWN, excess_burst_capacity=UNKNOWN, ready=0, reachable=reachable
            )
            self._serve(obj, conditions, Mode.PROXY, _MIN_ACTIVATORS)
            conditions.mark_unknown(SKS_READY, "NotReady", "No Private Service Name")
        else:
            status["metricsServiceName"] = private
            decider = self.autoscaler.follow(key, spec, reachable=reachable)
            step = scaler.reconcile(
                now,
                desired=decider.desired,
                excess_burst_capacity=decider.excess_burst_capacity,
                ready=ready,
                reachable=reachable,
            )
            self._apply_scale(obj, step)
            sks = self._serve(obj, conditions, step.mode, step.activators)
            status["serviceName"] = at(sks, "status", "serviceName") or ""
            _reflect_service(sks, conditions)
        _report(step, ready, status, conditions)
        if step.recheck_s is not None:
            self.after(key, step.recheck_s)

    def _spec(self, key: Key, obj: Object) -> ScalingSpec:
        concurrency = obj["spec"].get("containerConcurrency", 0)
        parse = partial(
            parse_spec, annotations_of(obj), container_concurrency=concurrency, strict=False
        )
        try:
            spec = parse(config=self.context.config("config-autoscaler"))
        except InvalidValue as error:
            # Admission checked the annotations, so the ConfigMap is wrong: keep the last good one.
            log.warning("config-autoscaler is not used: %s", error)
            spec = self._specs.get(key) or parse()
        self._specs[key] = spec
        return spec

    def _scaler(self, key: Key, obj: Object, spec: ScalingSpec, sks: Object | None) -> Scaler:
        scaler = self._scalers.get(key)
        if scaler is None:
            scaler = self._scalers[key] = self._restored(obj, spec, sks)
        scaler.spec = spec
        return scaler

    def _restored(self, obj: Object, spec: ScalingSpec, sks: Object | None) -> Scaler:
        """Return a revision's scaler with the state that its objects show."""
        clock, active = self.context.clock, condition(obj, ACTIVE)
        deployment = self.store.find(
            "Deployment", obj["metadata"]["namespace"], obj["spec"]["scaleTargetRef"]["name"]
        )
        proxied = condition(sks or {}, "ActivatorEndpointsPopulated")
        proxy_since = None
        if proxied.get("status") == TRUE:
            proxy_since = clock.moment(proxied["lastTransitionTime"])
        scaler = Scaler(
            spec,
            now=clock.now(),
            replicas=at(deployment, "spec", "replicas"),
            state=_STATES.get(active.get("status", ""), ScaleState.ACTIVATING),
            since=clock.moment(active["lastTransitionTime"]) if active else None,
            initialized=condition(obj, INITIALIZED).get("status") == TRUE,
            mode=Mode(at(sks, "spec", "mode") or Mode.PROXY.value),
            proxy_since=proxy_since,
        )
        desired = at(obj, "status", "desiredScale")
        scaler.desired_scale = UNKNOWN if desired is None else desired
        scaler.condition_reason = active.get("reason", scaler.condition_reason)
        return scaler

    def _ready_pods(self, key: Key) -> int:
        namespace, revision = key
        pods = self.store.list("Pod", namespace, {names.REVISION: revision})
        return sum(is_active(pod) and is_ready_pod(pod) for pod in pods)

    def _apply_scale(self, obj: Object, step: ScalerStep) -> None:
        namespace = obj["metadata"]["namespace"]
        target = obj["spec"]["scaleTargetRef"]["name"]
        deployment = self.store.find("Deployment", namespace, target)
        if deployment is None:
            raise ReconcileError(
                f"error scaling target: failed to get scale target {target}: not found"
            )
        deployment["spec"]["replicas"] = step.replicas
        self.store.update("Deployment", deployment)

    def _serve(self, obj: Object, conditions: Conditions, mode: Mode, activators: int) -> Object:
        namespace, name = key_of(obj)
        wanted = _service_for(obj, mode, activators)
        found = self.store.find("ServerlessService", namespace, name)
        if found is None:
            return self.store.create("ServerlessService", wanted)
        error = f"error reconciling SKS: PA: {name} does not own SKS: {name}"
        self.check_owner(obj, found, conditions, ACTIVE, error=error)
        return self.store.update("ServerlessService", {**found, "spec": wanted["spec"]})


def _service_for(obj: Object, mode: Mode, activators: int) -> Object:
    spec, annotations = obj["spec"], names.without(annotations_of(obj), (f"{PREFIX}metric",))
    return {
        "metadata": child_metadata(obj, obj["metadata"]["name"], labels_of(obj), annotations),
        "spec": {
            "mode": mode.value,
            "numActivators": activators,
            "objectRef": spec["scaleTargetRef"],
            "protocolType": spec["protocolType"],
        },
    }


def _reflect_service(sks: Object, conditions: Conditions) -> None:
    if is_ready(sks):
        conditions.mark_true(SKS_READY)
    else:
        message = condition(sks, READY).get("message", "")
        conditions.mark_unknown(SKS_READY, "NotReady", message)


def _report(step: ScalerStep, ready: int, status: Object, conditions: Conditions) -> None:
    status["actualScale"] = ready
    status["desiredScale"] = step.desired_scale
    if step.initialized and status["serviceName"]:
        conditions.mark_true(INITIALIZED)
    if step.state is ScaleState.ACTIVE:
        conditions.mark_true(ACTIVE)
    elif step.state is ScaleState.ACTIVATING:
        conditions.mark_unknown(ACTIVE, "Queued", _MESSAGES["Queued"])
    else:
        conditions.mark_false(ACTIVE, step.condition_reason, _MESSAGES[step.condition_reason])

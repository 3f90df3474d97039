"""PodAutoscaler → ServerlessService and the Deployment's replicas, as the KPA decides."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from qwenkit.autoscaling.annotation_keys import KPA
from qwenkit.autoscaling.annotations import ScalingSpec, parse_spec
from qwenkit.autoscaling.kpa import UNKNOWN
from qwenkit.autoscaling.scale_to_zero import Mode, Scaler, ScalerStep, ScaleState
from qwenkit.errors import InvalidValue
from qwenkit.sandbox.controllers.knative import names
from qwenkit.sandbox.controllers.knative.autoscaler import Autoscaler
from qwenkit.sandbox.controllers.knative.conditions import READY, TRUE, Conditions, ConditionSet
from qwenkit.sandbox.controllers.knative.configuration import is_ready
from qwenkit.sandbox.controllers.knative.reconciler import ReconcileError, Shaped
from qwenkit.sandbox.controllers.loop import Key, World, key_of, owned_by, owner_reference
from qwenkit.sandbox.controllers.workloads.replica_set import is_active, is_ready_pod
from qwenkit.sandbox.kube.history import WatchEvent
from qwenkit.sandbox.kube.objects import Object, at, condition
from qwenkit.sandbox.traffic.counts import Traffic

log = logging.getLogger("qwenkit.sandbox.autoscaler")

ACTIVE, INITIALIZED, SKS_READY = "Active", "ScaleTargetInitialized", "SKSReady"
_MESSAGES = {
    "Queued": "Requests to the target are being buffered as resources are provisioned.",
    "NoTraffic": "The target is not receiving traffic.",
    "TimedOut": "The target could not be activated.",
}
_MIN_ACTIVATORS = 2
_STATES = {"True": ScaleState.ACTIVE, "False": ScaleState.INACTIVE}


class PodAutoscalerController(Shaped):
    """Reconciles PodAutoscalers."""

    name = "pod-autoscaler"
    kind = "PodAutoscaler"
    component = "autoscaler"
    watches = frozenset({"PodAutoscaler", "ServerlessService", "Pod", "ConfigMap"})
    rules = ConditionSet((ACTIVE, INITIALIZED, SKS_READY))

    def __init__(self, world: World, traffic: Traffic) -> None:
        super().__init__(world)
        self._scalers: dict[Key, Scaler] = {}
        self._specs: dict[Key, ScalingSpec] = {}
        self._uids: dict[Key, str] = {}
        self.autoscaler = Autoscaler(
            traffic,
            ready=self._ready_pods,
            notify=lambda key: world.queue.add(self, key),
        )

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Pods concern their revision's autoscaler, the ConfigMap all of them."""
        metadata = change.object["metadata"]
        if change.kind == "Pod":
            revision = metadata.get("labels", {}).get(names.REVISION)
            return [(metadata["namespace"], revision)] if revision else []
        if change.kind == "ConfigMap":
            if metadata["name"] != "config-autoscaler":
                return []
            return [key_of(item) for item in self.store.list(self.kind)]
        return super().keys(change)

    def reconcile(self, namespace: str, name: str) -> None:
        """Leave other classes to their autoscalers, which the sandbox has not got."""
        found = self.store.find(self.kind, namespace, name)
        wanted = at(found, "metadata", "annotations", f"{names.AUTOSCALING}/class") or KPA
        if found is None or wanted == KPA:
            super().reconcile(namespace, name)
        else:
            why = f"the sandbox has no autoscaler of class {wanted}, only {KPA}"
            self.recorder.warning(found, "NotInSandbox", why)

    def forget(self, key: Key) -> None:
        """Stop scaling a revision that is gone."""
        self.autoscaler.forget(key)
        self._scalers.pop(key, None)
        self._specs.pop(key, None)
        self._uids.pop(key, None)

    def shape(self, obj: Object, status: Object, conditions: Conditions) -> None:
        """Apply what the decider wants and report it."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        if self._uids.setdefault(key, uid) != uid:  # deleted and made anew before we looked
            self.forget(key)
            self._uids[key] = uid
        sks = self.store.find("ServerlessService", *key)
        spec = self._spec(key, obj)
        scaler = self._scaler(key, obj, spec, sks)
        reachable = obj["spec"].get("reachability") != "Unreachable"
        ready, now = self._ready_pods(key), self.world.clock.now()
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
        annotations = obj["metadata"].get("annotations", {})
        concurrency = obj["spec"].get("containerConcurrency", 0)
        config = self.world.config("config-autoscaler")
        try:
            spec = parse_spec(
                annotations, container_concurrency=concurrency, config=config, strict=False
            )
        except InvalidValue as error:
            # Admission checked the annotations, so the ConfigMap is broken: keep what was good.
            log.warning("config-autoscaler is not used: %s", error)
            spec = self._specs.get(key) or parse_spec(
                annotations, container_concurrency=concurrency, strict=False
            )
        self._specs[key] = spec
        return spec

    def _scaler(self, key: Key, obj: Object, spec: ScalingSpec, sks: Object | None) -> Scaler:
        scaler = self._scalers.get(key)
        if scaler is None:
            scaler = self._scalers[key] = self._restored(obj, spec, sks)
        scaler.spec = spec
        return scaler

    def _restored(self, obj: Object, spec: ScalingSpec, sks: Object | None) -> Scaler:
        """Take a revision over as its objects say it is."""
        clock, active = self.world.clock, condition(obj, ACTIVE)
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
        if not owned_by(found, obj):
            conditions.mark_false(
                ACTIVE,
                "NotOwned",
                f'There is an existing ServerlessService "{name}" that we do not own.',
            )
            raise ReconcileError(f"error reconciling SKS: PA: {name} does not own SKS: {name}")
        return self.store.update("ServerlessService", {**found, "spec": wanted["spec"]})


def _service_for(obj: Object, mode: Mode, activators: int) -> Object:
    metadata, spec = obj["metadata"], obj["spec"]
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": metadata.get("labels", {}),
            "annotations": names.without(
                metadata.get("annotations"), (f"{names.AUTOSCALING}/metric",)
            ),
            "ownerReferences": [owner_reference(obj)],
        },
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

"""Which control loops run in the sandbox's cluster? All on one event loop.

One task turns the store's changes into keys, another reconciles them in order. All state can be
found again in the store, so the controllers may be stopped and started at any time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from qwenkit.sandbox.controllers.garbage import GarbageCollector
from qwenkit.sandbox.controllers.knative.configuration import ConfigurationController
from qwenkit.sandbox.controllers.knative.pod_autoscaler import PodAutoscalerController
from qwenkit.sandbox.controllers.knative.revision import RevisionController
from qwenkit.sandbox.controllers.knative.revision_garbage import RevisionGarbageCollector
from qwenkit.sandbox.controllers.knative.serverless_service import ServerlessServiceController
from qwenkit.sandbox.controllers.knative.service import ServiceController
from qwenkit.sandbox.controllers.loop import Context, Controller, Delays, ImageResolver
from qwenkit.sandbox.controllers.namespace_content import DefaultServiceAccount, RootCaPublisher
from qwenkit.sandbox.controllers.quota import QuotaController
from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.controllers.routing.ingress import IngressController
from qwenkit.sandbox.controllers.routing.labeler import Labeler
from qwenkit.sandbox.controllers.routing.route import RouteController
from qwenkit.sandbox.controllers.workloads.deployment import DeploymentController
from qwenkit.sandbox.controllers.workloads.endpoints import EndpointsController
from qwenkit.sandbox.controllers.workloads.job import JobController
from qwenkit.sandbox.controllers.workloads.replica_set import ReplicaSetController
from qwenkit.sandbox.controllers.workloads.scheduler import Scheduler
from qwenkit.sandbox.controllers.workloads.volume_binding import (
    ClaimProtection,
    VolumeBinder,
    VolumeProtection,
)
from qwenkit.sandbox.controllers.workloads.volume_provisioning import LocalPathProvisioner
from qwenkit.sandbox.kube.storage.history import Subscription, WatchEvent
from qwenkit.sandbox.kube.storage.store import ObjectStore


class Controllers:
    """All controllers of the cluster.

    Args:
        store: the cluster's objects, seeded.
        traffic: the requests that the gateway counts; its clock is the cluster's.
        resolve_image: returns why an image's tag cannot be resolved, or None when it can.
        delays: how long the steps take that nothing else in the sandbox slows down.
        volumes: the folder of the volumes that are made for claims.
        root_ca: PEM of the authority that signed the API server's certificate.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        traffic: Traffic,
        resolve_image: ImageResolver,
        delays: Delays | None = None,
        root_ca: str = "",
        volumes: Path | None = None,
    ) -> None:
        context = Context(store, traffic.clock, resolve_image, delays=delays or Delays())
        self._store, self._queue = store, context.queue
        self._scaling = PodAutoscalerController(context, traffic)
        self.autoscaler = self._scaling.autoscaler
        # Earlier ones get a change first: a pod is scheduled before it is counted.
        self._controllers: list[Controller] = [
            DefaultServiceAccount(context),
            RootCaPublisher(context, root_ca),
            VolumeBinder(context),
            LocalPathProvisioner(context, volumes),
            ClaimProtection(context),
            VolumeProtection(context),
            Scheduler(context),
            ServiceController(context),
            ConfigurationController(context),
            RevisionController(context),
            RouteController(context),
            Labeler(context),
            RevisionGarbageCollector(context),
            IngressController(context),
            DeploymentController(context),
            ReplicaSetController(context),
            JobController(context),
            EndpointsController(context),
            ServerlessServiceController(context),
            self._scaling,
            QuotaController(context),
            GarbageCollector(context),
        ]

    async def run(self) -> None:
        """Reconcile until cancelled."""
        changes = self._store.subscribe()
        for kind in self._store.kinds:  # everything that exists, as if it had just been created
            for obj in self._store.list(kind):
                self._add_keys(WatchEvent("ADDED", kind.name, obj, self._store.revision))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(changes))
                group.create_task(self._work())
                group.create_task(self.autoscaler.run())
        finally:
            changes.close()
            self._queue.close()

    async def _follow(self, changes: Subscription) -> None:
        async for change in changes:
            self._add_keys(change)

    def _add_keys(self, change: WatchEvent) -> None:
        for controller in self._controllers:
            if change.kind in controller.watches:
                for key in controller.keys(change):
                    self._queue.add(controller, key)

    async def _work(self) -> None:
        while True:
            controller, key = await self._queue.get()
            controller.run(key)
            await asyncio.sleep(0)  # the changes just made are queued before the next key

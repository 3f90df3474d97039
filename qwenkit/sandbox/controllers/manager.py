"""All control loops of the sandbox's cluster, on one event loop.

One pump turns the store's changes into keys, one worker reconciles them in order. Nothing is kept
that cannot be found again in the store, so the controllers may be stopped and started at will.
"""

from __future__ import annotations

import asyncio

from qwenkit.sandbox.controllers.garbage import GarbageCollector
from qwenkit.sandbox.controllers.knative.configuration import ConfigurationController
from qwenkit.sandbox.controllers.knative.pod_autoscaler import PodAutoscalerController
from qwenkit.sandbox.controllers.knative.revision import RevisionController
from qwenkit.sandbox.controllers.knative.revision_garbage import RevisionGarbage
from qwenkit.sandbox.controllers.knative.serverless_service import ServerlessServiceController
from qwenkit.sandbox.controllers.knative.service import ServiceController
from qwenkit.sandbox.controllers.loop import Controller, Delays, ImageResolver, World
from qwenkit.sandbox.controllers.namespace_content import AccountSupplier, RootCaPublisher
from qwenkit.sandbox.controllers.routing.ingress import IngressController
from qwenkit.sandbox.controllers.routing.labeler import Labeler
from qwenkit.sandbox.controllers.routing.route import RouteController
from qwenkit.sandbox.controllers.workloads.deployment import DeploymentController
from qwenkit.sandbox.controllers.workloads.endpoints import EndpointsController
from qwenkit.sandbox.controllers.workloads.job import JobController
from qwenkit.sandbox.controllers.workloads.replica_set import ReplicaSetController
from qwenkit.sandbox.controllers.workloads.scheduler import Scheduler
from qwenkit.sandbox.controllers.workloads.volumes import (
    ClaimProtection,
    VolumeBinder,
    VolumeProtection,
)
from qwenkit.sandbox.kube.history import Subscription, WatchEvent
from qwenkit.sandbox.kube.store import ObjectStore
from qwenkit.sandbox.traffic.counts import Traffic


def any_image(image: str) -> str | None:
    """Resolve every image: the policy of a cluster that reaches all registries."""
    return None


class Controllers:
    """The cluster's brain.

    Args:
        store: the cluster's objects, seeded.
        traffic: the requests that the gateway counts; its clock is the cluster's.
        delays: how long the steps take that nothing else in the sandbox slows down.
        resolve_image: returns why an image's tag cannot be resolved, or None when it can.
        root_ca: PEM of the authority that signed the API server's certificate.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        traffic: Traffic,
        delays: Delays | None = None,
        resolve_image: ImageResolver = any_image,
        root_ca: str = "",
    ) -> None:
        self._world = World(
            store, traffic.clock, delays=delays or Delays(), resolve_image=resolve_image
        )
        world = self._world
        self._revisions = RevisionController(world)
        self._scaling = PodAutoscalerController(world, traffic)
        # Earlier ones hear of a change first: a pod is scheduled before it is counted.
        self._controllers: list[Controller] = [
            AccountSupplier(world),
            RootCaPublisher(world, root_ca),
            VolumeBinder(world),
            ClaimProtection(world),
            VolumeProtection(world),
            Scheduler(world),
            ServiceController(world),
            ConfigurationController(world),
            self._revisions,
            RouteController(world),
            Labeler(world),
            RevisionGarbage(world),
            IngressController(world),
            DeploymentController(world),
            ReplicaSetController(world),
            JobController(world),
            EndpointsController(world),
            ServerlessServiceController(world),
            self._scaling,
            GarbageCollector(world),
        ]

    async def run(self) -> None:
        """Reconcile until cancelled."""
        changes = self._world.store.subscribe()
        self._take_over()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(changes))
                group.create_task(self._work())
                group.create_task(self._scaling.autoscaler.run())
        finally:
            changes.close()
            self._revisions.close()
            self._world.queue.close()

    def _take_over(self) -> None:
        """Queue everything that exists, as if it had just been created."""
        store = self._world.store
        for kind in store.kinds:
            for obj in store.list(kind):
                self._spread(WatchEvent("ADDED", kind.name, obj, store.revision))

    async def _pump(self, changes: Subscription) -> None:
        async for change in changes:
            self._spread(change)

    def _spread(self, change: WatchEvent) -> None:
        for controller in self._controllers:
            if change.kind in controller.watches:
                for key in controller.keys(change):
                    self._world.queue.add(controller, key)

    async def _work(self) -> None:
        while True:
            controller, key = await self._world.queue.get()
            controller.run(key)
            await asyncio.sleep(0)  # the changes just made are spread before the next key

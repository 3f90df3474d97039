"""Put the sandbox together: OSS, hub, Kubernetes API, controllers, node, gateway and faults.

One process, one event loop, loopback only. ``sandbox.json`` is written when all of it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import secrets
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from aiohttp import web

from qwenkit.errors import NotFound, SandboxError
from qwenkit.private_files import write_private
from qwenkit.sandbox import root_lock, state_files, tiny_model
from qwenkit.sandbox.connections import raise_file_limit
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.knative import autoscaler_metrics
from qwenkit.sandbox.controllers.manager import Controllers
from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.controllers.seed import node_name, seed
from qwenkit.sandbox.faults.catalogue import FAULTS
from qwenkit.sandbox.faults.cluster import ClusterFaults
from qwenkit.sandbox.faults.control import FaultControl
from qwenkit.sandbox.faults.injector import Injector
from qwenkit.sandbox.faults.registry import FaultRegistry, FaultyServer
from qwenkit.sandbox.http import Listening, listen
from qwenkit.sandbox.hub.server import HubServer
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.kubeconfig import write_kubeconfig
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.server import KubeApi
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kube.tls import make_certificates
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.node import Node, resolve_image
from qwenkit.sandbox.kubelet.real_vllm import Vllm
from qwenkit.sandbox.kubelet.volumes import Backing
from qwenkit.sandbox.oss.server import OssServer
from qwenkit.sandbox.state_files import BUCKET, REGION, SandboxOptions, SandboxState
from qwenkit.sandbox.traffic.gateway import IngressGateway
from qwenkit.sandbox.webhooks import Webhooks

log = logging.getLogger("qwenkit.sandbox")

_SAVE_INTERVAL_S = 1.0
_FOLLOW_INTERVAL_S = 0.2


async def run(
    root: Path,
    options: SandboxOptions,
    began: float,
    *,
    on_stoppable: Callable[[], None] | None = None,
) -> None:
    """Run a sandbox under ``root`` until SIGTERM or SIGINT; ``began`` as for ``daemon.serve``.

    ``on_stoppable`` is called when these signals stop it in good order.

    Raises:
        SandboxError: a port is taken.
    """
    stop = _stop_on_signals()
    if on_stoppable:
        on_stoppable()
    async with contextlib.AsyncExitStack() as stack:
        sandbox = Sandbox(root, options, stack)
        await sandbox.start(stop)
        state = sandbox.state(round(time.monotonic() - began, 2))
        write_private(root / state_files.STATE, json.dumps(asdict(state)))
        # A full collection waits until what is new is a quarter of what is old. Without the start's
        # own objects it comes soon: garbage in cycles does not pile up over deployments.
        gc.freeze()
        gc.collect()
        log.info("up: %s", state)
        await stop.wait()
        with contextlib.suppress(FileNotFoundError):  # from now on it does not answer
            (root / state_files.STATE).replace(root / state_files.PREVIOUS_STATE)


async def run_oss(
    root: Path,
    port: int,
    keys: tuple[str, str],
    buckets: Iterable[str],
    *,
    on_ready: Callable[[str], None],
) -> None:
    """Run the OSS server alone until SIGTERM or SIGINT; ``on_ready`` gets its address.

    Raises:
        SandboxError: the port is taken.
    """
    raise_file_limit()
    stop = _stop_on_signals()
    server = OssServer(root, {keys[0]: keys[1]}, region=REGION, buckets=buckets)
    listening = await listen(server.app(), port=port)
    on_ready(f"oss: {listening.url}")
    await stop.wait()
    await listening.close()


class Sandbox:
    """The servers and loops of one sandbox; ``stack`` closes what was started."""

    def __init__(
        self, root: Path, options: SandboxOptions, stack: contextlib.AsyncExitStack
    ) -> None:
        self._root, self._options, self._stack = root, options, stack
        self._ports_before = _ports_before(root)
        self._listeners: list[Listening] = []
        self._servers: dict[str, FaultyServer] = {}
        self._store = ObjectStore(Kinds())
        self._recovered = (root / state_files.CLUSTER).exists()
        if self._recovered:
            self._store.load(root / state_files.CLUSTER)
        # The autoscaler's windows run in real time; ``time_scale`` speeds up the GPU alone.
        self._traffic = Traffic(Clock())
        self._node = self._make_node()
        self._autoscaler = ""  # where its metrics are

    async def start(self, stop: asyncio.Event) -> None:
        """Start every part, each after those that it needs.

        Raises:
            SandboxError: a port is taken.
        """
        self._stack.push_async_callback(self._close_listeners)
        oss = await self._start_storage()
        root_ca = await self._start_cluster()
        await self._start_faults(oss)
        controllers = Controllers(
            self._store,
            traffic=self._traffic,
            resolve_image=resolve_image,
            root_ca=root_ca,
            volumes=self._root / state_files.VOLUMES,
        )
        metrics = await listen(autoscaler_metrics.app(controllers.autoscaler))
        self._listeners.append(metrics)
        self._autoscaler = metrics.url
        self._start_loop(controllers.run())
        self._start_loop(self._node.run())
        self._start_loop(_save_changes(self._store, self._root, stop))

    def state(self, seconds: float) -> SandboxState:
        """Return the addresses of all servers; ``seconds``: how long the start took."""
        urls = {name: server.listening.url for name, server in self._servers.items()}
        return SandboxState(
            os.getpid(),
            self._options,
            **urls,
            seconds=seconds,
            recovered=self._recovered,
            time_scale=self._node.clock.scale,
        )

    def _show_time_scale(self, scale: float) -> None:
        path = self._root / state_files.STATE
        # It is not there before all answers, nor after the end.
        with contextlib.suppress(SandboxError, OSError):
            shown = replace(state_files.read_state(path), time_scale=scale)
            write_private(path, json.dumps(asdict(shown)))

    def _make_node(self) -> Node:
        options = self._options
        self._programs = programs = Programs(self._root / state_files.PROGRAMS)
        return Node(
            self._store,
            name=node_name(options.gpus),
            gpu=options.gpu,
            gpus=options.gpus,
            time_scale=options.time_scale,
            vllm=Vllm(options.vllm, options.vllm_version, programs) if options.vllm else None,
            programs=programs,
            backing=Backing(
                self._root / state_files.VOLUMES,
                state_files.read_keys(self._root),
                lambda: programs.oss,
            ),
        )

    async def _start_storage(self) -> OssServer:
        key_id, key_secret = state_files.read_keys(self._root)
        keys = {key_id: key_secret}
        oss = OssServer(self._root / state_files.OSS, keys, region=REGION, buckets=[BUCKET])
        self._programs.oss = (await self._serve("oss", oss.app())).url
        hub = self._root / state_files.HUB
        tiny_model.write(hub / state_files.MODEL)
        self._programs.hub = (await self._serve("hub", HubServer(hub).app())).url
        return oss

    async def _start_cluster(self) -> str:
        """Start gateway and API with the cluster's first objects; return the API's root CA."""
        gateway = await self._serve(
            "gateway", IngressGateway(self._store, self._node, self._traffic).app()
        )
        self._programs.gateway = gateway.url
        seed(
            self._store,
            node_name=self._node.name,
            gpu=self._options.gpu,
            gpus=self._options.gpus,
            gateway_port=gateway.port,
            oss_driver=self._options.oss_driver,
        )
        token = secrets.token_urlsafe(24)
        certificates = make_certificates()
        admit = Webhooks(self._store).admit
        api = KubeApi(self._store, token=token, admit=admit, logs=self._read_logs, dial=self._dial)
        listening = await self._serve("api", api.app(), certificates.ssl_context)
        ca_pem = certificates.ca_pem
        self._programs.write_kubeconfig = lambda path, name, *account: write_kubeconfig(
            path, server=listening.url, ca_pem=ca_pem, token=api.token_of(*account), name=name
        )
        write_kubeconfig(
            self._root / state_files.KUBECONFIG, server=listening.url, ca_pem=ca_pem, token=token
        )
        return ca_pem

    async def _start_faults(self, oss: OssServer) -> None:
        """Listen for faults to inject; a private file holds the address and the token."""
        cluster = ClusterFaults(self._store, self._node)
        registry = FaultRegistry(
            self._servers, cluster, self._root / state_files.OSS / BUCKET, oss.abort_upload
        )
        self._stack.callback(registry.close)
        control = FaultControl(registry, self._node.clock, self._show_time_scale)
        listening = await listen(control.app())
        self._listeners.append(listening)
        address = {"url": listening.url, "token": control.token}
        write_private(self._root / state_files.FAULTS_ADDRESS, json.dumps(address))

    async def _serve(
        self, name: str, app: web.Application, tls: ssl.SSLContext | None = None
    ) -> Listening:
        """Serve on the chosen port, else on the one before, which volumes name, else on any."""
        injector = Injector()
        if name in FAULTS:
            injector.install(app)
        port: int = getattr(self._options, f"{name}_port") or self._ports_before.get(name, 0)
        try:
            listening = await listen(app, port=port, tls=tls)
        except SandboxError:
            if port == getattr(self._options, f"{name}_port"):
                raise
            log.warning("port %d of the sandbox before this one is taken now", port)
            listening = await listen(app, tls=tls)
        self._listeners.append(listening)
        self._servers[name] = FaultyServer(injector, listening)
        return listening

    def _start_loop(self, loop: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(loop)
        task.add_done_callback(_report)
        self._stack.push_async_callback(_cancel, task)

    async def _close_listeners(self) -> None:
        await asyncio.gather(*(one.close() for one in self._listeners))

    def _dial(self, obj: Object, port: str) -> str | None:
        """Return what listens on a pod's port; of the Services, the autoscaler's alone."""
        if "containers" not in obj["spec"]:
            return self._autoscaler if obj["metadata"]["name"] == "autoscaler" else None
        return self._node.listener(obj["metadata"]["uid"], int(port)) if port.isdigit() else None

    async def _read_logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        previous: bool,
        timestamps: bool,
    ) -> AsyncIterator[bytes]:
        sent = 0
        # A pod that has not started a container, or was deleted, has no (more) log.
        with contextlib.suppress(NotFound):
            while True:
                live = follow and not previous and self._node.writes(namespace, pod, container)
                text = self._node.logs(
                    namespace, pod, container, previous=previous, timestamps=timestamps
                )
                sent = sent if sent <= len(text) else 0  # a restart begins a new log
                yield text[sent:].encode()
                sent = len(text)
                if not live:
                    return
                await asyncio.sleep(_FOLLOW_INTERVAL_S)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _ports_before(root: Path) -> dict[str, int]:
    """Return the ports of the sandbox that ran here before, none if there was none."""
    try:
        before = state_files.read_state(root / state_files.PREVIOUS_STATE)
    except SandboxError:
        return {}
    names = ("oss", "hub", "api", "gateway")
    return {name: int(getattr(before, name).rpartition(":")[2]) for name in names}


async def _save_changes(store: ObjectStore, root: Path, stop: asyncio.Event) -> None:
    """Save the cluster's objects as they change: a crash loses the last second at most.

    A sandbox whose folder was removed stops.
    """
    saved = -1
    while root_lock.has_lock_file(root):
        if store.revision != saved:
            saved = store.revision
            try:
                store.save(root / state_files.CLUSTER)
            except OSError as error:  # a full disk must not stop the cluster
                log.error("the cluster's objects are not saved: %s", error)
        await asyncio.sleep(_SAVE_INTERVAL_S)
    log.error("%s was removed: stopping", root)
    stop.set()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("a part of the sandbox failed", exc_info=error)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])

"""Put the sandbox together: OSS, hub, Kubernetes API, controllers, node and gateway.

One process, one event loop, loopback only. ``sandbox.json`` is written when all of it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

from qwenkit.errors import NotFound, SandboxError
from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.manager import Controllers
from qwenkit.sandbox.controllers.seed import seed
from qwenkit.sandbox.faults.catalogue import FAULTS
from qwenkit.sandbox.faults.client import ADDRESS
from qwenkit.sandbox.faults.cluster import ClusterFaults
from qwenkit.sandbox.faults.control import Control
from qwenkit.sandbox.faults.desk import Desk, Front
from qwenkit.sandbox.faults.injector import Injector
from qwenkit.sandbox.http import Listening, listen
from qwenkit.sandbox.hub.server import HubServer
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.kubeconfig import write_kubeconfig
from qwenkit.sandbox.kube.reads.logs import LogSource
from qwenkit.sandbox.kube.server import KubeApi
from qwenkit.sandbox.kube.store import Store
from qwenkit.sandbox.kube.tls import make_certificates
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.node import Node, resolve_image
from qwenkit.sandbox.kubelet.real_vllm import Vllm
from qwenkit.sandbox.oss.server import OssServer
from qwenkit.sandbox.process import (
    BUCKET,
    PREVIOUS,
    PROGRAMS,
    REGION,
    Options,
    State,
    read_keys,
    read_state,
    write_private,
)
from qwenkit.sandbox.traffic.counts import Traffic
from qwenkit.sandbox.traffic.gateway import Gateway
from qwenkit.sandbox.webhooks import Webhooks

log = logging.getLogger("qwenkit.sandbox")

MODEL = "qwen/Qwen-7B-Chat-Int8"
NODE = "gpu-node-1"
CLUSTER = "cluster.json"
_KEEP_S = 1.0


async def run(root: Path, options: Options, began: float) -> None:
    """Run a sandbox under ``root`` until SIGTERM or SIGINT; ``began`` as for ``process.serve``.

    Raises:
        SandboxError: a port is taken.
    """
    stop = _stopping()
    async with contextlib.AsyncExitStack() as stack:
        state = await _start(stack, root, options, began, stop)
        write_private(root / "sandbox.json", json.dumps(asdict(state)))
        log.info("up: %s", state)
        await stop.wait()


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
    stop = _stopping()
    server = OssServer(root, {keys[0]: keys[1]}, region=REGION, buckets=buckets)
    listening = await listen(server.app(), port=port)
    on_ready(f"oss: {listening.url}")
    await stop.wait()
    await listening.close()


def _stopping() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _start(
    stack: contextlib.AsyncExitStack,
    root: Path,
    options: Options,
    began: float,
    stop: asyncio.Event,
) -> State:
    before = _addresses_before(root)
    listeners: list[Listening] = []
    stack.push_async_callback(_close, listeners)

    fronts: dict[str, Front] = {}

    async def serve(app: web.Application, name: str, tls: ssl.SSLContext | None = None) -> str:
        chosen = getattr(options, f"{name}_port")
        injector = Injector()
        if name in FAULTS:
            injector.install(app)
        listening = await _listen(app, chosen, before.get(name, 0), tls)
        listeners.append(listening)
        fronts[name] = Front(injector, listening)
        return listening.url

    key_id, key_secret = read_keys(root)
    oss = OssServer(root / "oss", {key_id: key_secret}, region=REGION, buckets=[BUCKET])
    oss_url = await serve(oss.app(), "oss")
    tiny_model.write(root / "hub" / MODEL)
    hub_url = await serve(HubServer(root / "hub").app(), "hub")

    # The autoscaler's windows run in real time; ``time_scale`` speeds up the modelled GPU alone.
    store, traffic = Store(Kinds()), Traffic(Clock())
    recovered = (root / CLUSTER).exists()
    if recovered:
        store.load(root / CLUSTER)
    programs = Programs(root / PROGRAMS)
    node = Node(
        store,
        name=NODE,
        gpu=options.gpu,
        gpus=options.gpus,
        time_scale=options.time_scale,
        vllm=_vllm(options, programs),
        programs=programs,
    )
    gateway_url = await serve(Gateway(store, node, traffic).app(), "gateway")
    seed(
        store,
        node_name=NODE,
        gpu=options.gpu,
        gpus=options.gpus,
        gateway_port=int(gateway_url.rpartition(":")[2]),
    )
    token = secrets.token_urlsafe(24)
    certificates = make_certificates()
    api = KubeApi(store, token=token, admit=Webhooks(store).admit, logs=_logs(node))
    api_url = await serve(api.app(), "api", certificates.ssl_context)
    write_kubeconfig(root / "kubeconfig", server=api_url, ca_pem=certificates.ca_pem, token=token)
    cluster = ClusterFaults(store, node)
    desk = Desk(fronts, cluster, root / "oss" / BUCKET, oss.abort_upload)
    stack.callback(desk.close)
    listeners.append(await _take_orders(Control(desk), root))
    controllers = Controllers(
        store,
        traffic=traffic,
        resolve_image=resolve_image,
        root_ca=certificates.ca_pem,
    )
    for loop in (controllers.run(), node.run(), _keep(store, root, stop)):
        task = asyncio.create_task(loop)
        task.add_done_callback(_report)
        stack.push_async_callback(_cancel, task)
    return State(
        os.getpid(),
        options,
        api_url,
        gateway_url,
        oss_url,
        hub_url,
        round(time.monotonic() - began, 2),
        recovered,
    )


async def _take_orders(control: Control, root: Path) -> Listening:
    """Listen for orders of faults; the private file beside says where, and the token."""
    listening = await listen(control.app())
    write_private(root / ADDRESS, json.dumps({"url": listening.url, "token": control.token}))
    return listening


def _vllm(options: Options, programs: Programs) -> Vllm | None:
    if not options.vllm:
        return None
    return Vllm(options.vllm, options.vllm_version, programs)


async def _close(listeners: list[Listening]) -> None:
    await asyncio.gather(*(one.close() for one in listeners))


def _addresses_before(root: Path) -> dict[str, int]:
    """Return the ports of the sandbox that ran here before: volumes name them."""
    try:
        was = read_state(root / PREVIOUS)
    except SandboxError:
        return {}
    urls = {"oss": was.oss, "hub": was.hub, "api": was.api, "gateway": was.gateway}
    return {name: int(url.rpartition(":")[2]) for name, url in urls.items()}


async def _listen(
    app: web.Application, chosen: int, before: int, tls: ssl.SSLContext | None
) -> Listening:
    if before and not chosen:
        try:
            return await listen(app, port=before, tls=tls)
        except SandboxError:
            log.warning("port %d of the sandbox before this one is taken now", before)
    return await listen(app, port=chosen, tls=tls)


async def _keep(store: Store, root: Path, stop: asyncio.Event) -> None:
    """Write the cluster's objects down as they change, so that a crash loses no more than that.

    A sandbox whose folder is gone has no state any more, and stops.
    """
    saved = -1
    while (root / "lock").exists():
        if store.revision != saved:
            saved = store.revision
            try:
                store.save(root / CLUSTER)
            except OSError as error:  # a full disk must not take the cluster away
                log.error("the cluster is not written down: %s", error)
        await asyncio.sleep(_KEEP_S)
    log.error("%s is gone: stopping", root)
    stop.set()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("a part of the sandbox failed", exc_info=error)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _logs(node: Node) -> LogSource:
    async def read(
        namespace: str, pod: str, container: str, *, follow: bool, previous: bool
    ) -> AsyncIterator[bytes]:
        sent = 0
        # A pod that has not started a container, or is gone, has nothing (more) to say.
        with contextlib.suppress(NotFound):
            while True:
                over = not follow or previous or not node.writes(namespace, pod, container)
                text = node.logs(namespace, pod, container, previous=previous)
                sent = sent if sent <= len(text) else 0  # it restarted, and its log with it
                yield text[sent:].encode()
                sent = len(text)
                if over:
                    return
                await asyncio.sleep(0.2)

    return read

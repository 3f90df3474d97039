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

from qwenkit.errors import NotFound
from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.controllers.clock import Clock
from qwenkit.sandbox.controllers.manager import Controllers
from qwenkit.sandbox.controllers.seed import seed
from qwenkit.sandbox.gateway import Gateway
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.hub_server import HubServer
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.kubeconfig import write_kubeconfig
from qwenkit.sandbox.kube.logs import LogSource
from qwenkit.sandbox.kube.server import KubeApi
from qwenkit.sandbox.kube.store import Store
from qwenkit.sandbox.kube.tls import make_certificates
from qwenkit.sandbox.node import Node, resolve_image
from qwenkit.sandbox.oss_server import OssServer
from qwenkit.sandbox.process import BUCKET, REGION, Options, State, read_keys, write_private
from qwenkit.sandbox.traffic import Traffic
from qwenkit.sandbox.webhooks import Webhooks

log = logging.getLogger("qwenkit.sandbox")

MODEL = "qwen/Qwen-7B-Chat-Int8"
NODE = "gpu-node-1"


async def run(root: Path, options: Options) -> None:
    """Run a sandbox under ``root`` until SIGTERM or SIGINT.

    Raises:
        SandboxError: a port is taken.
    """
    started = time.monotonic()
    stop = _stopping()
    async with contextlib.AsyncExitStack() as stack:
        state = await _start(stack, root, options, started)
        write_private(root / "sandbox.json", json.dumps(asdict(state)))
        log.info("up: %s", state)
        await stop.wait()
    (root / "sandbox.json").unlink(missing_ok=True)


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
    stack: contextlib.AsyncExitStack, root: Path, options: Options, started: float
) -> State:
    async def serve(app: web.Application, port: int, tls: ssl.SSLContext | None = None) -> str:
        listening = await listen(app, port=port, tls=tls)
        stack.push_async_callback(listening.close)
        return listening.url

    key_id, key_secret = read_keys(root)
    oss = OssServer(root / "oss", {key_id: key_secret}, region=REGION, buckets=[BUCKET])
    oss_url = await serve(oss.app(), options.oss_port)
    tiny_model.write(root / "hub" / MODEL)
    hub_url = await serve(HubServer(root / "hub").app(), options.hub_port)

    # The autoscaler's windows run in real time; ``time_scale`` speeds up the modelled GPU alone.
    store, traffic = Store(Kinds()), Traffic(Clock())
    node = Node(store, name=NODE, gpu=options.gpu, gpus=options.gpus, time_scale=options.time_scale)
    gateway_url = await serve(Gateway(store, node, traffic).app(), options.gateway_port)
    seed(
        store,
        node_name=NODE,
        gpu=options.gpu,
        gpus=options.gpus,
        gateway_port=int(gateway_url.rpartition(":")[2]),
    )
    token = secrets.token_urlsafe(24)
    certificates = make_certificates(root / "tls")
    api = KubeApi(store, token=token, admit=Webhooks(store).admit, logs=_logs(node))
    api_url = await serve(api.app(), options.api_port, certificates.ssl_context)
    write_kubeconfig(root / "kubeconfig", server=api_url, ca_pem=certificates.ca_pem, token=token)
    controllers = Controllers(store, traffic=traffic, resolve_image=resolve_image)
    for loop in (controllers.run(), node.run()):
        stack.push_async_callback(_cancel, asyncio.create_task(loop))
    return State(
        os.getpid(),
        options,
        api_url,
        gateway_url,
        oss_url,
        hub_url,
        round(time.monotonic() - started, 2),
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _logs(node: Node) -> LogSource:
    async def read(namespace: str, pod: str, container: str, follow: bool) -> AsyncIterator[bytes]:
        sent = 0
        # A pod that has not started a container, or is gone, has nothing (more) to say.
        with contextlib.suppress(NotFound):
            while True:
                text = node.logs(namespace, pod, container)
                sent = sent if sent <= len(text) else 0  # it restarted, and its log with it
                yield text[sent:].encode()
                sent = len(text)
                if not follow:
                    return
                await asyncio.sleep(0.2)

    return read

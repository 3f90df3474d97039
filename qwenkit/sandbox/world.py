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
import time
from dataclasses import asdict
from pathlib import Path

from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.controllers.manager import Controllers
from qwenkit.sandbox.controllers.seed import seed
from qwenkit.sandbox.gateway import Gateway
from qwenkit.sandbox.http import Listening, listen
from qwenkit.sandbox.hub_server import HubServer
from qwenkit.sandbox.kube.admit import Admission
from qwenkit.sandbox.kube.kubeconfig import write_kubeconfig
from qwenkit.sandbox.kube.server import KubeApi
from qwenkit.sandbox.kube.store import Store
from qwenkit.sandbox.kube.tls import make_certificates
from qwenkit.sandbox.node import Node
from qwenkit.sandbox.oss_server import OssServer
from qwenkit.sandbox.process import BUCKET, REGION, Options, State, held, read_keys, write_private
from qwenkit.sandbox.traffic import Traffic

log = logging.getLogger("qwenkit.sandbox")

MODEL = "qwen/Qwen-7B-Chat-Int8"


async def run(root: Path, options: Options) -> None:
    """Run a sandbox under ``root`` until SIGTERM or SIGINT.

    Raises:
        SandboxError: one runs there already, or a port is taken.
    """
    started = time.monotonic()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with held(root):
        async with contextlib.AsyncExitStack() as stack:
            state = await _start(stack, root, options, started)
            write_private(root / "sandbox.json", json.dumps(asdict(state)))
            log.info("up: %s", state)
            await stop.wait()
        (root / "sandbox.json").unlink(missing_ok=True)

"""A small cluster as in ``controllers_world``, but with all of the sandbox behind it.

Real controllers, node, OSS server, engine and gateway; only time runs faster.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controllers_world import Stage
from node_world import BUCKET, FOLDER, KEY, SECRET, model_files, oss_volume

from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kubelet.node import Node, NodeTiming
from qwenkit.sandbox.oss.server import OssServer
from qwenkit.sandbox.traffic.gateway import IngressGateway


@asynccontextmanager
async def weights(root: Path) -> AsyncIterator[str]:
    """Serve the model from a bucket; the address of its OSS server."""
    folder = root / BUCKET / FOLDER
    folder.mkdir(parents=True)
    for name, content in model_files().items():
        (folder / name).write_bytes(content)
    oss = await listen(OssServer(root, {KEY: SECRET}, buckets=[BUCKET]).app())
    try:
        yield oss.url
    finally:
        await oss.close()


class WholeStage(Stage):
    """A cluster whose pods are run by the sandbox's own node, behind its gateway."""

    def __init__(self, oss: str, *, scale: float, load_s: float, gpu: str = "V100-16") -> None:
        self._oss = oss
        super().__init__(scale=scale)
        keys = {"akId": KEY, "akSecret": SECRET}
        data = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
        metadata = {"name": "oss-secret", "namespace": "default"}
        self.store.create("Secret", {"metadata": metadata, "data": data})
        timing = NodeTiming(load_s=load_s)
        self._node = Node(self.store, name="lab", gpu=gpu, gpus=3, time_scale=scale, timing=timing)

    def kubelet(self) -> Coroutine[Any, Any, None]:
        return self._node.run()

    def volume_source(self) -> Object:
        return oss_volume({"bucket": BUCKET, "url": self._oss, "path": f"/{FOLDER}"})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        gateway = await listen(IngressGateway(self.store, self._node, self.traffic).app())
        self.gateway_url = gateway.url
        try:
            async with super().running():
                yield
        finally:
            await gateway.close()

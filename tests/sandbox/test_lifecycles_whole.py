"""The recorded lifecycles of a real cluster, acted out before all of the sandbox.

Real controllers, node, OSS server, engine and gateway; only time runs faster.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import paced
import pytest
from controllers_world import Stage
from lifecycles import Play, recording
from node_world import BUCKET, FOLDER, KEY, SECRET, lake, model_files

from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kubelet.node import Node, NodeTiming
from qwenkit.sandbox.oss.server import OssServer
from qwenkit.sandbox.traffic.gateway import Gateway

SCALE = 10.0
NAMES = ("happy", "no-pvc", "no-gpu", "image-pull", "crash", "never-ready", "zero-and-back")


class WholeStage(Stage):
    """A cluster whose pods are run by the sandbox's own node, behind its gateway."""

    def __init__(self, oss: str) -> None:
        self._oss = oss
        self._asking: list[asyncio.Task[int]] = []
        super().__init__(scale=SCALE)
        keys = {"akId": KEY, "akSecret": SECRET}
        data = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
        metadata = {"name": "oss-secret", "namespace": "default"}
        self.store.create("Secret", {"metadata": metadata, "data": data})
        timing = NodeTiming(load_s=7)
        self._node = Node(
            self.store, name="lab", gpu="V100-16", gpus=3, time_scale=SCALE, timing=timing
        )

    def kubelet(self) -> Coroutine[Any, Any, None]:
        return self._node.run()

    def volume_source(self) -> Object:
        csi = {
            "driver": "ossplugin.csi.alibabacloud.com",
            "volumeHandle": "llm-model",
            "nodePublishSecretRef": {"name": "oss-secret", "namespace": "default"},
            "volumeAttributes": {"bucket": BUCKET, "url": self._oss, "path": f"/{FOLDER}"},
        }
        return {"csi": csi}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        gateway = await listen(Gateway(self.store, self._node, self.traffic).app())
        self._url = gateway.url
        try:
            async with super().running():
                yield
            assert await asyncio.gather(*self._asking) == [200] * len(self._asking)
        finally:
            await gateway.close()

    def request(self, namespace: str, service: str) -> None:
        host = f"{service}.{namespace}.example.com"
        self._asking.append(asyncio.create_task(self._ask(host)))

    def answered(self) -> None:
        """The answer comes by itself."""

    async def _ask(self, host: str) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self._url}/v1/chat/completions", json=lake(), headers={"Host": host}
            ) as response,
        ):
            await response.read()
            return response.status


def of_the_lab(line: str) -> bool:
    """Tell whether a difference is only that the recorded vLLM was a silent stand-in."""
    return ".terminated.message added" in line and "vLLM API server" in line


async def differences(root: Path) -> list[list[str]]:
    """Act all recordings out at once; each has a cluster of its own."""
    folder = root / BUCKET / FOLDER
    folder.mkdir(parents=True)
    for name, content in model_files().items():
        (folder / name).write_bytes(content)
    oss = await listen(OssServer(root, {KEY: SECRET}, buckets=[BUCKET]).app())
    plays = [Play(recording(n), WholeStage(oss.url), ignore=of_the_lab) for n in NAMES]
    try:
        return await asyncio.gather(*(play.differences() for play in plays))
    finally:
        await oss.close()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    results = paced.run(differences(tmp_path_factory.mktemp("oss")))
    return dict(zip(NAMES, results, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_sandbox_repeats_a_recorded_lifecycle(
    found: dict[str, list[str]], name: str
) -> None:
    assert found[name] == []

"""A node with an OSS server, volumes, pods and a gateway, for the data plane's tests."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import paced

from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.controllers.request_counts import Traffic
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kubelet.node import Node, NodeTiming
from qwenkit.sandbox.oss.server import OssServer
from qwenkit.sandbox.traffic.gateway import IngressGateway

KEY, SECRET, BUCKET, FOLDER = "node-test", "node-secret", "weights", "Qwen-7B-Chat-Int8"
IMAGE = "kube-ai-registry.cn-shanghai.cr.aliyuncs.com/kube-ai/vllm:0.4.1"
COMMAND = (
    "python3 -m vllm.entrypoints.openai.api_server --port 8080 --trust-remote-code"
    " --served-model-name qwen --model /Qwen-7B-Chat-Int8 --gpu-memory-utilization 0.95"
    " --quantization gptq --max-model-len=6144"
)
LAKE = ["西湖", "位于", "中国", "浙江省", "杭州市", ",", "是中国", "著名的", "风景", "名"]
HOST = "qwen.default.example.com"
SCALE = 100.0
Object = dict[str, Any]


@cache
def model_files() -> Mapping[str, bytes]:
    """Return the sandbox's own model."""
    return tiny_model.contents()


class CountedTraffic(Traffic):
    """The autoscaler's accounting, with the number of all requests that ever came."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: Counter[str] = Counter()

    def enter(self, namespace: str, revision: str) -> None:
        super().enter(namespace, revision)
        self.entered[revision] += 1

    def now(self, revision: str) -> int:
        return self.in_flight("default", revision)


class World:
    def __init__(self, root: Path, store: ObjectStore, node: Node, oss: str) -> None:
        self.folder = root / BUCKET / FOLDER
        self.store, self.node, self.oss = store, node, oss
        self.traffic = CountedTraffic()
        self.gateway_url = ""

    def secret(self, **data: str) -> None:
        encoded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
        obj = meta("oss-secret", data=encoded)
        exists = self.store.find("Secret", "default", "oss-secret")
        (self.store.update if exists else self.store.create)("Secret", obj)

    def volume(self, **attributes: str) -> None:
        attributes = {"bucket": BUCKET, "url": self.oss, "path": f"/{FOLDER}"} | attributes
        self.store.create(
            "PersistentVolume", {"metadata": {"name": "llm-model"}, "spec": oss_volume(attributes)}
        )
        claim = meta("llm-model", spec={"volumeName": "llm-model"})
        self.store.create("PersistentVolumeClaim", claim)
        claim["status"] = {"phase": "Bound"}
        self.store.update_status("PersistentVolumeClaim", claim)

    def pod(self, name: str, **more: Any) -> Object:
        return self.store.create("Pod", knative_pod(name, **more))

    def find(self, name: str) -> Object | None:
        return self.store.find("Pod", "default", name)

    def status(self, name: str) -> Object:
        return self.store.get("Pod", "default", name)["status"]

    def ready(self, name: str) -> bool:
        conditions = (self.find(name) or {}).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def container(self, name: str, container: str = "vllm-container") -> Object:
        statuses = self.status(name).get("containerStatuses", [])
        return next((one for one in statuses if one["name"] == container), {})

    def events(self, name: str) -> list[tuple[str, str]]:
        return [
            (one["reason"], one["message"])
            for one in self.store.list("Event")
            if one["involvedObject"]["name"] == name
        ]

    def reasons(self, name: str) -> set[str]:
        return {reason for reason, _ in self.events(name)}

    def revision(self, name: str, **spec: Any) -> None:
        obj = meta(name, spec={"timeoutSeconds": 300, "containerConcurrency": 0} | spec)
        self.store.create("Revision", obj)

    def route(self, host: str, *splits: tuple[str, int], name: str = "qwen") -> None:
        paths = [{"splits": [split(revision, percent) for revision, percent in splits]}]
        local = "qwen.default.svc.cluster.local"
        rules = [
            {"hosts": [name], "http": {"paths": paths}, "visibility": visibility}
            for name, visibility in ((host, "ExternalIP"), (local, "ClusterLocal"))
        ]
        self.store.create("Ingress", meta(name, spec={"rules": rules}))


def oss_volume(attributes: Mapping[str, str]) -> Object:
    csi = {
        "driver": "ossplugin.csi.alibabacloud.com",
        "volumeHandle": "llm-model",
        "nodePublishSecretRef": {"name": "oss-secret", "namespace": "default"},
        "volumeAttributes": attributes,
    }
    return {"csi": csi}


def split(revision: str, percent: int) -> Object:
    return {
        "serviceName": revision,
        "serviceNamespace": "default",
        "servicePort": 80,
        "percent": percent,
        "appendHeaders": {
            "Knative-Serving-Namespace": "default",
            "Knative-Serving-Revision": revision,
        },
    }


def meta(name: str, **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}} | more


def knative_pod(
    name: str,
    *,
    script: str = COMMAND,
    revision: str = "qwen-00001",
    image: str = IMAGE,
    probe: Object | None = None,
    period_s: int = 1,
    drain: bool = True,
) -> Object:
    probe = probe or {"tcpSocket": {"port": 8080}}
    queue_probe = {
        "httpGet": {
            "path": "/",
            "port": 8012,
            "httpHeaders": [{"name": "K-Network-Probe", "value": "queue"}],
        },
        "periodSeconds": period_s,
    }
    user = {
        "name": "vllm-container",
        "image": image,
        "command": ["sh", "-c", script],
        "ports": [{"name": "user-port", "containerPort": 8080}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "100m"}},
        "volumeMounts": [
            {"name": "llm-model", "mountPath": "/Qwen-7B-Chat-Int8", "readOnly": True}
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    proxy = {
        "name": "queue-proxy",
        "image": "docker.io/lab/queue:1",
        "env": [
            {"name": "USER_PORT", "value": "8080"},
            {"name": "SERVING_READINESS_PROBE", "value": json.dumps(probe)},
        ],
        "resources": {"requests": {"cpu": "25m"}},
        "readinessProbe": queue_probe,
    }
    claim = {"name": "llm-model", "persistentVolumeClaim": {"claimName": "llm-model"}}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"serving.knative.dev/revision": revision},
        },
        "spec": {
            "nodeName": "lab",
            "containers": [user, proxy],
            "volumes": [claim],
            "terminationGracePeriodSeconds": 300,
        },
    }


@asynccontextmanager
async def world(
    root: Path,
    *,
    volume: bool = True,
    time_scale: float = SCALE,
    gpu: str = "V100-16",
    **timing: float,
) -> AsyncIterator[World]:
    folder = root / BUCKET / FOLDER
    folder.mkdir(parents=True)
    for name, data in model_files().items():
        (folder / name).write_bytes(data)
    oss = await listen(OssServer(root, {KEY: SECRET}, buckets=[BUCKET]).app())
    store = ObjectStore(Kinds())
    store.create("Namespace", {"metadata": {"name": "default"}})
    chosen = NodeTiming(**timing)
    node = Node(store, name="lab", gpu=gpu, gpus=3, time_scale=time_scale, timing=chosen)
    made = World(root, store, node, oss.url)
    made.secret(akId=KEY, akSecret=SECRET)
    if volume:
        made.volume()
    running = asyncio.create_task(node.run())
    gateway = await listen(IngressGateway(store, node, made.traffic).app())
    made.gateway_url = gateway.url
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await gateway.close()
        await oss.close()


async def until(condition: Callable[[], object]) -> None:
    """Poll until ``condition`` holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the deadline passed"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


def lake(**more: Any) -> Object:
    """The documentation's request."""
    return {
        "model": "qwen",
        "messages": [{"role": "user", "content": "杭州西湖"}],
        "max_tokens": 10,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 10,
    } | more


Test = Callable[[World], Awaitable[None]]


def in_world(tmp_path: Path, test: Test, **options: Any) -> None:
    async def run() -> None:
        async with world(tmp_path, **options) as made:
            await test(made)

    paced.run(run())


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {one["type"]: (one["status"], one.get("reason")) for one in status["conditions"]}

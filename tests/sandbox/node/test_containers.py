"""Single containers on the node: images, plain pods, probes, GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_world import COMMAND, IMAGE, World, conditions, in_world, meta, until

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.kubelet.node import Node, resolve_image


def test_an_image_that_cannot_be_pulled(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one", image="registry.invalid/kube-ai/vllm:9.9")
        reasons: set[str] = set()

        def both() -> bool:
            waiting = made.container("one").get("state", {}).get("waiting", {})
            reasons.add(waiting.get("reason", ""))
            return reasons >= {"ErrImagePull", "ImagePullBackOff"}

        await until(both)
        assert ("Failed", "Error: ErrImagePull") in made.events("one")
        assert (
            "BackOff",
            'Back-off pulling image "registry.invalid/kube-ai/vllm:9.9"',
        ) in made.events("one")
        assert made.status("one")["phase"] == "Pending"

    in_world(tmp_path, test)


def test_a_plain_pod_runs_once_and_completes(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        container = {"name": "main", "image": "busybox", "command": ["echo", "hello"]}
        spec = {"nodeName": "lab", "restartPolicy": "Never", "containers": [container]}
        made.store.create("Pod", meta("plain", spec=spec))
        await until(lambda: made.status("plain")["phase"] == "Succeeded")
        assert made.node.logs("default", "plain", "main") == "hello\n"
        assert conditions(made.status("plain"))["Ready"] == ("False", "PodCompleted")

    in_world(tmp_path, test)


def test_a_failed_liveness_probe_restarts_the_container(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        probe = {"httpGet": {"path": "/x", "port": 80}, "periodSeconds": 1, "failureThreshold": 1}
        container = {
            "name": "main",
            "image": "busybox",
            "command": ["sleep", "infinity"],
            "livenessProbe": probe,
        }
        made.store.create("Pod", meta("plain", spec={"nodeName": "lab", "containers": [container]}))
        await until(lambda: made.container("plain", "main").get("restartCount", 0) >= 1)
        killed = "Container main failed liveness probe, will be restarted"
        assert ("Killing", killed) in made.events("plain")

    in_world(tmp_path, test)


def test_a_startup_probe_holds_the_others_back(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        port = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        command = COMMAND.replace("/Qwen-7B-Chat-Int8", "/m").split()
        container = {
            "name": "main",
            "image": "x",
            "command": command,
            "ports": [{"containerPort": 8080}],
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
            "volumeMounts": [{"name": "v", "mountPath": "/m"}],
            "startupProbe": port | {"failureThreshold": 600},
            "livenessProbe": port | {"failureThreshold": 1},
        }
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "llm-model"}}]
        spec = {"nodeName": "lab", "containers": [container], "volumes": volumes}
        made.store.create("Pod", meta("plain", spec=spec))
        await until(lambda: "Unhealthy" in made.reasons("plain"))
        assert not made.container("plain", "main")["started"]
        await until(lambda: made.ready("plain"))
        assert made.container("plain", "main")["started"]
        assert made.container("plain", "main")["restartCount"] == 0

    in_world(tmp_path, test, load_s=150.0)


def test_no_more_gpus_are_given_than_the_node_has(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        for name in ("one", "two", "three", "four"):
            made.pod(name, script="sleep infinity")
        await until(lambda: made.status("four")["phase"] == "Failed")
        status = made.status("four")
        assert status["reason"] == "UnexpectedAdmissionError"
        assert "Requested: 1, Available: 0" in status["message"]
        made.store.delete("Pod", "default", "one", grace_seconds=0)
        made.pod("five", script="sleep infinity")
        await until(lambda: made.status("five")["phase"] == "Running")

    in_world(tmp_path, test)


def test_a_container_without_a_gpu_has_no_driver(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        container = {"name": "main", "image": "docker.io/vllm/vllm-openai:v0.4.1", "args": []}
        made.store.create("Pod", meta("plain", spec={"nodeName": "lab", "containers": [container]}))
        await until(lambda: made.container("plain", "main").get("restartCount", 0) >= 1)
        log = made.node.logs("default", "plain", "main", previous=True)
        assert "Found no NVIDIA driver on your system" in log

    in_world(tmp_path, test)


def test_a_node_needs_a_known_gpu(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        with pytest.raises(InvalidValue, match="H9000"):
            Node(made.store, name="x", gpu="H9000", gpus=1, time_scale=1)

    in_world(tmp_path, test)


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        "busybox",
        "vllm/vllm-openai:v0.4.1",
        "ghcr.io/a/b@sha256:" + "0" * 64,
        "registry-vpc.cn-hangzhou.aliyuncs.com/acs/x:1",
        "nvcr.io/nvidia/x:1",
    ],
)
def test_known_registries_resolve(image: str) -> None:
    assert resolve_image(image) is None


def test_an_unknown_registry_does_not_resolve() -> None:
    assert resolve_image("registry.invalid/kube-ai/vllm:9.9") == (
        'Get "https://registry.invalid/v2/": dial tcp: lookup registry.invalid on 10.96.0.10:53: '
        "server misbehaving"
    )
    assert "could not parse reference" in (resolve_image("docker.io/Bad Name") or "")

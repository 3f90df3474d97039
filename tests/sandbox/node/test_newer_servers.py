"""Pods with newer vLLM: an image's entrypoint, two GPUs, a key, Qwen3; and one without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node_world import LAKE, World, client, in_world, knative_pod, lake, until

from qwenkit.sandbox import tiny_model

ENGINE = "vllm/vllm-openai:v0.26.0-cu129"
ARGS = ["/Qwen-7B-Chat-Int8", "--served-model-name=qwen", "--port", "$(PORT)"]


def pod(image: str, gpus: int, *args: str, **env: str) -> dict[str, Any]:
    """Return a pod that leaves the command to the image."""
    made = knative_pod("one", image=image)
    user = made["spec"]["containers"][0]
    del user["command"]
    user["args"] = [*ARGS, *args]
    user["env"] = [
        {"name": name, "value": value} for name, value in {"PORT": "8080", **env}.items()
    ]
    user["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)} if gpus else {}}
    user["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})
    made["spec"]["volumes"].append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    return made


def serve(tmp_path: Path, stands_for: str, wanted: dict[str, Any], says: str) -> None:
    async def test(made: World) -> None:
        for old in made.folder.iterdir():
            old.unlink()
        tiny_model.write(made.folder, stands_for)
        uid = made.store.create("Pod", wanted)["metadata"]["uid"]
        await until(lambda: made.ready("one") or made.container("one").get("restartCount"))
        log = made.node.logs("default", "one", "vllm-container")
        assert made.ready("one"), log
        assert says in log
        url = f"{made.node.address(uid)}/v1/chat/completions"
        async with client() as session:
            async with session.post(url, json=lake()) as response:
                assert response.status == 401
            key = {"Authorization": "Bearer k"}
            async with session.post(url, json=lake(), headers=key) as response:
                answer = await response.json()
        assert answer["choices"][0]["message"]["content"] == "".join(LAKE)
        assert answer["usage"]["prompt_tokens"] == 10

    in_world(tmp_path, test, gpu="A10")


def test_qwen3_on_two_gpus_with_a_key(tmp_path: Path) -> None:
    wanted = pod(ENGINE, 2, "-tp", "2", "--max-model-len", "16k", VLLM_API_KEY="k")
    serve(tmp_path, "Qwen3-8B", wanted, "those of Qwen3-8B on a A10")


def test_a_cpu_serves_a_small_model(tmp_path: Path) -> None:
    wanted = pod("vllm/vllm-openai-cpu:v0.26.0", 0, "--api-key", "k", VLLM_CPU_KVCACHE_SPACE="1")
    serve(tmp_path, "Qwen2.5-0.5B-Instruct", wanted, "those of Qwen2.5-0.5B-Instruct on a CPU")

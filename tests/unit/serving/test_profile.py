"""What is chosen for models, GPUs and images, and what contradicts it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from ruamel.yaml import YAML

from qwenkit.admission.pod.spec import needed_flags
from qwenkit.admission.review import review
from qwenkit.capacity.gpu import find_gpu
from qwenkit.capacity.memory import fit
from qwenkit.errors import Rejected, SettingsError
from qwenkit.manifests.render import render
from qwenkit.manifests.template import to_yaml
from qwenkit.serving import images
from qwenkit.serving.profile import CHATML, stop_token_ids
from qwenkit.settings import Settings
from qwenkit.steps import render as refused_or_rendered

ALL_FEATURES = {
    f"kubernetes.podspec-{name}": "enabled"
    for name in ("persistent-volume-claim", "nodeselector", "tolerations", "runtimeclassname")
}
PLACED = {
    "env": "NCCL_DEBUG=WARN,CUDA_VISIBLE_DEVICES=0,1",
    "node_selector": "aliyun.accelerator/nvidia_name=NVIDIA-L20",
    "tolerations": "nvidia.com/gpu:NoSchedule",
    "image_pull_secret": "acr",
    "runtime_class": "nvidia",
    "api_key_secret": "vllm-key",
}


def chosen(model: str, **values: Any) -> Settings:
    where = {"bucket": "course-weights", "oss_endpoint": "oss-cn-x.aliyuncs.com"}
    return Settings(**where, model_source=f"modelscope:Qwen/{model}", **values)


def document(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = list(YAML(typ="safe").load_all(to_yaml(render(settings))))[-1]
    review(found, features=ALL_FEATURES)
    return found


def pod(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = document(settings)["spec"]["template"]["spec"]
    return found


def flags(settings: Settings) -> list[str]:
    line = pod(settings)["containers"][0]["command"][2].replace("$$", "$")
    return shlex.split(line)[4:-3] if line.startswith("trap") else shlex.split(line)


def flag(settings: Settings, name: str) -> str | None:
    words = flags(settings)
    for index, word in enumerate(words):
        if word.partition("=")[0] == name:
            return word.partition("=")[2] or " ".join(words[index + 1 : index + 2])
    return None


def test_the_page_s_model_keeps_the_page_s_values_on_every_card() -> None:
    for gpu in ("V100-16", "V100-32", "T4", "A10", "L20", "H100", "RTX 4090"):
        settings = Settings(gpu=gpu)
        values = (settings.image, settings.quantization, settings.dtype, settings.max_model_len)
        assert values == (images.PAGE.name, "gptq", "half", 6144), gpu
    container = pod(Settings())["containers"][0]
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}
    assert not {"startupProbe", "env"} & set(container)


@pytest.mark.parametrize(
    ("model", "values", "image", "expected"),
    [
        ("Qwen3-8B", {"gpu": "A10"}, images.CURRENT, {"--dtype": None, "--quantization": None}),
        ("Qwen3-8B", {"gpu": "L20"}, images.CURRENT, {"--safetensors-load-strategy": "prefetch"}),
        ("Qwen3-8B", {"gpu": "L20", "storage": "nas"}, images.CURRENT,
         {"--safetensors-load-strategy": None}),
        ("Qwen2.5-7B-Instruct", {"gpu": "V100-32"}, images.VOLTA, {"--dtype": "half"}),
        ("Qwen2.5-3B-Instruct", {"gpu": "T4"}, images.CURRENT, {"--dtype": "half"}),
        ("Qwen2.5-14B-Instruct-AWQ", {"gpu": "A10"}, images.CURRENT, {"--quantization": None}),
        ("Qwen3-32B", {"gpu": "L20", "gpu_count": 2}, images.CURRENT,
         {"--tensor-parallel-size": "2"}),
        ("Qwen-7B-Chat", {"gpu": "A10"}, images.PAGE, {"--chat-template": None}),
        ("Qwen-7B-Chat", {"gpu": "V100-32", "image": images.VOLTA.name}, images.VOLTA,
         {"--chat-template": CHATML, "--dtype": "half"}),
        ("Qwen2.5-0.5B-Instruct", {"gpu_count": 0}, images.CPU,
         {"--gpu-memory-utilization": None, "--enforce-eager": None, "--dtype": "bfloat16"}),
        ("Qwen3-0.6B", {"gpu": "MINE", "gpu_memory_gib": 8.0, "gpu_bandwidth_gb_s": 300.0,
                        "gpu_tflops": 50.0, "gpu_capability": 8.6}, images.CURRENT, {}),
    ],
)  # fmt: skip
def test_a_profile_is_accepted_by_the_webhooks_and_has_its_flags(
    model: str, values: dict[str, Any], image: images.ServerImage, expected: dict[str, str | None]
) -> None:
    settings = chosen(model, **values, **PLACED)
    assert settings.contradictions() == []
    spec = pod(settings)
    container = spec["containers"][0]
    assert container["image"] == settings.image == image.name
    for name, value in expected.items():
        assert flag(settings, name) == value, name
    assert f"/{model}" in flags(settings)
    assert ("serve" in flags(settings)) is (image is not images.PAGE)
    probe = container["readinessProbe"]
    assert ("httpGet" in probe) is (image is not images.PAGE)
    assert ("startupProbe" in container) is (image is not images.PAGE)
    assert spec["nodeSelector"] == {"aliyun.accelerator/nvidia_name": "NVIDIA-L20"}
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["imagePullSecrets"] == [{"name": "acr"}]
    assert {"name": "CUDA_VISIBLE_DEVICES", "value": "0,1"} in container["env"]
    assert container["env"][-1]["valueFrom"]["secretKeyRef"]["key"] == "api-key"
    limits = container["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == (str(settings.gpu_count) if settings.gpu_count else None)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert ("/dev/shm" in mounts) is (settings.gpu_count > 1)


def test_the_derived_length_fits_and_is_no_longer_than_the_context() -> None:
    assert chosen("Qwen3-8B", gpu="A10").max_model_len <= 32768
    small = chosen("Qwen3-8B", gpu="A10", gpu_memory_utilization=0.8)
    assert 2048 <= small.max_model_len < 32768
    assert small.max_model_len % 1024 == 0
    assert chosen("Qwen1.5-0.5B-Chat", gpu="A10").max_model_len == 32768
    crowded = chosen("Llama-2-7b-chat-hf", gpu="T4")
    assert 0 < crowded.max_model_len <= fit(**crowded.sizes()).kv_tokens < 2048
    assert chosen("Qwen3-8B", gpu="A10", max_model_len=999).profile.max_model_len == 999


def test_only_volta_on_the_last_image_for_it_is_kept_from_the_v1_engine() -> None:
    env = pod(chosen("Qwen2.5-7B-Instruct", gpu="V100-32"))["containers"][0]["env"]
    assert env == [{"name": "VLLM_USE_V1", "value": "0"}]
    assert "env" not in pod(chosen("Qwen3-8B", gpu="A10"))["containers"][0]
    old = {gpu: chosen("Qwen3-8B", gpu=gpu, image=images.VOLTA.name) for gpu in ("A10", "V100-32")}
    steps = {gpu: settings.sizes()["batched_tokens"] for gpu, settings in old.items()}
    assert steps == {"A10": 2048, "V100-32": None}


def test_slices_and_shares_are_asked_for_by_their_resource() -> None:
    slices = chosen("Qwen3-8B", gpu="A100-80", gpu_resource="nvidia.com/mig-3g.40gb")
    assert slices.hardware.usable_gib == pytest.approx(find_gpu("A100-80").usable_gib / 2)
    limits = pod(slices)["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/mig-3g.40gb"] == "1"
    share = chosen("Qwen3-0.6B", gpu="A10", gpu_resource="aliyun.com/gpu-mem", gpu_memory_gib=8.0)
    assert pod(share)["containers"][0]["resources"]["limits"]["aliyun.com/gpu-mem"] == "8"
    assert share.hardware.compute_capability == 8.6


def test_an_unknown_gpu_is_refused_where_it_is_needed_and_numbers_make_it_known() -> None:
    settings = Settings(gpu="RTX 9090")
    with pytest.raises(SettingsError, match="RTX 9090") as caught:
        render(settings)
    assert "A10" in caught.value.rule
    assert "gpu_memory_gib, gpu_bandwidth_gb_s, gpu_tflops and gpu_capability" in caught.value.fix
    for values in ({}, {"gpu_memory_gib": 40.0}):
        with pytest.raises(SettingsError, match="A100") as caught:
            render(Settings(gpu="A100", **values))
        assert caught.value.fix.startswith("name A100-40 or A100-80; or set gpu_memory_gib")


def test_the_features_that_a_service_needs() -> None:
    assert set(needed_flags(pod(Settings()))) == {"kubernetes.podspec-persistent-volume-claim"}
    assert set(ALL_FEATURES) <= set(needed_flags(pod(chosen("Qwen3-8B", **PLACED))))


@pytest.mark.parametrize(
    ("model", "values", "rule", "fix"),
    [
        ("Qwen3-8B", {"gpu": "A10", "quantization": "gptq"}, "quantization", "leave quantization"),
        ("Qwen2.5-7B-Instruct-AWQ", {"gpu": "A10", "quantization": "gptq"}, "quantization", "awq"),
        ("Qwen2.5-7B-Instruct-AWQ", {"gpu": "V100-32"}, "quantization", "GPTQ"),
        ("Qwen3-8B-FP8", {"gpu": "T4"}, "quantization", "newer GPU"),
        ("Qwen3-0.6B", {"gpu": "V100-16", "dtype": "bfloat16"}, "dtype", "half"),
        ("Qwen-7B-Chat-Int8", {"gpu": "A10", "dtype": "bfloat16"}, "dtype", "half"),
        ("Qwen3-0.6B", {"gpu": "A10", "image": images.PAGE.name}, "image-architecture",
         "leave image"),
        ("Qwen2.5-3B", {"gpu": "V100-32", "image": "vllm/vllm-openai:v0.10.1"}, "image-gpu",
         "v0.8.5"),
        ("Qwen3-32B", {"gpu": "A100-80", "gpu_count": 3}, "tensor-parallel", "gpu_count=2"),
        ("Qwen3-32B", {"gpu": "A10", "gpu_count": 3}, "tensor-parallel", "gpu_count=4"),
        ("Qwen1.5-7B-Chat", {"gpu": "A100-80", "max_model_len": 99_999}, "context", "32768"),
        ("Qwen3-8B", {"gpu": "A10", "gpu_memory_utilization": 0.8, "max_model_len": 32768},
         "kv-cache", "at most"),
        ("Qwen2.5-72B-Instruct", {"gpu": "A10"}, "weights-size", "larger GPU"),
    ],
)  # fmt: skip
def test_what_somebody_set_and_cannot_work_is_refused_with_the_fix(
    model: str, values: dict[str, Any], rule: str, fix: str
) -> None:
    settings = chosen(model, **values)
    found = {finding.rule: finding for finding in settings.contradictions()}
    assert found[rule].level == "error"
    assert fix in found[rule].fix
    with pytest.raises(Rejected, match=r"would not work") as caught:
        refused_or_rendered(settings)
    assert caught.value.fix


def test_what_nobody_set_is_never_refused() -> None:
    for model in ("Qwen2.5-72B-Instruct", "Qwen3-8B", "Qwen2.5-7B-Instruct-AWQ", "Qwen3-8B-FP8"):
        levels = {finding.level for finding in chosen(model).contradictions()}
        assert "error" not in levels, model
    assert refused_or_rendered(chosen("Qwen3-8B"))[-1]["kind"] == "Service"


def test_comments_are_true_of_this_service_and_end_with_their_line() -> None:
    text = to_yaml(render(chosen("Qwen3-8B", gpu="A10", target_utilization_percentage=85.0)))
    assert "aims at 85 % of it" in text
    assert "bfloat16" not in text
    assert "V100-16 has no bfloat16" in to_yaml(render(Settings()))
    nasty = "X\nkind: Pod #"
    own = {"gpu_memory_gib": 15.0, "gpu_bandwidth_gb_s": 9.0, "gpu_tflops": 9.0}
    found = document(chosen("Qwen3-0.6B", gpu=nasty, gpu_capability=7.0, **own))
    assert found["kind"] == "Service"


def test_the_documents_of_the_front_room_say_why() -> None:
    reasons = {name: why for name, _, why in refused_or_rendered(Settings()).reasons}
    assert reasons["dtype"] == "V100-16 has no bfloat16"
    assert stop_token_ids(Settings().model, "") == (151645, 151643)
    assert stop_token_ids(None, "Qwen-1_8B-Chat") == (151645, 151643)
    assert stop_token_ids(chosen("Qwen3-8B").model, "Qwen3-8B") == ()

"""How a model is served on a GPU: image, flags and environment, each with its reason.

``choose`` keeps what somebody set and derives the rest so that it works; it refuses nothing.
``contradictions`` says what is wrong with the values that somebody set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qwenkit.capacity.gpu import Gpu
from qwenkit.capacity.loading import worth
from qwenkit.capacity.memory import LEAST_CAPABILITY, Fit, fit, v1_step_tokens
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.serving import images
from qwenkit.serving.images import OWN_CODE, WHY, ServerImage

PAGE_MODEL = "Qwen-7B-Chat-Int8"
_QWEN_V1 = "QWenLMHeadModel"
_PAGE_LENGTH, _LONGEST, _SHORTEST, _UNKNOWN = 6144, 32768, 2048, 4096  # tokens, when derived
# ChatML in the single-line form that --chat-template takes beside a file's name; double quotes,
# so that a shell can hold it in single ones.
CHATML = (
    '{% for m in messages %}{{ "<|im_start|>" + m.role + "\\n" + m.content + "<|im_end|>\\n" }}'
    '{% endfor %}{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What somebody set; None for what may be derived. ``fuse``: mounts the weights, or ""."""

    image: str | None = None
    quantization: str | None = None
    dtype: str | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.95
    shared_memory: str = ""
    fuse: str = "ossfs2"


@dataclass(frozen=True, slots=True)
class ServingProfile:
    """Everything about the server that follows from model, GPU and image; "" leaves a flag out."""

    image: ServerImage
    max_model_len: int
    chosen: Mapping[str, tuple[str, str]]

    def value(self, name: str) -> str:
        """Return the value of a setting or a flag, "" to leave it out."""
        return self.chosen.get(name, ("", ""))[0]

    @property
    def reasons(self) -> list[tuple[str, str, str]]:
        """Each of them, its value, and why it has it."""
        return [(name, *each) for name, each in self.chosen.items()]


def architecture_of(config: ModelConfig | None, name: str) -> str:
    """Return the architecture of a model, by its name where no configuration is known."""
    if config is not None:
        return config.architecture
    return _QWEN_V1 if re.match(r"Qwen-\d", name) else ""


def stop_token_ids(config: ModelConfig | None, name: str) -> tuple[int, ...]:
    """Return the tokens that a client stops at; others than a first Qwen stop by themselves.

    <|im_end|> ends its turn, but is not the end of text that vLLM takes from its tokenizer.
    """
    return (151645, 151643) if architecture_of(config, name) == _QWEN_V1 else ()


def choose(
    config: ModelConfig | None, gpu: Gpu, gpu_count: int, wishes: Wishes, *, name: str = ""
) -> ServingProfile:
    """Return how to serve a model, whose configuration may be unknown, on some GPUs.

    ``gpu_count`` 0 stands for a CPU.
    """
    name = config.name if config else name
    architecture = architecture_of(config, name)
    chosen: dict[str, tuple[str, str]] = {}

    def take(setting: str, wish: str | int | None, derived: tuple[str | int, str]) -> str:
        value, why = (wish, "set") if wish is not None else derived
        chosen[setting] = (str(value), why)
        return str(value)

    image = ServerImage(take("image", wishes.image, _image(architecture, name, gpu, gpu_count)))
    method = take("quantization", wishes.quantization, _quantization(config, image))
    take("dtype", wishes.dtype, _dtype(method, image, gpu))
    found = _length(config, name, gpu, gpu_count, image, wishes.gpu_memory_utilization)
    length = int(take("max_model_len", wishes.max_model_len, found))
    flags = _flags(architecture, image, gpu, gpu_count, wishes)
    facts = {"gpu": gpu.name, "share": wishes.gpu_memory_utilization}
    if reads := flags["--safetensors-load-strategy"]:
        size = config.model().weights_bytes if config else 10e9
        facts["worth"] = worth(size, wishes.fuse, reads, readers=max(1, gpu_count))
    chosen |= {flag: (value, WHY[flag].format(**facts)) for flag, value in flags.items() if value}
    return ServingProfile(image, length, chosen)


def _image(architecture: str, name: str, gpu: Gpu, gpu_count: int) -> tuple[str, str]:
    if not gpu_count:
        return images.CPU.name, "vLLM's image for CPUs: the pods have no GPU"
    blackwell = gpu.compute_capability >= 10  # which the CUDA 12.1 of the page does not know
    if not blackwell and (architecture == _QWEN_V1 or name == PAGE_MODEL):
        return images.PAGE.name, "the documentation's; it knows the first Qwen's chat format"
    if gpu.compute_capability < images.CURRENT.least_capability:
        return images.VOLTA.name, f"the last vLLM with kernels for {gpu.name}"
    return images.CURRENT.name, "a current vLLM; it runs with drivers of CUDA 12"


def _quantization(config: ModelConfig | None, image: ServerImage) -> tuple[str, str]:
    if config is None:
        return "", "vLLM reads it from config.json"
    if config.quantization is None:
        return "", "the weights are not quantised"
    method = config.quantization.method
    if image.has(0, 6):
        return "", f"config.json says {method}: vLLM takes its fastest kernel for it by itself"
    return method, "config.json says so"


def _dtype(quantization: str, image: ServerImage, gpu: Gpu) -> tuple[str, str]:
    if image.cpu:
        return "bfloat16", "half the memory of float32, and CPUs compute it as well"
    if gpu.compute_capability < LEAST_CAPABILITY["bfloat16"]:
        return "half", f"{gpu.name} has no bfloat16"
    if quantization == "gptq":
        return "half", "the GPTQ kernel takes fp16 only"
    return "", "the model's own"


def _length(
    config: ModelConfig | None,
    name: str,
    gpu: Gpu,
    gpu_count: int,
    image: ServerImage,
    share: float,
) -> tuple[int, str]:
    if config is None:
        return _UNKNOWN, "the model is unknown"
    most = min(config.context or _UNKNOWN, _LONGEST)
    why = "of the model's context, enough for most requests"
    if name == PAGE_MODEL:
        most, why = _PAGE_LENGTH, "the documentation's"
    if not gpu_count:
        return most, why
    for length in (most, *range(most // 1024 * 1024, 0, -1024)):
        if length <= memory_of(config, gpu, gpu_count, image, length, share).kv_tokens:
            return length, why if length == most else f"the longest that fits {gpu.name}"
    return min(most, _SHORTEST), "the shortest that is useful"


def batched_tokens(image: ServerImage, gpu: Gpu) -> int | None:
    """Return the tokens of a step of vLLM's V1 engine; None for the engine before."""
    return v1_step_tokens(gpu) if image.has_v1(gpu) else None


def memory_of(
    config: ModelConfig, gpu: Gpu, gpu_count: int, image: ServerImage, length: int, share: float
) -> Fit:
    """Return how the model uses the GPUs."""
    return fit(
        gpu,
        config,
        gpus=max(1, gpu_count),
        max_model_len=length,
        gpu_memory_utilization=share,
        batched_tokens=batched_tokens(image, gpu),
    )


def _flags(
    architecture: str, image: ServerImage, gpu: Gpu, gpu_count: int, wishes: Wishes
) -> dict[str, str]:
    """Return flags and variables that are no settings; "" leaves one out."""
    # CUDA graphs (1 to 3 GiB) lie outside the share that vLLM takes.
    share, whole = wishes.gpu_memory_utilization, gpu.usable_gib
    crowded = not image.cpu and share > 0.9 and (whole <= 16 or whole * (1 - share) < 1)
    template = architecture == _QWEN_V1 and image.has(0, 5, 4)
    return {
        "--trust-remote-code": "yes" if architecture in OWN_CODE else "",
        "--enforce-eager": "yes" if crowded else "",
        "--chat-template": CHATML if template else "",
        "/dev/shm": wishes.shared_memory or ("8Gi" if gpu_count > 1 else ""),
        "VLLM_USE_V1": "0" if image.has(0, 8) and not image.has_v1(gpu) else "",
        "--safetensors-load-strategy": image.load_strategy if wishes.fuse and not image.cpu else "",
    }

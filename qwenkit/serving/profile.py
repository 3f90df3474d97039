"""How a model is served on a GPU: image, flags and environment, each with its reason.

``choose`` keeps what somebody set and derives the rest so that it works; it refuses nothing.
``contradictions`` says what is wrong with the values that somebody set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from qwenkit.capacity.gpu import Gpu
from qwenkit.capacity.memory import LEAST_CAPABILITY, Fit, fit, graphs_fit, v1_step_tokens
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.errors import InvalidValue
from qwenkit.serving import architectures, images
from qwenkit.serving.images import ServerImage, image_of

Value = TypeVar("Value", str, int)
PAGE_MODEL = "Qwen-7B-Chat-Int8"
_PAGE_LENGTH = 6144
_LONGEST = 32768  # derived at most; a longer context may be set
_UNKNOWN_LENGTH = 4096
_SHORTEST = 2048
_SHARED_MEMORY = "8Gi"
_NEWEST_CARD_OF_THE_PAGE = 10.0  # CUDA 12.1 knows none from Blackwell on


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What somebody set; None for what may be derived. ``mounted_by_fuse``: the weights are."""

    image: str | None = None
    quantization: str | None = None
    dtype: str | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.95
    shared_memory: str = ""
    mounted_by_fuse: bool = True


@dataclass(frozen=True, slots=True)
class ServingReason:
    """Why a setting or flag of the server has its value."""

    setting: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingProfile:
    """Everything about the server that follows from model, GPU and image.

    An empty text leaves its flag out; ``reasons`` has one for each value that is not plain.
    """

    image: ServerImage
    quantization: str
    dtype: str
    max_model_len: int
    trust_remote_code: bool
    enforce_eager: bool
    chat_template: str
    shared_memory: str
    env: Mapping[str, str]
    load_strategy: str
    stop_token_ids: tuple[int, ...]
    reasons: tuple[ServingReason, ...]

    def why(self, setting: str) -> str:
        """Return the reason of one setting, "" if it needs none."""
        return next((each.why for each in self.reasons if each.setting == setting), "")


def architecture_of(config: ModelConfig | None, name: str) -> str:
    """Return the architecture of a model, by its name where no configuration is known."""
    if config is not None:
        return config.architecture
    return architectures.QWEN_V1 if re.match(r"Qwen-\d", name) else ""


def choose(
    config: ModelConfig | None, gpu: Gpu, gpu_count: int, wishes: Wishes, *, name: str = ""
) -> ServingProfile:
    """Return how to serve a model, whose configuration may be unknown, on some GPUs.

    ``gpu_count`` 0 stands for a CPU.
    """
    name = config.name if config else name
    architecture = architecture_of(config, name)
    reasons: dict[str, tuple[str, str]] = {}

    def take(setting: str, wish: Value | None, chosen: tuple[Value, str]) -> Value:
        value, why = (wish, "set") if wish is not None else chosen
        reasons[setting] = (str(value), why)
        return value

    image = image_of(take("image", wishes.image, _image(architecture, name, gpu, gpu_count)))
    quantization = take("quantization", wishes.quantization, _quantization(config, name, image))
    dtype = take("dtype", wishes.dtype, _dtype(quantization, image, gpu))
    length = take(
        "max_model_len", wishes.max_model_len, _length(config, name, gpu, gpu_count, image, wishes)
    )
    flags = _flags(architecture, image, gpu, gpu_count, wishes)
    reasons |= {setting: found for setting, found in flags.items() if found[0]}
    return ServingProfile(
        image=image,
        quantization=quantization,
        dtype=dtype,
        max_model_len=length,
        trust_remote_code=bool(flags["--trust-remote-code"][0]),
        enforce_eager=bool(flags["--enforce-eager"][0]),
        chat_template=architectures.CHATML if flags["--chat-template"][0] else "",
        shared_memory=flags["/dev/shm"][0],
        env={"VLLM_USE_V1": "0"} if flags["VLLM_USE_V1"][0] else {},
        load_strategy=flags["--safetensors-load-strategy"][0],
        stop_token_ids=architectures.STOP_TOKEN_IDS.get(architecture, ()),
        reasons=tuple(ServingReason(setting, *found) for setting, found in reasons.items()),
    )


def _image(architecture: str, name: str, gpu: Gpu, gpu_count: int) -> tuple[str, str]:
    if not gpu_count:
        return images.CPU.name, "vLLM's image for CPUs: the pods have no GPU"
    old = gpu.compute_capability < _NEWEST_CARD_OF_THE_PAGE
    if old and (name == PAGE_MODEL or architecture == architectures.QWEN_V1):
        return images.PAGE.name, "the documentation's; it knows the first Qwen's chat format"
    if gpu.compute_capability < images.CURRENT.least_capability:
        return images.VOLTA.name, f"the last vLLM with kernels for {gpu.name}"
    return images.CURRENT.name, "a current vLLM; it runs with drivers of CUDA 12"


def _quantization(config: ModelConfig | None, name: str, image: ServerImage) -> tuple[str, str]:
    if config is None:
        page = name == PAGE_MODEL
        return ("gptq", "the model's") if page else ("", "vLLM reads it from config.json")
    if config.quantization is None:
        return "", "the weights are not quantised"
    method = config.quantization.method
    if image.reads_quantization:
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
    wishes: Wishes,
) -> tuple[int, str]:
    if config is None:
        page = name == PAGE_MODEL
        return (_PAGE_LENGTH, "the page's") if page else (_UNKNOWN_LENGTH, "the model is unknown")
    context = config.context or _UNKNOWN_LENGTH
    most = min(context, _PAGE_LENGTH if name == PAGE_MODEL else _LONGEST)
    whose = "the model's context" if most == context else "enough for most requests"
    if name == PAGE_MODEL:
        whose = "the documentation's"
    share = wishes.gpu_memory_utilization
    for length in (most, *range(most // 1024 * 1024, _SHORTEST, -1024)):
        found = memory_of(config, gpu, gpu_count, image, length, share)
        if not gpu_count or (found and length <= found.kv_tokens):
            return length, whose if length == most else f"the longest that fits {gpu.name}"
    return min(most, _SHORTEST), "the shortest that is useful"


def batched_tokens(image: ServerImage, gpu: Gpu) -> int | None:
    """Return the tokens of a step of vLLM's V1 engine; None for the engine before."""
    v1 = not image.version or image.version >= (0, 9)
    return v1_step_tokens(gpu) if v1 else None


def memory_of(
    config: ModelConfig, gpu: Gpu, gpu_count: int, image: ServerImage, length: int, share: float
) -> Fit | None:
    """Return how the model uses the GPUs; None if length or share are no such."""
    try:
        return fit(
            gpu,
            config,
            gpus=max(1, gpu_count),
            max_model_len=length,
            gpu_memory_utilization=share,
            batched_tokens=batched_tokens(image, gpu),
        )
    except InvalidValue:
        return None


def _flags(
    architecture: str, image: ServerImage, gpu: Gpu, gpu_count: int, wishes: Wishes
) -> dict[str, tuple[str, str]]:
    """Return the value of each flag that is no setting, "" to leave it out, and why."""
    crowded = not image.cpu and not graphs_fit(gpu, wishes.gpu_memory_utilization)
    first = architecture == architectures.QWEN_V1
    v1 = (0, 8) <= image.version < (0, 9) and gpu.compute_capability < 8.0 and not image.cpu
    share = f"a share of {wishes.gpu_memory_utilization:g} leaves too little for CUDA graphs"
    shared = wishes.shared_memory or (_SHARED_MEMORY if gpu_count > 1 else "")
    strategy = image.load_strategy if wishes.mounted_by_fuse and not image.cpu else ""
    return {
        "--trust-remote-code": (
            "yes" if architecture in architectures.OWN_CODE else "",
            "the model's folder brings Python code of its own",
        ),
        "--enforce-eager": ("yes" if crowded else "", share),
        "--chat-template": (
            "ChatML" if first and image.needs_chat_template else "",
            "the first Qwen has no template, and this vLLM has no default any more",
        ),
        "/dev/shm": (
            shared,
            "set" if wishes.shared_memory else "the GPUs' processes exchange data; default 64 MiB",
        ),
        "VLLM_USE_V1": (
            "0" if v1 else "",
            f"the V1 engine of this vLLM does not run on {gpu.name}",
        ),
        "--safetensors-load-strategy": (
            strategy,
            "files are read from start to end: random reads are slow on a FUSE mount",
        ),
    }

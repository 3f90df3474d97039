"""Whether a model fits a GPU, and with how many sequences.

    KV cache   = card × gpu-memory-utilization − weights − activations
    activation = outside torch + largest step's forward pass + sampler's logits (+ fragments)

Sources: the configuration of the model for the sizes; vLLM 0.4.1 for what runs where (its GPTQ
kernel takes fp16 only, CUDA graphs lie outside ``gpu-memory-utilization``). Activations: a
measurement of vLLM 0.26, and logs of older servers (tests/data/gpu, tests/data/kv-blocks.json).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwenkit.capacity.catalogue import find_model
from qwenkit.capacity.gpu import GIB, Gpu, Model, find_gpu
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.errors import InvalidValue

# The compute capability that vLLM needs for a data type or a quantisation method.
LEAST_CAPABILITY = {"gptq": 6.0, "awq": 7.5, "compressed-tensors": 7.5} | dict.fromkeys(
    ("bfloat16", "gptq_marlin", "marlin", "awq_marlin", "fp8", "fbgemm_fp8", "mxfp4"), 8.0
)
BLOCK = 16  # tokens: vLLM's default
_OUTSIDE_TORCH_GIB = 0.22  # CUDA context and libraries: H200
# Engines before V1 count what torch's allocator holds, not what it uses at most, and their sampler
# sorts: logits of 4 bytes, indices of 8.
_FRAGMENTS_GIB = 0.25  # that the allocator holds: published
_COPIES_OF_LOGITS = 5  # of 4 bytes for each sequence: published
_LEAST_BATCHED = 2048  # tokens of a step before V1: vLLM's configuration
_SEQUENCES = 256  # vLLM's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a model uses one GPU's memory. ``problems`` are the reasons why it does not fit."""

    fits: bool
    usable_gib: float
    weights_gib: float
    activation_gib: float
    kv_gib: float
    kv_tokens: int
    sequences: float
    max_model_len: int
    problems: tuple[str, ...]


def fit(
    gpu: Gpu | str,
    model: Model | ModelConfig | str,
    *,
    gpus: int = 1,
    max_model_len: int = 6144,
    gpu_memory_utilization: float = 0.95,
    max_num_seqs: int = _SEQUENCES,
    batched_tokens: int | None = None,
    eager: bool = False,
    chunked_prefill: bool = True,
) -> Fit:
    """Divide the memory of each GPU into weights, activations and KV cache.

    It does not fit either if the GPUs have no kernels for its quantisation.

    ``gpus`` share the model by tensor parallelism; the figures are one GPU's. ``batched_tokens`` is
    ``--max-num-batched-tokens`` of vLLM's V1 engine (0.8 and later). None is the engine before,
    which profiles a prompt of ``max_model_len`` tokens and a sampler that sorts. ``eager`` and
    ``chunked_prefill`` change no size that is counted here: CUDA graphs are not.

    Raises:
        InvalidValue: unknown GPU or model, or a setting outside its range.
    """
    gpu, whole = find_gpu(gpu), find_model(model)
    if max_model_len < 1:
        raise InvalidValue("max_model_len", max_model_len, "at least 1")
    if not 0 < gpu_memory_utilization <= 1:
        rule = "more than 0, at most 1"
        raise InvalidValue("gpu_memory_utilization", gpu_memory_utilization, rule)
    part = whole.split(gpus)
    weights = part.weights_bytes / GIB
    activation = activation_gib(part, max_model_len, batched_tokens, max_num_seqs)
    room = gpu.usable_gib * gpu_memory_utilization
    left = room - weights - activation
    tokens = BLOCK * math.floor(max(0.0, left) * GIB / (part.kv_bytes_per_token * BLOCK))
    each = f" on each of {gpus} GPUs" if gpus > 1 else ""
    problem = ""
    if tokens == 0:
        problem = (
            f"{whole.name} needs {weights:.1f} GiB for weights and {activation:.1f} GiB for "
            f"activations{each}; vLLM has {room:.1f} GiB"
        )
    elif tokens < max_model_len:
        problem = (
            f"max-model-len {max_model_len} exceeds the {tokens} tokens of KV cache: "
            "vLLM refuses to start"
        )
    problems = tuple(filter(None, (uneven_split(whole, gpus), _no_kernel(gpu, whole), problem)))
    return Fit(
        fits=not problems,
        usable_gib=gpu.usable_gib,
        weights_gib=weights,
        activation_gib=activation,
        kv_gib=max(0.0, left),
        kv_tokens=tokens,
        sequences=tokens / max_model_len,
        max_model_len=max_model_len,
        problems=problems,
    )


def _no_kernel(gpu: Gpu, model: Model) -> str:
    method, there = model.quantization, gpu.compute_capability
    needed = LEAST_CAPABILITY.get(method, 0.0)
    why = f"{method} needs compute capability {needed:g}, {gpu.name} has {there:g}"
    return why if there < needed else ""


def activation_gib(
    model: Model,
    max_model_len: int,
    batched_tokens: int | None = None,
    max_num_seqs: int = _SEQUENCES,
) -> float:
    """Return what vLLM finds to be taken besides weights when it profiles its largest step."""
    logits = max_num_seqs * model.vocabulary * 4 / GIB
    tokens = max(max_model_len, _LEAST_BATCHED) if batched_tokens is None else batched_tokens
    forward = tokens * (model.split_bytes + model.whole_bytes) / GIB
    if batched_tokens is None:
        return _OUTSIDE_TORCH_GIB + forward + _COPIES_OF_LOGITS * logits + _FRAGMENTS_GIB
    return _OUTSIDE_TORCH_GIB + forward + logits


def v1_step_tokens(gpu: Gpu) -> int:
    """Return how many tokens a step of vLLM's V1 engine reads at most, by default."""
    return 8192 if gpu.usable_gib >= 70 else 2048


def uneven_split(model: Model, gpus: int) -> str:
    """Say what tensor parallelism over that many GPUs does not divide; empty if it divides all.

    Source: vLLM's checks of heads, vocabulary and quantised shapes when it loads a model.
    """
    parts = [f"{count:,} ({name})" for name, count in model.divides if count % gpus]
    if model.kv_heads and max(model.kv_heads, gpus) % min(model.kv_heads, gpus):
        parts.append(f"{model.kv_heads} (KV heads)")
    if not parts:
        return ""
    return f"{gpus} GPUs do not divide {model.name}: {', '.join(parts)}"

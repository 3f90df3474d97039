"""Whether a model fits a GPU, with how many sequences, and the flags that vLLM needs.

Sources: the configuration of the model for the sizes; vLLM 0.4.1 for what runs where (its GPTQ
kernel takes fp16 only, CUDA graphs lie outside ``gpu-memory-utilization``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwenkit.capacity.gpu import (
    GIB,
    Gpu,
    Model,
    find_gpu,
    find_model,
    tpot_seconds,
)
from qwenkit.errors import InvalidValue

# The compute capability that vLLM 0.4.1 needs for a data type or a quantisation method.
LEAST_CAPABILITY = {"bfloat16": 8.0, "gptq": 6.0, "awq": 7.5, "gptq_marlin": 8.0, "marlin": 8.0}
_BLOCK = 16
_GRAPHS_GIB = 1.0  # CUDA graphs take at least this much, outside that share
_GPTQ_PLATEAU = 8  # one pass of the GPTQ kernel: beyond it, throughput hardly rises
_MOST = 24  # the largest advised batch: time per token and prefill pauses grow with it


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
    flags: tuple[str, ...]
    problems: tuple[str, ...]


def fit(
    gpu: Gpu | str,
    model: Model | str,
    *,
    max_model_len: int = 6144,
    gpu_memory_utilization: float = 0.95,
) -> Fit:
    """Divide one GPU's memory into weights, activations and KV cache.

    Raises:
        InvalidValue: unknown GPU or model, or a setting outside its range.
    """
    gpu, model = find_gpu(gpu), find_model(model)
    if max_model_len < 1:
        raise InvalidValue("max_model_len", max_model_len, "at least 1")
    if not 0 < gpu_memory_utilization <= 1:
        raise InvalidValue(
            "gpu_memory_utilization", gpu_memory_utilization, "more than 0, at most 1"
        )
    weights = model.weights_bytes / GIB
    room = gpu.usable_gib * gpu_memory_utilization
    left = room - weights - model.activation_gib
    blocks = math.floor(max(0.0, left) * GIB / (model.kv_bytes_per_token * _BLOCK))
    tokens = blocks * _BLOCK
    problems = _problems(model, room, weights, tokens, max_model_len)
    return Fit(
        fits=not problems,
        usable_gib=gpu.usable_gib,
        weights_gib=weights,
        activation_gib=model.activation_gib,
        kv_gib=max(0.0, left),
        kv_tokens=tokens,
        sequences=tokens / max_model_len,
        max_model_len=max_model_len,
        flags=flags(gpu, model, gpu_memory_utilization=gpu_memory_utilization),
        problems=problems,
    )


def _problems(
    model: Model, room: float, weights: float, tokens: int, max_model_len: int
) -> tuple[str, ...]:
    if tokens == 0:
        return (
            f"{model.name} needs {weights:.1f} GiB for weights and {model.activation_gib:.1f} GiB "
            f"for activations; vLLM has {room:.1f} GiB",
        )
    if tokens < max_model_len:
        return (
            f"max-model-len {max_model_len} exceeds the {tokens} tokens of KV cache: "
            "vLLM refuses to start",
        )
    return ()


def flags(
    gpu: Gpu | str, model: Model | str, *, gpu_memory_utilization: float = 0.95
) -> tuple[str, ...]:
    """Return the vLLM flags that this GPU needs for this model."""
    gpu, model = find_gpu(gpu), find_model(model)
    needed = ["--trust-remote-code"]
    if model.quantization:
        needed.append(f"--quantization {model.quantization}")
    if gpu.compute_capability < LEAST_CAPABILITY["bfloat16"] or model.quantization == "gptq":
        needed.append("--dtype half")
    if not graphs_fit(gpu, gpu_memory_utilization):
        needed.append("--enforce-eager")
    return tuple(needed)


def graphs_fit(gpu: Gpu, gpu_memory_utilization: float) -> bool:
    """Return whether CUDA graphs (1 to 3 GiB) fit beside the share that vLLM takes.

    On 16 GB they are too much above a share of 0.9.
    """
    left = gpu.usable_gib * (1 - gpu_memory_utilization)
    return gpu_memory_utilization <= 0.9 or (gpu.usable_gib > 16 and left >= _GRAPHS_GIB)


def batch_within(
    gpu: Gpu | str, model: Model | str, *, tpot_s: float, context_tokens: float
) -> int:
    """Return the largest batch within a time per token, 0 if one stream alone exceeds it."""
    return max(
        (
            batch
            for batch in range(1, _MOST + 1)
            if tpot_seconds(gpu, model, batch=batch, context_tokens=context_tokens) <= tpot_s
        ),
        default=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many requests one pod should carry, and which bound decides it."""

    total: int
    bound: str


def suggested_load(
    gpu: Gpu | str,
    model: Model | str,
    *,
    live_tokens: float,
    tpot_s: float = math.inf,
    gpu_memory_utilization: float = 0.95,
) -> Load:
    """Return the best concurrency of a pod: by TPOT objective, KV cache or kernel plateau.

    ``live_tokens`` is the mean number of tokens of a request in the KV cache, ``tpot_s`` the
    objective for the time per token.

    Raises:
        InvalidValue: the objective cannot be met, or not one sequence fits.
    """
    gpu, model = find_gpu(gpu), find_model(model)
    if not 0 < live_tokens < math.inf:
        raise InvalidValue("live_tokens", live_tokens, "more than 0, finite")
    memory = fit(gpu, model, max_model_len=1, gpu_memory_utilization=gpu_memory_utilization)
    by_kv = math.floor(memory.kv_tokens / live_tokens)
    by_tpot = batch_within(gpu, model, tpot_s=tpot_s, context_tokens=live_tokens)
    if by_kv < 1:
        why = memory.problems[0] if memory.problems else f"{memory.kv_tokens} tokens of KV cache"
        raise InvalidValue("live_tokens", live_tokens, f"no sequence fits {gpu.name}: {why}")
    if by_tpot < 1:
        alone = tpot_seconds(gpu, model, batch=1, context_tokens=live_tokens)
        raise InvalidValue(
            "tpot_s", tpot_s, f"{gpu.name} needs {alone * 1e3:.0f} ms per token even for one stream"
        )
    plateau = _GPTQ_PLATEAU if model.quantization == "gptq" else _MOST
    bounds = {"TPOT objective": by_tpot, "KV cache": by_kv, "kernel plateau": plateau}
    bound = min(bounds, key=lambda name: bounds[name])
    return Load(total=bounds[bound], bound=bound)

"""What one GPU makes of the course's model: what fits, and how long a step takes.

The served model is tiny; the time and the memory are those of Qwen-7B-Chat-Int8, which it
stands for. A model of a GPU, not a measurement: ±40 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwenkit.sandbox.engine.batch import Hardware
from qwenkit.sandbox.engine.checkpoint import failure
from qwenkit.sandbox.engine.flags import Flags

_LINEAR_BYTES, _HEAD_BYTES, _KV_BYTES = 6.63e9, 1.245e9, 524_288
_WEIGHTS_GIB, _ACTIVATIONS_GIB = 8.49, 1.3
_DEFAULT_LENGTH = 8192


@dataclass(frozen=True)
class _Gpu:
    title: str
    capability: float
    usable_gib: float
    bandwidth: float
    peak_flops: float


_GPUS = {
    "V100-16": _Gpu("Tesla V100-SXM2-16GB", 7.0, 15.77, 900e9, 112e12),
    "V100-32": _Gpu("Tesla V100-SXM2-32GB", 7.0, 31.74, 900e9, 112e12),
    "A10": _Gpu("NVIDIA A10", 8.6, 22.0, 600e9, 125e12),
    "T4": _Gpu("Tesla T4", 7.5, 14.65, 320e9, 65e12),
}


def fit(gpu: str, flags: Flags, config: Mapping[str, Any]) -> tuple[Hardware, int]:
    """Return the GPU with the model on it, and the longest sequence that it serves.

    Raises:
        SandboxError: vLLM would not start: the data type, the memory or the length.
    """
    spec = _GPUS[gpu]
    _check_dtype(spec, flags, str(config.get("torch_dtype")))
    gib = spec.usable_gib * flags.gpu_memory_utilization - _WEIGHTS_GIB - _ACTIVATIONS_GIB
    blocks = int(gib * 2**30 / _KV_BYTES) // flags.block_size
    if blocks <= 0:
        raise failure(
            "ValueError",
            "No available memory for the cache blocks. Try increasing "
            "`gpu_memory_utilization` when initializing the engine.",
        )
    capacity = blocks * flags.block_size
    longest = flags.max_model_len or int(config.get("seq_length", _DEFAULT_LENGTH))
    if longest > capacity:
        raise failure(
            "ValueError",
            f"The model's max seq len ({longest}) is larger than the maximum number of tokens "
            f"that can be stored in KV cache ({capacity}). Try increasing "
            "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.",
        )

    def decode(batch: int, context: float) -> float:
        linear = -(-batch // 8) * _LINEAR_BYTES if batch <= 24 else 32.5e9
        moved = linear + _HEAD_BYTES + batch * context * _KV_BYTES
        return moved / (spec.bandwidth * 0.55) + 0.002

    def prefill(count: int) -> float:
        return (2 * 6.48e9 * count + 2 * 32 * 4096 * count**2) / (spec.peak_flops * 0.4)

    return Hardware(decode, prefill, capacity), longest


def _check_dtype(spec: _Gpu, flags: Flags, torch_dtype: str) -> None:
    brain = flags.dtype == "bfloat16" or (flags.dtype == "auto" and torch_dtype == "bfloat16")
    if brain and spec.capability < 8.0:
        raise failure(
            "ValueError",
            "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your "
            f"{spec.title} GPU has compute capability {spec.capability}. You can use float16 "
            "instead by explicitly setting the`dtype` flag in CLI, for example: --dtype=half.",
        )
    full = flags.dtype in ("float", "float32")
    if flags.quantization == "gptq" and (brain or full):
        raise failure(
            "ValueError",
            f"torch.{'bfloat16' if brain else 'float32'} is not supported for quantization "
            "method gptq. Supported dtypes: [torch.float16]",
        )

"""One GPU with the course's model on it: what fits, and how long a step takes.

The served model is tiny; time and memory are those of Qwen-7B-Chat-Int8, which it stands for.
If the model does not fit, the server ends with vLLM 0.4.1's own message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenkit.capacity import memory
from qwenkit.capacity.catalogue import QWEN_7B_INT8
from qwenkit.capacity.gpu import Gpu, find_gpu, prefill_seconds, tpot_seconds
from qwenkit.sandbox.engine.batch import Hardware
from qwenkit.sandbox.engine.checkpoint import failure
from qwenkit.sandbox.engine.flags import Flags

STANDS_FOR = QWEN_7B_INT8
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_DEFAULT_LENGTH = 2048


def fit(name: str, flags: Flags, config: Mapping[str, Any]) -> tuple[Hardware, int]:
    """Return the GPU with the model on it, and the maximum sequence length.

    Raises:
        SandboxError: vLLM would not start: the data type, the memory or the length.
        InvalidValue: no such GPU.
    """
    gpu = find_gpu(name)
    _check_dtype(gpu, flags, str(config.get("torch_dtype", config.get("dtype"))))
    share = flags.gpu_memory_utilization
    if not 0 < share <= 1:
        message = f"GPU memory utilization must be less than 1.0. Got {share}."
        raise failure("ValueError", message)
    capacity = memory.fit(gpu, STANDS_FOR, gpu_memory_utilization=share).kv_tokens
    if not capacity:
        raise failure(
            "ValueError",
            "No available memory for the cache blocks. Try increasing "
            "`gpu_memory_utilization` when initializing the engine.",
        )
    capacity = (flags.num_gpu_blocks or capacity // flags.block_size) * flags.block_size
    longest = _longest(flags.max_model_len, config)
    _check_length(longest, capacity, flags)
    hardware = Hardware(
        decode_seconds=lambda batch, context: tpot_seconds(
            gpu, STANDS_FOR, batch=batch, context_tokens=context
        ),
        prefill_seconds=lambda count: prefill_seconds(gpu, STANDS_FOR, tokens=count),
        kv_tokens=capacity,
    )
    return hardware, longest


def _longest(wanted: int | None, config: Mapping[str, Any]) -> int:
    """Return the maximum sequence length: the wanted one, if the model supports it."""
    stated = {key: config[key] for key in _LENGTHS if isinstance(config.get(key), int)}
    if not stated:
        return _DEFAULT_LENGTH if wanted is None else wanted
    key = min(stated, key=lambda one: int(stated[one]))
    if wanted is not None and wanted > stated[key]:
        raise failure(
            "ValueError",
            f"User-specified max_model_len ({wanted}) is greater than the derived max_model_len "
            f"({key}={stated[key]} or model_max_length={config.get('model_max_length')} in "
            "model's config.json). This may lead to incorrect model outputs or CUDA errors. Make "
            "sure the value is correct and within the model context size.",
        )
    return int(stated[key]) if wanted is None else wanted


def _check_length(longest: int, capacity: int, flags: Flags) -> None:
    batched = flags.batched_tokens(longest)
    if batched < longest:
        raise failure(
            "ValueError",
            f"max_num_batched_tokens ({batched}) is smaller than max_model_len ({longest}). This "
            "effectively limits the maximum sequence length to max_num_batched_tokens and makes "
            "vLLM reject longer sequences. Please increase max_num_batched_tokens or decrease "
            "max_model_len.",
        )
    if batched < flags.max_num_seqs:
        raise failure(
            "ValueError",
            f"max_num_batched_tokens ({batched}) must be greater than or equal to max_num_seqs "
            f"({flags.max_num_seqs}).",
        )
    if longest > capacity:
        raise failure(
            "ValueError",
            f"The model's max seq len ({longest}) is larger than the maximum number of tokens "
            f"that can be stored in KV cache ({capacity}). Try increasing "
            "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.",
        )


def _check_dtype(gpu: Gpu, flags: Flags, torch_dtype: str) -> None:
    brain = flags.dtype == "bfloat16" or (flags.dtype == "auto" and torch_dtype == "bfloat16")
    if brain and gpu.compute_capability < 8.0:
        raise failure(
            "ValueError",
            "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your "
            f"{gpu.product or gpu.name} GPU has compute capability "
            f"{gpu.compute_capability}. You can use float16 instead by explicitly setting "
            "the`dtype` flag in CLI, for example: --dtype=half.",
        )
    full = flags.dtype in ("float", "float32")
    if flags.quantization == "gptq" and (brain or full):
        raise failure(
            "ValueError",
            f"torch.{'bfloat16' if brain else 'float32'} is not supported for quantization "
            "method gptq. Supported dtypes: [torch.float16]",
        )

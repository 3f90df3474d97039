"""What a server runs on, with its model: what fits, and how long a step takes.

The served model is tiny; time and memory are those of the model that it stands for, which its
``config.json`` names, or else those of its own sizes. What does not fit or run ends the server
with the message of its release of vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qwenkit.capacity import memory
from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.gpu import GIB, Gpu, Model, find_gpu
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.capacity.step_time import StepTime
from qwenkit.errors import InvalidValue
from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.engine import kv_messages
from qwenkit.sandbox.engine.batch import Hardware
from qwenkit.sandbox.engine.checkpoint import failure
from qwenkit.sandbox.engine.flags import Flags

_LENGTHS = [
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
]
_DEFAULT_LENGTH = 2048
_KV_SPACE, _KV_SPACE_GIB = "VLLM_CPU_KVCACHE_SPACE", 4.0
# A method of vLLM serves checkpoints of another name.
_KERNELS = {"gptq_marlin": "gptq", "marlin": "gptq", "awq_marlin": "awq", "gptq_bitblas": "gptq"}


@dataclass(frozen=True)
class Prepared:
    """A model on its hardware. ``longest`` is the maximum sequence length in tokens."""

    hardware: Hardware
    longest: int
    model: Model
    """Whose time and memory it has."""
    place: str
    """The GPU's name, or CPU."""


@dataclass(frozen=True)
class Place:
    """What a container may use: its GPUs, and the variables of its environment."""

    gpu: Gpu | str
    gpus: int = 1
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


def prepare(place: Place, flags: Flags, config: Mapping[str, Any]) -> Prepared:
    """Put a model, by its ``config.json``, on its hardware.

    Raises:
        SandboxError: vLLM would not start: the card, the data type, the memory or the length.
        InvalidValue: no such GPU.
    """
    gpu = find_gpu("CPU" if flags.release.cpu else place.gpu)
    stated = _stated(config)
    _check_card(gpu, flags)
    _check_dtype(gpu, flags, stated.dtype)
    _check_quantization(flags, stated)
    parts = _parts(place, flags, stated)
    share = flags.gpu_memory_utilization
    if not 0 < share <= 1:
        message = f"GPU memory utilization must be less than 1.0. Got {share}."
        raise failure("ValueError", message)
    context = _context(config, stated)
    longest = _longest(flags, config, context)
    model = stated.model()
    capacity = _kv_tokens(gpu, place, flags, model, parts, longest or context or _DEFAULT_LENGTH)
    if not capacity:
        raise failure("ValueError", kv_messages.NONE)
    capacity = (flags.num_gpu_blocks or capacity // flags.block_size) * flags.block_size
    longest = longest or min(context or _DEFAULT_LENGTH, capacity)
    batched = _step_tokens(gpu, flags, longest)
    kv_messages.check(longest, capacity, batched, flags, model.split(parts))
    time = StepTime(gpu, model.split(parts), eager=flags.enforce_eager, v1=flags.release.v1)
    return Prepared(Hardware(time.of, capacity, batched), longest, model, gpu.name)


def _step_tokens(gpu: Gpu, flags: Flags, longest: int) -> int:
    """Return the most tokens of a step: without chunks, a whole prompt at least."""
    least = memory.v1_step_tokens(gpu) if flags.release.v1 else _DEFAULT_LENGTH
    return flags.max_num_batched_tokens or max(least, 0 if flags.reads_in_chunks else longest)


def _stated(config: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration whose time and memory count."""
    name = str(config.get(tiny_model.KEY, ""))
    known = find_config(name) if name else None
    if known is not None:
        return known
    try:
        return ModelConfig.read(config, "the model in this folder")
    except InvalidValue as error:
        raise failure("ValueError", f"{error}: config.json") from error


def _kv_tokens(gpu: Gpu, place: Place, flags: Flags, model: Model, parts: int, longest: int) -> int:
    """Return how many tokens the KV cache holds."""
    if flags.release.cpu:
        try:
            space = float(place.env.get(_KV_SPACE) or _KV_SPACE_GIB) or _KV_SPACE_GIB
        except ValueError as error:
            raise failure("ValueError", f"{error}: {_KV_SPACE}") from error
        return int(space * GIB / model.split(parts).kv_bytes_per_token)
    batched = None
    if flags.release.v1:
        batched = _step_tokens(gpu, flags, longest)
    return memory.fit(
        gpu,
        model,
        gpus=parts,
        max_model_len=longest,
        gpu_memory_utilization=flags.gpu_memory_utilization,
        batched_tokens=batched,
    ).kv_tokens


def _context(config: Mapping[str, Any], stated: ModelConfig) -> int:
    """Return the longest sequence that the model was made for; 0 if it does not say."""
    if tiny_model.KEY in config and stated.context:
        return stated.context
    lengths = [config[key] for key in _LENGTHS if isinstance(config.get(key), int)]
    return min(lengths, default=0)


def _longest(flags: Flags, config: Mapping[str, Any], context: int) -> int:
    """Return the maximum sequence length, 0 for the longest that fits."""
    wanted = flags.max_model_len
    if wanted == -1:
        return 0
    if wanted is None or not context:
        return wanted or context or _DEFAULT_LENGTH
    if wanted > context:
        key = next((key for key in _LENGTHS if key in config), _LENGTHS[0])
        raise failure(
            "ValueError",
            f"User-specified max_model_len ({wanted}) is greater than the derived max_model_len "
            f"({key}={context} or model_max_length={config.get('model_max_length')} in "
            "model's config.json). This may lead to incorrect model outputs or CUDA errors. Make "
            "sure the value is correct and within the model context size.",
        )
    return wanted


def _parts(place: Place, flags: Flags, stated: ModelConfig) -> int:
    """Return over how many GPUs the model is divided."""
    world = flags.tensor_parallel * flags.pipeline_parallel
    if stated.heads % flags.tensor_parallel:
        raise failure(
            "ValueError",
            f"Total number of attention heads ({stated.heads}) must be divisible by tensor "
            f"parallel size ({flags.tensor_parallel}).",
        )
    if world > place.gpus and not flags.release.cpu:
        raise failure(
            "ValueError",
            f"World size ({world}) is larger than the number of available GPUs ({place.gpus}) in "
            "this node."
            if flags.release.newer
            else "The number of required GPUs exceeds the total number of available GPUs in the "
            "cluster.",
        )
    return world


def _check_card(gpu: Gpu, flags: Flags) -> None:
    """Refuse a card that the image has no kernels for: CUDA 12.8 knows none before Turing."""
    if flags.release.v1 and gpu.compute_capability < 7.5:
        raise failure(
            "RuntimeError",
            "CUDA error: no kernel image is available for execution on the device",
        )


def _check_dtype(gpu: Gpu, flags: Flags, stated: str) -> None:
    old_card = gpu.compute_capability < memory.LEAST_CAPABILITY["bfloat16"]
    falls_back = old_card and flags.release.v1  # from auto to float16
    brain = flags.dtype == "bfloat16"
    brain |= flags.dtype == "auto" and stated == "bfloat16" and not falls_back
    if brain and old_card:
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


def _check_quantization(flags: Flags, stated: ModelConfig) -> None:
    """Refuse a method that is not the checkpoint's."""
    wanted = flags.quantization
    if wanted is None:
        return
    method = stated.quantization.method if stated.quantization else ""
    if not method and wanted not in ("fp8", "bitsandbytes"):  # those convert what they read
        raise failure("ValueError", f"Cannot find the config file for {wanted}")
    if method and _KERNELS.get(wanted, wanted) != _KERNELS.get(method, method):
        raise failure(
            "ValueError",
            f"Quantization method specified in the model config ({method}) does not match the "
            f"quantization method specified in the `quantization` argument ({wanted}).",
        )

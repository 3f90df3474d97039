"""What cannot work among the values that somebody set, each with its fix.

A value that was only derived is never refused. ``given`` holds the set values by the names of the
settings; a GPU that nobody named makes a warning of what would be an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qwenkit.capacity.finding import Finding, Level
from qwenkit.capacity.gpu import Gpu
from qwenkit.capacity.memory import LEAST_CAPABILITY, uneven_split
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.serving import images
from qwenkit.serving.architectures import FIRST_VERSION
from qwenkit.serving.images import ServerImage
from qwenkit.serving.profile import ServingProfile, memory_of

_FAMILIES = {"gptq_marlin": "gptq", "awq_marlin": "awq", "marlin": "gptq", "fbgemm_fp8": "fp8"}
_NEEDS_FILES = ("gptq", "awq", "compressed-tensors")  # others convert the weights while they load
_LEAST = {**LEAST_CAPABILITY, "fbgemm_fp8": 8.0, "mxfp4": 8.0}
_HALVES = ("half", "float16")


def contradictions(
    config: ModelConfig | None,
    gpu: Gpu,
    gpu_count: int,
    profile: ServingProfile,
    given: Mapping[str, Any],
    *,
    gpu_memory_utilization: float = 0.95,
) -> list[Finding]:
    """Return the contradictions of the set values with model, GPU and image."""
    found = [*_image(config, gpu, profile.image, given), *_quantization(config, gpu, given)]
    found += _dtype(gpu, profile, given)
    if config is not None:
        found += _context(config, given)
        if gpu_count:
            found += _memory(config, gpu, gpu_count, profile.image, given, gpu_memory_utilization)
    return found


def _finding(rule: str, name: str, value: object, message: str, fix: str) -> Finding:
    return Finding("error", rule, f"{name}={value}", message, fix)


def _image(
    config: ModelConfig | None, gpu: Gpu, image: ServerImage, given: Mapping[str, Any]
) -> Iterator[Finding]:
    name = given.get("image")
    if config is not None:
        first = FIRST_VERSION.get(config.architecture, ())
        if image.version and image.version < first:
            needed = ".".join(map(str, first))
            message = f"{config.architecture} needs vLLM {needed} or later; {image.name} has "
            message += image.shown_version
            if name is not None:
                fix = f"leave image out, or name one such as {images.CURRENT.name}"
                yield _finding("image-architecture", "image", name, message, fix)
            else:
                level: Level = "error" if "gpu" in given else "warning"
                fix = "choose a GPU of compute capability 7.5 or more, or another model"
                yield Finding(level, "image-architecture", f"gpu={gpu.name}", message, fix)
    if name is not None and gpu.compute_capability < image.least_capability:
        message = f"vLLM {image.shown_version} has no kernels for {gpu.name} (compute capability "
        message += f"{gpu.compute_capability}): they end below {image.least_capability}"
        fix = f"leave image out, or use {images.VOLTA.name}, the last for V100"
        yield _finding("image-gpu", "image", name, message, fix)


def _quantization(
    config: ModelConfig | None, gpu: Gpu, given: Mapping[str, Any]
) -> Iterator[Finding]:
    flag = given.get("quantization")
    stored = config.quantization.method if config and config.quantization else ""
    family = _FAMILIES.get(flag or "", flag or "")
    if flag and config and not stored and family in _NEEDS_FILES:
        message = f"{config.name} is not quantised: its config.json has no quantization_config"
        fix = 'leave quantization out, set quantization="", or take a quantised model'
        yield _finding("quantization", "quantization", flag, message, fix)
    elif flag and config and stored and family != _FAMILIES.get(stored, stored):
        message = f"config.json of {config.name} says {stored}"
        fix = f"leave quantization out, or set quantization={stored}"
        yield _finding("quantization", "quantization", flag, message, fix)
    method = flag or stored
    least = _LEAST.get(method, 0.0)
    if method and gpu.compute_capability < least and (flag or "gpu" in given):
        message = f"{method} needs compute capability {least}; {gpu.name} has "
        message += f"{gpu.compute_capability}"
        name = "quantization" if flag else "gpu"
        fix = "use a GPTQ model" if least < 8 else "use a newer GPU, or a GPTQ or fp16 model"
        yield _finding("quantization", name, given.get(name), message, fix)


def _dtype(gpu: Gpu, profile: ServingProfile, given: Mapping[str, Any]) -> Iterator[Finding]:
    dtype = given.get("dtype")
    if dtype == "bfloat16" and gpu.compute_capability < LEAST_CAPABILITY["bfloat16"]:
        message = f"{gpu.name} has no bfloat16: it needs compute capability 8.0"
        yield _finding("dtype", "dtype", dtype, message, "leave dtype out, or set dtype=half")
    elif profile.quantization == "gptq" and dtype not in (None, "", "auto", *_HALVES):
        message = "the GPTQ kernel takes half precision only"
        yield _finding("dtype", "dtype", dtype, message, "leave dtype out, or set dtype=half")


def _context(config: ModelConfig, given: Mapping[str, Any]) -> Iterator[Finding]:
    length = given.get("max_model_len")
    if length and config.context and length > config.context:
        message = f"{config.name} has a context of {config.context} tokens"
        fix = f"leave max_model_len out, or set at most {config.context}"
        yield _finding("context", "max_model_len", length, message, fix)


def _memory(
    config: ModelConfig,
    gpu: Gpu,
    gpu_count: int,
    image: ServerImage,
    given: Mapping[str, Any],
    share: float,
) -> Iterator[Finding]:
    whole = config.model()
    if "gpu_count" in given and (uneven := uneven_split(whole, gpu_count)):
        most = max(n for n in range(1, gpu_count) if not uneven_split(whole, n))
        yield _finding("tensor-parallel", "gpu_count", gpu_count, uneven, f"set gpu_count={most}")
        return
    length = given.get("max_model_len")
    memory = memory_of(config, gpu, gpu_count, image, length or 1, share)
    if memory is None:
        return
    if memory.kv_tokens == 0:
        level: Level = "error" if {"gpu", "gpu_memory_gib"} & set(given) else "warning"
        fix = "use a quantised model, a larger GPU (gpu) or more of them (gpu_count)"
        yield Finding(level, "weights-size", f"gpu={gpu.name}", memory.problems[-1], fix)
    elif length and length > memory.kv_tokens:
        fix = f"leave max_model_len out, or set at most {memory.kv_tokens}"
        yield _finding("kv-cache", "max_model_len", length, memory.problems[-1], fix)

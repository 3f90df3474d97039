"""What cannot work among the values that somebody set, each with its fix.

A value that was only derived is never refused. ``given`` holds the set values by the names of the
settings; a GPU that nobody named makes a warning of what would be an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qwenkit.capacity.finding import Finding
from qwenkit.capacity.gpu import Gpu
from qwenkit.capacity.memory import LEAST_CAPABILITY, uneven_split
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.serving.images import CURRENT, FIRST_VERSION, VOLTA
from qwenkit.serving.profile import ServingProfile, memory_of

_FAMILIES = {"gptq_marlin": "gptq", "awq_marlin": "awq", "marlin": "gptq", "fbgemm_fp8": "fp8"}
_NEEDS_FILES = ("gptq", "awq", "compressed-tensors")  # others convert the weights while they load
# In extra_args or env: what makes context or memory other than config.json and GPU say.
_OTHER_CONTEXT = re.compile("rope.(scaling|parameters)|hf.overrides|ALLOW.LONG")
_OTHER_MEMORY = re.compile(
    "overrides|offload|kv.cache|pipeline.p|-pp|load.f|gpu.blocks|batched|num.seqs|chunked|V1="
)
_HALVES = (None, "", "auto", "half", "float16")


class _Checks:
    """Collects the findings; a GPU that nobody named makes a warning."""

    def __init__(self, given: Mapping[str, Any], gpu: Gpu) -> None:
        self.given, self.gpu, self.found = given, gpu, list[Finding]()
        self.other = f"{given.get('extra_args')} {given.get('env')}".replace("_", "-")

    def add(self, rule: str, name: str, message: str, fix: str) -> None:
        named = name != "gpu" or {"gpu", "gpu_memory_gib", "gpu_resource"} & set(self.given)
        where = f"{name}={self.gpu.name if name == 'gpu' else self.given.get(name)}"
        self.found.append(Finding("error" if named else "warning", rule, where, message, fix))


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
    checks = _Checks(given, gpu)
    _image(checks, config, profile)
    _formats(checks, config, profile)
    if config is not None and gpu_count and "expert-parallel" not in checks.other:
        _memory(checks, config, gpu_count, profile, gpu_memory_utilization)
    length = given.get("max_model_len")
    kept = not _OTHER_CONTEXT.search(checks.other)
    if config and length and kept and 0 < config.context < length:
        message = f"{config.name} has a context of {config.context} tokens"
        fix = f"leave max_model_len out, or set at most {config.context}"
        checks.add("context", "max_model_len", message, fix)
    return checks.found


def _image(checks: _Checks, config: ModelConfig | None, profile: ServingProfile) -> None:
    image, gpu, chosen = profile.image, checks.gpu, "image" in checks.given
    first = FIRST_VERSION.get(config.architecture, ()) if config else ()
    if config and image.version and image.version < first:
        message = f"{config.architecture} needs vLLM {'.'.join(map(str, first))} or later; the "
        message += f"image is {image.name}"
        fix = f"leave image out, or name one such as {CURRENT.name}"
        newer = "choose a GPU of compute capability 7.5 or more, or another model"
        name, fix = ("image", fix) if chosen else ("gpu", newer)
        checks.add("image-architecture", name, message, fix)
    if chosen and gpu.compute_capability < image.least_capability:
        message = f"it has no kernels for {gpu.name} (compute capability {gpu.compute_capability}):"
        message += f" they begin at {image.least_capability}"
        fix = f"leave image out, or use {VOLTA.name}, the last for V100"
        checks.add("image-gpu", "image", message, fix)


def _formats(checks: _Checks, config: ModelConfig | None, profile: ServingProfile) -> None:
    gpu, flag, dtype = checks.gpu, checks.given.get("quantization"), checks.given.get("dtype")
    stored = config.quantization.method if config and config.quantization else ""
    family = _FAMILIES.get(flag or "", flag or "")
    if flag and config and not stored and family in _NEEDS_FILES:
        message = f"{config.name} is not quantised: its config.json has no quantization_config"
        fix = 'leave quantization out, set quantization="", or take a quantised model'
        checks.add("quantization", "quantization", message, fix)
    elif flag and config and stored and family != _FAMILIES.get(stored, stored):
        message = f"config.json of {config.name} says {stored}"
        fix = f"leave quantization out, or set quantization={stored}"
        checks.add("quantization", "quantization", message, fix)
    method = flag or stored
    least = LEAST_CAPABILITY.get(method, 0.0)
    if gpu.compute_capability < least:
        message = f"{method} needs compute capability {least}; {gpu.name} has "
        fix = "use a GPTQ model" if least < 8 else "use a newer GPU, or a GPTQ or fp16 model"
        name = "quantization" if flag else "gpu"
        checks.add("quantization", name, f"{message}{gpu.compute_capability}", fix)
    fix = "leave dtype out, or set dtype=half"
    if dtype == "bfloat16" and gpu.compute_capability < LEAST_CAPABILITY["bfloat16"]:
        message = f"{gpu.name} has no bfloat16: it needs compute capability 8.0"
        checks.add("dtype", "dtype", message, fix)
    elif profile.value("quantization") == "gptq" and dtype not in _HALVES:
        checks.add("dtype", "dtype", "the GPTQ kernel takes half precision only", fix)


def _memory(
    checks: _Checks, config: ModelConfig, gpu_count: int, profile: ServingProfile, share: float
) -> None:
    whole, length = config.model(), checks.given.get("max_model_len")
    if "gpu_count" in checks.given and (uneven := uneven_split(whole, gpu_count)):
        others = [*range(gpu_count - 1, 0, -1), *range(gpu_count + 1, 2 * gpu_count)]
        even = [count for count in others if not uneven_split(whole, count)]
        sizes = [(n, memory_of(config, checks.gpu, n, profile.image, 1, share)) for n in even]
        best = next((count for count, found in sizes if found.kv_tokens), even[0])
        checks.add("tensor-parallel", "gpu_count", uneven, f"set gpu_count={best}")
        return
    flag = checks.given.get("quantization") or ""
    converted = flag and not config.quantization and _FAMILIES.get(flag, flag) not in _NEEDS_FILES
    if converted or _OTHER_MEMORY.search(checks.other):
        return
    memory = memory_of(config, checks.gpu, gpu_count, profile.image, length or 1, share)
    if memory.kv_tokens == 0:
        fix = "use a quantised model, a larger GPU (gpu) or more of them (gpu_count)"
        checks.add("weights-size", "gpu", memory.problems[-1], fix)
    elif length and length > memory.kv_tokens:
        fix = f"leave max_model_len out, or set at most {memory.kv_tokens}"
        checks.add("kv-cache", "max_model_len", memory.problems[-1], fix)

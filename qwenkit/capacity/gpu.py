"""GPUs as data, and how fast vLLM serves a model on one: a roofline model, ±40 %.

    decode   TPOT(B, C) = bytes(B, C) / (bandwidth × efficiency) + overhead
             bytes      = weights read per step × kernel passes + head + C × KV bytes per token
    prefill  t(n) = (2 × linear parameters × n + 2 × layers × attention width × n²) / (peak × MFU)

B is the batch (running sequences), C the tokens they hold together. vLLM 0.4.1's GPTQ kernel
reads the weights once for every 8 rows up to 24 rows; beyond that, it first writes all weights
as fp16 and reads them back. A batch touches 1 − (1 − k/E)^B of a mixture's experts. Efficiency
(0.5 to 0.6), MFU (0.3 to 0.5) and the overheads are estimates. The table and its sources:
``gpus.json``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

from qwenkit.errors import InvalidValue

GIB = 2**30
_ROWS_PER_PASS, _MAX_ROWS = 8, 24
_ALL_REDUCE_S = 15e-6  # of one step's few rows, two a layer; an estimate
_MIG = re.compile(r"(?:nvidia\.com/mig-|-MIG-)?([1-7])g\.([0-9]{1,3})gb(?:[.+]me)?$", re.I)
_EIGHTHS = {"1": (1, 2), "2": (2,), "3": (4,), "4": (4,), "7": (8,)}  # of memory, by profile


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU model. ``usable_gib`` is its memory less what the driver takes.

    ``product`` is NVIDIA's name; the price is a round example of November 2026 for one hour on
    demand, no quotation. ``named_gb`` is the memory in the name; ``others`` are more names by
    which nodes know the same card.
    """

    name: str
    usable_gib: float
    bandwidth_gb_s: float
    fp16_tflops: float
    compute_capability: float
    product: str = ""
    example_price_cny: float | None = None
    named_gb: int = 0
    others: tuple[str, ...] = ()
    efficiency: float = 0.55
    mfu: float = 0.4
    overhead_s: float = 0.002
    uncertainty: float = 0.4

    @property
    def label(self) -> str:
        """The value of ``aliyun.accelerator/nvidia_name`` and ``nvidia.com/gpu.product``."""
        return (self.product or self.name).replace(" ", "-")


def _key(text: str) -> str:
    plain = re.sub(r"[^A-Z0-9]", "", text.upper())
    return re.sub(r"^(NVIDIA|TESLA|GEFORCE)+|(?<=\d)GB$", "", plain)


_ROWS = json.loads((files("qwenkit.capacity") / "gpus.json").read_text("utf-8"))["gpus"]
GPUS: Mapping[str, Gpu] = {
    name: Gpu(*(name, *row[:-1], tuple(row[-1]))) for name, row in _ROWS.items()
}
CPU = Gpu("CPU", 4, 40, 0.5, 9.9)  # vLLM's CPU backend on 4 cores, its KV space: an estimate
_BY_KEY = {
    _key(name): gpu
    for gpu in (*GPUS.values(), CPU)
    for name in (gpu.name, f"{gpu.name}-{gpu.named_gb}", gpu.product, *gpu.others)
    if name
}


def _near(key: str, known: str) -> bool:
    return known.startswith(key) or re.match(rf"{known}(?!\d)", key) is not None


def find_gpu(gpu: Gpu | str) -> Gpu:
    """Return the GPU of that name: ``A10``, ``RTX 3090 24GB``, ``A100-80-MIG-3g.40gb``, ``CPU``.

    Names of nodes are known too, with ``-SHARED`` for a time-sliced GPU.

    Raises:
        InvalidValue: it is not in the table.
    """
    if isinstance(gpu, Gpu):
        return gpu
    name, *profile = re.split("-MIG-", re.sub("-SHARED$", "", gpu), maxsplit=1, flags=re.I)
    key = _key(name)
    found = _BY_KEY.get(key)
    if found is None:
        near = sorted({one.name for known, one in _BY_KEY.items() if key and _near(key, known)})
        fix = f"name {' or '.join(near)}" if near else ""
        raise InvalidValue("gpu", gpu, f"one of {', '.join(GPUS)}", fix)
    return mig_slice(found, *profile) if profile else found


def gpu_of_label(label: str) -> Gpu | None:
    """Return the GPU that ``aliyun.accelerator/nvidia_name`` or ``nvidia.com/gpu.product`` names.

    None if the table has none such.

    >>> gpu_of_label("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb-SHARED").name
    'A100-40-MIG-3g.20gb'
    """
    try:
        return find_gpu(label)
    except InvalidValue:
        return None


def mig_slice(gpu: Gpu, profile: str) -> Gpu:
    """Return the slice of a GPU that a MIG profile or resource names, as a GPU.

    ``3g.40gb`` has 3 of 7 parts of the compute, and the eighths of memory and bandwidth that
    40 GB are (NVIDIA's MIG user guide).

    Raises:
        InvalidValue: the GPU cannot be sliced, or not so.
    """
    found, whole = _MIG.match(profile), gpu.named_gb
    eighths = int(found[2]) * 8 / whole if found and whole else 0.0
    share = round(eighths)
    if gpu.compute_capability not in (8.0, 9.0):
        raise InvalidValue("gpu_resource", profile, f"{gpu.name} has no MIG")
    if not found or abs(eighths - share) > 0.1 or share not in _EIGHTHS.get(found[1], ()):
        rule = f"a MIG profile of {gpu.name}, such as 3g.{-(-whole // 2)}gb"
        raise InvalidValue("gpu_resource", profile, rule)
    name = f"{found[1]}g.{found[2]}gb"
    return replace(
        gpu,
        name=f"{gpu.name}-MIG-{name}",
        usable_gib=gpu.usable_gib * share / 8,
        bandwidth_gb_s=gpu.bandwidth_gb_s * share / 8,
        fp16_tflops=gpu.fp16_tflops * int(found[1]) / 7,
        product=f"{gpu.product}-MIG-{name}",
        example_price_cny=None,
        named_gb=0,
        others=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder as vLLM holds it; sizes in bytes, parameters in units.

    ``linear_parameters`` work on each token. ``linear_bytes`` is what one decode step reads of
    the layers, besides ``expert_bytes`` of all experts, of which a token needs ``expert_share``;
    ``head_bytes`` of the output head; ``weights_bytes`` is the size in memory. ``quantization`` is
    vLLM's name or "". ``kv_heads`` is 0 for a latent cache, which each GPU holds whole. Tensor
    parallelism must divide what ``divides`` names. A token of a forward pass needs ``split_bytes``,
    divided between GPUs, and ``whole_bytes``, not divided.
    """

    name: str
    layers: int
    attention_width: int
    linear_parameters: float
    linear_bytes: float
    head_bytes: float
    weights_bytes: float
    kv_bytes_per_token: float
    quantization: str = ""
    parameters: float = 0.0
    expert_bytes: float = 0.0
    expert_share: float = 0.0
    vocabulary: int = 151_936
    kv_heads: int = 0
    divides: tuple[tuple[str, int], ...] = ()
    split_bytes: float = 0.0
    whole_bytes: float = 0.0
    all_reduce_s: float = 0.0

    def split(self, gpus: int) -> Model:
        """Return one GPU's part under tensor parallelism; fewer KV heads than GPUs are copied.

        Raises:
            InvalidValue: fewer than one GPU.
        """
        if gpus < 1:
            raise InvalidValue("gpus", gpus, "at least 1")
        if gpus == 1:
            return self
        heads = math.ceil(self.kv_heads / gpus) / self.kv_heads if self.kv_heads else 1.0
        return replace(
            self,
            attention_width=math.ceil(self.attention_width / gpus),
            linear_parameters=self.linear_parameters / gpus,
            linear_bytes=self.linear_bytes / gpus,
            head_bytes=self.head_bytes / gpus,
            weights_bytes=self.weights_bytes / gpus,
            kv_bytes_per_token=self.kv_bytes_per_token * heads,
            expert_bytes=self.expert_bytes / gpus,
            divides=(),
            split_bytes=self.split_bytes / gpus,
            all_reduce_s=2 * self.layers * _ALL_REDUCE_S,
        )


def bytes_per_step(model: Model, batch: int, context_tokens: float) -> float:
    """Return the bytes that one decode step moves; ``context_tokens`` is of the whole batch."""
    layers = model.linear_bytes
    if model.expert_share:
        layers += model.expert_bytes * (1 - (1 - model.expert_share) ** batch)
    elif model.quantization == "gptq":
        if batch <= _MAX_ROWS:
            layers *= math.ceil(batch / _ROWS_PER_PASS)
        else:
            layers += 2 * 2.0 * model.linear_parameters  # written as fp16, then read
    return layers + model.head_bytes + context_tokens * model.kv_bytes_per_token


def tpot_seconds(gpu: Gpu | str, model: Model, *, batch: int, context_tokens: float = 0.0) -> float:
    """Return the seconds between two tokens of one stream, while ``batch`` sequences decode.

    ``context_tokens`` is the mean number of tokens that **each** sequence holds. For tensor
    parallelism pass ``model.split(gpus)``.

    Raises:
        InvalidValue: unknown GPU, batch below 1, negative context.
    """
    if batch < 1:
        raise InvalidValue("batch", batch, "at least 1")
    _check_tokens("context_tokens", context_tokens)
    gpu = find_gpu(gpu)
    moved = bytes_per_step(model, batch, batch * context_tokens)
    return moved / (gpu.bandwidth_gb_s * 1e9 * gpu.efficiency) + gpu.overhead_s + model.all_reduce_s


def prefill_seconds(gpu: Gpu | str, model: Model, *, tokens: float) -> float:
    """Return the time to read a prompt; it blocks decoding (no chunked prefill in 0.4.1)."""
    _check_tokens("tokens", tokens)
    gpu = find_gpu(gpu)
    attention = 2.0 * model.layers * model.attention_width * tokens * tokens
    operations = 2.0 * model.linear_parameters * tokens + attention
    return operations / (gpu.fp16_tflops * 1e12 * gpu.mfu) + model.all_reduce_s


def _check_tokens(name: str, tokens: float) -> None:
    if not 0 <= tokens < math.inf:
        raise InvalidValue(name, tokens, "finite, at least 0")


@dataclass(frozen=True, slots=True)
class Band:
    """A modelled value with its uncertainty."""

    low: float
    value: float
    high: float


def band(gpu: Gpu | str, value: float) -> Band:
    """Return the value with the GPU's uncertainty, ±40 % by default."""
    share = find_gpu(gpu).uncertainty
    return Band(value * (1 - share), value, value * (1 + share))

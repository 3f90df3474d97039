"""GPUs and models as data: what a card has by its datasheet (``gpus.json``), what a model needs.

How long a step of vLLM takes on one: ``step_time``.
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
_MIG = re.compile(r"(?:nvidia\.com/mig-|-MIG-)?([1-7])g\.([0-9]{1,3})gb(?:[.+]me)?$", re.I)
_EIGHTHS = {"1": (1, 2), "2": (2,), "3": (4,), "4": (4,), "7": (8,)}  # of memory: NVIDIA's guide


@dataclass(frozen=True, slots=True)
class Speed:
    """What vLLM reaches on a card, and what its host takes; a calibration fits these to a card.

    Source of the defaults: vLLM 0.26 on an H200 (tests/data/gpu), see README.md. Its host was slow.
    """

    linear: float = 1.0  # times the time of linear layers: H200
    attention: float = 0.9  # of the bandwidth, when attention reads the KV cache: H200
    compute: float = 0.62  # of the dense fp16 peak: H200
    step_s: float = 2.3e-3  # that a step takes besides, with 32 layers: H200
    sequence_s: float = 60e-6  # that the host takes for each sequence: H200
    layer_s: float = 0.65e-3  # a layer at least, without CUDA graph: H200 0.5 to 1.2, published 0.4


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU model. ``usable_gib`` is its memory less what the driver takes.

    ``vector_tflops`` is of fp16 without tensor cores, 0 where unknown; ``link_gb_s`` is one way to
    the next GPU.
    ``product`` is NVIDIA's name; the price is a round example of November 2026 for one hour on
    demand, no quotation. ``named_gb`` is the memory in the name; ``others`` are more names by
    which nodes know the same card. A calibration found ``error``, as a share, and ``kernels``:
    pairs of a quantization and what runs it, where vLLM's rule says another.
    """

    name: str
    usable_gib: float
    bandwidth_gb_s: float
    fp16_tflops: float
    compute_capability: float
    vector_tflops: float = 0.0
    link_gb_s: float = 16.0
    product: str = ""
    example_price_cny: float | None = None
    named_gb: int = 0
    others: tuple[str, ...] = ()
    speed: Speed = Speed()
    error: float | None = None
    kernels: tuple[tuple[str, str], ...] = ()

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
        vector_tflops=gpu.vector_tflops * int(found[1]) / 7,
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
    divided between GPUs, and ``whole_bytes``, not divided. ``bits`` are a quantised parameter's;
    ``gpus`` share the model, of which this is one's part.
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
    hidden: int = 4096
    bits: float = 16
    gpus: int = 1

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
            gpus=gpus,
        )

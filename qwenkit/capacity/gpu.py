"""How fast vLLM serves a model on a GPU: time to read a prompt, time per token.

A roofline model, ±40 %.

    decode   TPOT(B, C) = bytes(B, C) / (bandwidth × efficiency) + overhead
             bytes      = weights read per step × kernel passes + head + C × KV bytes per token
    prefill  t(n) = (2 × linear parameters × n + 2 × layers × attention width × n²) / (peak × MFU)
    memory   KV tokens = (usable × utilisation − weights − activation) / KV bytes per token

B is the batch (running sequences), C the tokens they hold together. vLLM 0.4.1's GPTQ kernel
reads the weights once for every 8 rows up to 24 rows; beyond that, it first writes all weights
as fp16 and reads them back. Efficiency (0.5 to 0.6), MFU (0.3 to 0.5), the activation peak and the
overhead are estimates; no published measurement of these GPUs with this model is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from qwenkit.errors import InvalidValue

GIB = 2**30
UNCERTAINTY = 0.4
_ROWS_PER_PASS, _MAX_ROWS = 8, 24


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU model. ``usable_gib`` is its memory less what the driver takes.

    ``product`` is NVIDIA's name; the price is a round example of November 2026 for one hour on
    demand, no quotation.
    """

    name: str
    usable_gib: float
    bandwidth_gb_s: float
    fp16_tflops: float
    compute_capability: float
    product: str = ""
    example_price_cny: float | None = None
    efficiency: float = 0.55
    mfu: float = 0.4
    overhead_s: float = 0.002
    uncertainty: float = UNCERTAINTY


# Usable GiB, GB/s, fp16 TFLOP/s, compute capability, product, example price.
GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("V100-16", 15.77, 900, 112, 7.0, "Tesla V100-SXM2-16GB", 26.0),
        Gpu("V100-32", 31.74, 900, 112, 7.0, "Tesla V100-SXM2-32GB", 30.0),
        Gpu("A10", 22.0, 600, 125, 8.6, "NVIDIA A10", 10.0),
        Gpu("T4", 14.65, 320, 65, 7.5, "Tesla T4", 9.0),
    )
}
SMALLEST_GPU = min(GPUS.values(), key=lambda gpu: gpu.usable_gib)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder; sizes in bytes, parameters in units.

    ``linear_bytes`` is what one decode step reads of the layers, ``head_bytes`` of the output
    head; ``weights_bytes`` is the size in memory. ``quantization`` is vLLM's name or "".
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
    activation_gib: float = 1.3


def decoder(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    ffn: int,
    vocabulary: int,
    bits: int = 16,
) -> Model:
    """Derive a ``Model`` from its configuration: gated FFN, fp16 embeddings, GPTQ below 16 bits."""
    if bits not in (2, 3, 4, 8, 16):
        raise InvalidValue("bits", bits, "2, 3, 4, 8 or 16")
    per_layer = hidden * head_dim * (heads + 2 * kv_heads) + heads * head_dim * hidden
    linear = layers * (per_layer + 3 * hidden * ffn)
    # GPTQ with groups of 128 adds an fp16 scale and a packed zero to each group.
    stored = linear * 2.0 if bits == 16 else linear * (bits / 8 + (2 + bits / 8) / 128)
    head = 2.0 * vocabulary * hidden
    return Model(
        name=name,
        layers=layers,
        attention_width=heads * head_dim,
        linear_parameters=float(linear),
        linear_bytes=stored,
        head_bytes=head,
        weights_bytes=stored + 2 * head,
        kv_bytes_per_token=2.0 * layers * kv_heads * head_dim * 2,
        quantization="" if bits == 16 else "gptq",
    )


def _qwen_7b(name: str, bits: int) -> Model:
    return decoder(
        name,
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=32,
        head_dim=128,
        ffn=11008,
        vocabulary=151_936,
        bits=bits,
    )


QWEN_7B_INT8 = _qwen_7b("Qwen-7B-Chat-Int8", 8)
QWEN_7B = _qwen_7b("Qwen-7B-Chat", 16)
MODELS: Mapping[str, Model] = {
    model.name: model for model in (QWEN_7B_INT8, QWEN_7B, replace(QWEN_7B, name="Qwen-7B"))
}


def find_gpu(gpu: Gpu | str) -> Gpu:
    """Return the GPU of that name.

    Raises:
        InvalidValue: it is not in the table.
    """
    found = GPUS.get(gpu) if isinstance(gpu, str) else gpu
    if found is None:
        raise InvalidValue("gpu", gpu, f"one of {', '.join(GPUS)}", "or pass a Gpu of your own")
    return found


def find_model(model: Model | str) -> Model:
    """Return the model of that name.

    Raises:
        InvalidValue: it is not in the table.
    """
    found = MODELS.get(model) if isinstance(model, str) else model
    if found is None:
        raise InvalidValue("model", model, f"one of {', '.join(MODELS)}", "or use decoder(...)")
    return found


def bytes_per_step(model: Model, batch: int, context_tokens: float) -> float:
    """Return the bytes that one decode step moves; ``context_tokens`` is of the whole batch."""
    layers = model.linear_bytes
    if model.quantization == "gptq":
        if batch <= _MAX_ROWS:
            layers *= math.ceil(batch / _ROWS_PER_PASS)
        else:
            layers += 2 * 2.0 * model.linear_parameters  # written as fp16, then read
    return layers + model.head_bytes + context_tokens * model.kv_bytes_per_token


def tpot_seconds(
    gpu: Gpu | str, model: Model | str, *, batch: int, context_tokens: float = 0.0
) -> float:
    """Return the seconds between two tokens of one stream, while ``batch`` sequences decode.

    ``context_tokens`` is the mean number of tokens that **each** sequence holds.

    Raises:
        InvalidValue: unknown GPU or model, batch below 1, negative context.
    """
    if batch < 1:
        raise InvalidValue("batch", batch, "at least 1")
    _check_tokens("context_tokens", context_tokens)
    gpu, model = find_gpu(gpu), find_model(model)
    moved = bytes_per_step(model, batch, batch * context_tokens)
    return moved / (gpu.bandwidth_gb_s * 1e9 * gpu.efficiency) + gpu.overhead_s


def prefill_seconds(gpu: Gpu | str, model: Model | str, *, tokens: float) -> float:
    """Return the time to read a prompt; it blocks decoding (no chunked prefill in 0.4.1)."""
    _check_tokens("tokens", tokens)
    gpu, model = find_gpu(gpu), find_model(model)
    attention = 2.0 * model.layers * model.attention_width * tokens * tokens
    operations = 2.0 * model.linear_parameters * tokens + attention
    return operations / (gpu.fp16_tflops * 1e12 * gpu.mfu)


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

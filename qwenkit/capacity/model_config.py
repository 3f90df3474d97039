"""A model as its ``config.json`` describes it, and the sizes that follow.

Reads decoders that vLLM serves: Qwen v1 to 3, Llama, Mistral, Mixtral, DeepSeek-V2 and those that
use the same names (``models.json`` lists the spellings). Unknown fields are ignored; norms,
biases and a vision tower are not counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from qwenkit.capacity.gpu import Model
from qwenkit.errors import InvalidValue

KNOWLEDGE = json.loads((files("qwenkit.capacity") / "models.json").read_text("utf-8"))
_MOST = 10_000_000


@dataclass(frozen=True, slots=True)
class Quantization:
    """How linear layers are stored: vLLM's method, bits, parameters that share a scale (0: all).

    ``kept`` are the parts that stay fp16, of ``attention``, ``ffn``, ``experts`` and ``shared``.
    """

    method: str
    bits: int
    group_size: int = 0
    kept: frozenset[str] = frozenset()

    def bytes_of(self, part: str) -> float:
        """Return the bytes of a parameter: an fp16 scale and a packed zero to each group."""
        if part in self.kept:
            return 2.0
        whole = self.method in KNOWLEDGE["float methods"] or not self.group_size
        return self.bits / 8 + (0.0 if whole else (2 + self.bits / 8) / self.group_size)


@dataclass(frozen=True, slots=True)
class Latent:
    """DeepSeek's latent attention: ranks of keys with values and of queries; parts of a head.

    vLLM before 0.7.1 caches whole heads instead, 14 times as much for DeepSeek-V2-Lite.
    """

    rank: int
    rope: int
    nope: int
    value: int
    query_rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a decoder's ``config.json`` says; widths in elements, ``context`` in tokens.

    ``ffn`` is the width of a dense layer, ``expert_ffn`` of one expert, ``shared_ffn`` of all
    shared experts together; ``dense_layers`` of a mixture have no experts; ``linear_layers`` have
    linear attention, of ``linear_parameters`` each, and no KV cache. ``dtype`` is "" if the file
    names none, ``context`` 0.
    """

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    linear_layers: int = 0
    linear_parameters: int = 0
    tied: bool = False
    latent: Latent | None = None
    dtype: str = ""
    quantization: Quantization | None = None
    context: int = 0

    @classmethod
    def read(cls, config: Mapping[str, Any], name: str) -> ModelConfig:
        """Read a parsed ``config.json``.

        Raises:
            InvalidValue: a field is missing or impossible; names it.
        """
        return _read(_Fields(config, name))

    def model(self) -> Model:
        """Derive the sizes and what a decode step reads."""
        parts, latent, quantized = self._parameters(), self.latent, self.quantization
        router = (self.layers - self.dense_layers) * self.hidden * self.experts
        experts = parts.pop("experts")
        each = quantized.bytes_of if quantized else lambda part: 2.0
        linear = 2.0 * router + sum(count * each(part) for part, count in parts.items())
        expert_bytes, always = experts * each("experts"), router + sum(parts.values())
        embeddings = (1 if self.tied else 2) * self.vocabulary * self.hidden
        head, kept = self.head_dim, 2 * self.kv_heads * self.head_dim
        if latent:
            head = (latent.nope + latent.rope + latent.value) // 2
            kept = latent.rank + latent.rope
        dense = 0 if self.experts and not self.dense_layers else 3 * self.ffn
        spread = self.experts_per_token * (3 * self.expert_ffn + self.hidden)
        share = self.experts_per_token / max(1, self.experts)
        return Model(
            name=self.name,
            layers=self.layers,
            attention_width=self.heads * head,
            linear_parameters=float(always + experts * share),
            linear_bytes=linear,
            head_bytes=2.0 * self.vocabulary * self.hidden,
            weights_bytes=linear + expert_bytes + 2.0 * embeddings,
            kv_bytes_per_token=2.0 * (self.layers - self.linear_layers) * kept,
            quantization=quantized.method if quantized else "",
            parameters=float(always + experts + embeddings),
            expert_bytes=expert_bytes,
            expert_share=share,
            vocabulary=self.vocabulary,
            kv_heads=0 if latent else self.kv_heads,
            divides=self._divides(),
            split_bytes=2.0 * max(dense, spread),
            whole_bytes=2.0 * 3.5 * self.hidden,
            hidden=self.hidden,
            bits=quantized.bits if quantized else 16,
        )

    def _parameters(self) -> dict[str, int]:
        """Return the parameters of attention, dense FFNs, shared experts and experts."""
        hidden, heads, part = self.hidden, self.heads, self.latent
        attention = 2 * hidden * self.head_dim * (heads + self.kv_heads)
        if part:
            queries, rank = heads * (part.nope + part.rope), part.query_rank
            attention = rank * (hidden + queries) if rank else hidden * queries
            attention += hidden * (part.rank + part.rope)
            attention += heads * (part.rank * (part.nope + part.value) + part.value * hidden)
        mixed = self.layers - self.dense_layers if self.experts else 0
        two = self.architecture.startswith(tuple(KNOWLEDGE["two matrices"]))
        return {
            "attention": (self.layers - self.linear_layers) * attention
            + self.linear_layers * self.linear_parameters,
            "ffn": (self.layers - mixed) * (2 if two else 3) * hidden * self.ffn,
            "shared": mixed * 3 * hidden * self.shared_ffn,
            "experts": mixed * self.experts * 3 * hidden * self.expert_ffn,
        }

    def _divides(self) -> tuple[tuple[str, int], ...]:
        """Name what tensor parallelism divides; quantised widths go by whole groups."""
        quantized, dense = self.quantization, not self.experts or self.dense_layers > 0
        group = quantized.group_size if quantized else 0
        # Kernels of 4 and 8 bits take experts by smaller groups, fp8 by whole blocks.
        blocks = group if quantized and quantized.method == "fp8" else 0
        attention = self.heads * self.head_dim if group and not self.latent else 0
        widths = [("FFN", self.ffn * dense, group), ("shared FFN", self.shared_ffn, group)]
        widths += [("expert FFN", self.expert_ffn, blocks), ("attention width", attention, group)]
        found = [("attention heads", self.heads), ("vocabulary", -(-self.vocabulary // 64) * 64)]
        for name, width, by in widths:
            whole = by > 0 and width % by == 0
            found += [(f"{name} in groups of {by}", width // by) if whole else (name, width)]
        return tuple((name, count) for name, count in found if count)


class _Fields:
    """The fields of a ``config.json``, checked as they are read."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self.config, self.name = dict(config), name
        for key in ("text_config", "llm_config", "language_config"):  # of a multimodal model
            listed = self.config.get("architectures")
            self.config |= {**self.mapping(key), **({"architectures": listed} if listed else {})}

    def number(self, name: str, default: int | None = None, least: int = 1) -> int:
        """Return a field under the first of its spellings that is set."""
        keys = KNOWLEDGE["spellings"].get(name, [name])
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
                raise self.wrong(key, value, f"a whole number from {least} to {_MOST:,}")
            return value
        if default is None:
            raise self.wrong(keys[0], None, f"config.json must hold {' or '.join(keys)}")
        return default

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.config.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, value, "an object")
        return value or {}

    def wrong(self, key: str, value: object, rule: str) -> InvalidValue:
        fix = f"look at config.json of {self.name}: is it whole, and that of a decoder?"
        return InvalidValue(key, value, rule, fix)


def _read(fields: _Fields) -> ModelConfig:
    number, config = fields.number, fields.config
    listed = config.get("architectures")
    named = listed[0] if isinstance(listed, list) and listed else config.get("model_type", "")
    architecture = str(named)[:100]
    if config.get("is_encoder_decoder") is True:
        raise fields.wrong("is_encoder_decoder", True, "false: only decoders are served here")
    layers, hidden, heads = number("layers"), number("hidden"), number("heads")
    if layers > 10_000:
        raise fields.wrong("num_hidden_layers", layers, "at most 10,000")
    head_dim = number("head_dim", max(1, hidden // heads))
    latent = None
    if config.get("kv_lora_rank") is not None:
        keys = ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        rank, rope, nope, value = map(number, keys)
        latent = Latent(rank, rope, nope, value, number("q_lora_rank", 0, 0))
    elif config.get("head_dim") is None and hidden % heads:
        raise fields.wrong("num_attention_heads", heads, f"a divisor of hidden_size {hidden}")
    kv_heads = number("kv_heads", 1 if config.get("multi_query") is True else heads)
    if heads % kv_heads:
        raise fields.wrong("num_key_value_heads", kv_heads, f"a divisor of {heads} attention heads")
    ffn = number("ffn", 4 * hidden)
    ffn = ffn // 2 if architecture == "QWenLMHeadModel" else ffn  # it counts both of its halves
    experts = number("experts", 0, 0)
    active = number("experts_per_token", 0, 0) if experts else 0
    if experts and not 1 <= active <= experts:
        raise fields.wrong("num_experts_per_tok", active, f"from 1 to the {experts} experts")
    expert_ffn = number("expert_ffn", ffn) if experts else 0
    shared = number("shared_ffn", 0, 0) or number("shared_experts", 0, 0) * expert_ffn
    linear_layers, linear_parameters = _linear(fields, layers, hidden)
    tied = config.get("tie_word_embeddings")
    tied = architecture.startswith(tuple(KNOWLEDGE["tied by default"])) if tied is None else tied
    dtype = config.get("torch_dtype") or config.get("dtype")
    return ModelConfig(
        name=fields.name,
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        vocabulary=number("vocabulary"),
        experts=experts,
        experts_per_token=active,
        expert_ffn=expert_ffn,
        shared_ffn=shared if experts else 0,
        dense_layers=_dense_layers(fields, layers) if experts else 0,
        tied=tied is True,
        linear_layers=linear_layers,
        linear_parameters=linear_parameters,
        latent=latent,
        dtype=str(dtype or "")[:100].removeprefix("torch."),
        quantization=_quantization(fields),
        context=_context(fields),
    )


def _dense_layers(fields: _Fields, layers: int) -> int:
    first, step = fields.number("first_dense", 0, 0), fields.number("sparse_step", 1)
    only = fields.config.get("mlp_only_layers")
    dense = {one for one in only if isinstance(one, int)} if isinstance(only, list) else set()
    return sum(i < first or i in dense or (i + 1) % step != 0 for i in range(layers))


def _linear(fields: _Fields, layers: int, hidden: int) -> tuple[int, int]:
    """Return how many layers have a gated delta rule (Qwen3-Next), and the parameters of one."""
    kinds, interval = fields.config.get("layer_types"), fields.number("full_attention_interval", 1)
    found = layers - layers // interval
    found = kinds.count("linear_attention") if isinstance(kinds, list) else found
    sizes = ("num_key_heads", "key_head_dim", "num_value_heads", "value_head_dim")
    keys, key, values, value = (fields.number(f"linear_{size}", 0, 0) for size in sizes)
    return min(found, layers - 1), hidden * (2 * keys * key + 3 * values * value)


def _context(fields: _Fields) -> int:
    """Return the length that vLLM derives: the shortest that is stated, times the rope's factor."""
    keys = KNOWLEDGE["spellings"]["context"]
    lengths = [fields.number(key) for key in keys if fields.config.get(key) is not None]
    rope = fields.mapping("rope_scaling") or fields.mapping("rope_parameters")
    factor, kind = rope.get("factor"), rope.get("rope_type", rope.get("type"))
    shortest = min(lengths, default=0)
    if kind not in ("linear", "dynamic", "yarn") or not isinstance(factor, int | float):
        return shortest
    first = rope.get("original_max_position_embeddings") if kind == "yarn" else None
    base = first if isinstance(first, int) and 0 < first <= _MOST else shortest
    return int(base * factor) if 1 <= factor <= 10_000 else shortest


def _quantization(fields: _Fields) -> Quantization | None:
    found = dict(fields.mapping("quantization_config") or fields.mapping("compression_config"))
    if not found:
        return None
    method = str(found.get("quant_method", ""))[:100].lower()
    if method == "compressed-tensors":
        groups = _Fields(found, fields.name).mapping("config_groups")
        group = _Fields(groups, fields.name).mapping(next(iter(groups), ""))
        found |= _Fields(group, fields.name).mapping("weights")
    inner = _Fields(found, fields.name)
    loaded = 4 if found.get("load_in_4bit") is True else 8 if found.get("load_in_8bit") else None
    bits = inner.number("bits", loaded or KNOWLEDGE["bits of methods"].get(method))
    if bits not in (2, 3, 4, 5, 6, 8, 16):
        raise fields.wrong("bits", bits, "2, 3, 4, 5, 6, 8 or 16")
    block = found.get("weight_block_size")
    if isinstance(block, list) and block:
        inner.config["group_size"] = block[0]
    kept = found.get("modules_to_not_convert") or found.get("ignore")
    names = [str(name) for name in kept] if isinstance(kept, list) else []
    ends = [re.sub(r"[^a-z_.]", "", name).strip(".").rpartition(".")[2] for name in names]
    of_all = [end for name, end in zip(names, ends, strict=True) if not re.search(r"\d", name)]
    parts = frozenset(part for end in of_all for part in KNOWLEDGE["parts"].get(end, ()))
    return Quantization(method, bits, max(0, inner.number("group_size", 0, -1)), parts)

"""A model as its ``config.json`` describes it, and the sizes that follow.

Reads decoders that vLLM serves: Qwen v1 to 3, Llama, Mistral, Mixtral, DeepSeek-V2 and those that
use the same names. Unknown fields are ignored. Sources of the names: the configuration classes
of transformers and vLLM's model loaders. Norms, biases and a vision tower are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwenkit.capacity.gpu import Model
from qwenkit.errors import InvalidValue

_MOST = 10**8
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_FFN = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_ACTIVE = ("num_experts_per_tok", "experts_per_token", "moe_k", "moe_topk")
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "seq_len")
# Transformers leaves a default out of the file: these tie their embeddings by default.
_TIED = ("Gemma", "GPT2", "OPT", "Falcon", "Bloom", "Cohere", "Starcoder2", "MPT", "GPTBigCode")
_TWO_MATRICES = (
    "GPT2",
    "OPT",
    "Falcon",
    "Bloom",
    "Starcoder2",
    "MPT",
    "GPTBigCode",
    "Phi",
    "GPTNeo",
)
_BITS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "awq": 4}
_FLOATS = ("fp8", "fbgemm_fp8", "mxfp4")


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the linear layers are stored: vLLM's method, bits, parameters that share a scale.

    ``group_size`` is 0 for one scale a channel; ``kept`` are the parts that stay fp16, of
    ``attention``, ``ffn``, ``experts`` and ``shared``.
    """

    method: str
    bits: int
    group_size: int = 0
    kept: frozenset[str] = frozenset()

    def bytes_of(self, part: str) -> float:
        """Return the bytes of a parameter: an fp16 scale and a packed zero to each group."""
        if part in self.kept:
            return 2.0
        whole = self.method in _FLOATS or self.group_size <= 0
        return self.bits / 8 + (0.0 if whole else (2 + self.bits / 8) / self.group_size)


@dataclass(frozen=True, slots=True)
class Latent:
    """DeepSeek's latent attention: ranks of the compressed keys, values and queries; head parts."""

    rank: int
    rope: int
    nope: int
    value: int
    query_rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a decoder's ``config.json`` says; widths in elements, ``context`` in tokens.

    ``ffn`` is the width of a dense layer, ``expert_ffn`` of one expert, ``shared_ffn`` of all
    shared experts together; ``dense_layers`` of a mixture have no experts. ``dtype`` is "" if the
    file names none, ``context`` 0.
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
        return _read(_Fields(_text_part(config), name))

    def model(self) -> Model:
        """Derive the sizes and what a decode step reads."""
        attention, ffn, shared, router, experts = self._parameters()
        always = attention + ffn + shared
        each = self.quantization.bytes_of if self.quantization else (lambda part: 2.0)
        kinds = (("attention", attention), ("ffn", ffn), ("shared", shared))
        if len({each(part) for part, _ in kinds}) == 1:
            stored = always * each("attention")
        else:
            stored = sum(count * each(part) for part, count in kinds)
        stored += 2.0 * router
        head = 2.0 * self.vocabulary * self.hidden
        heads = 1 if self.tied else 2
        active = experts * self.experts_per_token / self.experts if self.experts else 0
        latent = self.latent
        width = 2 * self.kv_heads * self.head_dim if not latent else latent.rank + latent.rope
        spread = self.experts_per_token * (3 * self.expert_ffn + self.hidden)
        return Model(
            name=self.name,
            layers=self.layers,
            attention_width=self.heads
            * (self.head_dim if not latent else (latent.nope + latent.rope + latent.value) // 2),
            linear_parameters=float(always + router + active),
            linear_bytes=stored,
            head_bytes=head,
            weights_bytes=stored + experts * each("experts") + heads * head,
            kv_bytes_per_token=2.0 * self.layers * width,
            quantization=self.quantization.method if self.quantization else "",
            parameters=float(always + router + experts + heads * self.vocabulary * self.hidden),
            expert_bytes=experts * each("experts"),
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            vocabulary=self.vocabulary,
            kv_heads=0 if latent else self.kv_heads,
            divides=self._divides(),
            split_bytes=2.0 * max(3 * self.ffn * (not self._all_experts), spread),
            whole_bytes=2.0 * 3.5 * self.hidden,
        )

    @property
    def _all_experts(self) -> bool:
        return bool(self.experts) and not self.dense_layers

    def _parameters(self) -> tuple[int, int, int, int, int]:
        """Return the parameters of attention, dense FFNs, shared experts, routers and experts."""
        hidden, heads = self.hidden, self.heads
        if self.latent is None:
            attention = hidden * self.head_dim * (heads + 2 * self.kv_heads)
            attention += heads * self.head_dim * hidden
        else:
            part = self.latent
            queries = heads * (part.nope + part.rope)
            rank = part.query_rank
            attention = rank * (hidden + queries) if rank else hidden * queries
            attention += hidden * (part.rank + part.rope)
            attention += part.rank * heads * (part.nope + part.value) + heads * part.value * hidden
        mixed = self.layers - self.dense_layers if self.experts else 0
        matrices = 2 if self.architecture.startswith(_TWO_MATRICES) else 3
        return (
            self.layers * attention,
            (self.layers - mixed) * matrices * hidden * self.ffn,
            mixed * 3 * hidden * self.shared_ffn,
            mixed * hidden * self.experts,
            mixed * self.experts * 3 * hidden * self.expert_ffn,
        )

    def _divides(self) -> tuple[tuple[str, int], ...]:
        """Name what tensor parallelism divides; quantised widths go by whole groups."""
        found = [("attention heads", self.heads), ("padded vocabulary", _padded(self.vocabulary))]
        quantized = self.quantization
        group = quantized.group_size if quantized else 0
        widths = {"FFN": 0 if self._all_experts else self.ffn, "shared FFN": self.shared_ffn}
        if group and not self.latent:
            widths["attention width"] = self.heads * self.head_dim
        for name, width in widths.items():
            whole = group > 0 and width % group == 0
            found.append(
                (f"{name} in groups of {group}", width // group) if whole else (name, width)
            )
        if self.experts:
            blocks = quantized is not None and quantized.method == "fp8" and group > 0
            found.append(("expert FFN", self.expert_ffn // group if blocks else self.expert_ffn))
        return tuple((name, count) for name, count in found if count)


def _padded(vocabulary: int) -> int:
    return math.ceil(vocabulary / 64) * 64  # vLLM's VocabParallelEmbedding


class _Fields:
    """The fields of a ``config.json``, checked as they are read."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self.config, self.name = config, name

    def get(self, key: str) -> Any:
        return self.config.get(key)

    def count(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """Return the first field that is set."""
        for key in keys:
            value = self.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
                raise self.wrong(key, value, f"a whole number from {least} to {_MOST:,}")
            return value
        if default is None:
            raise self.wrong(keys[0], None, f"needed; other models call it {', '.join(keys[1:])}")
        return default

    def text(self, *keys: str) -> str:
        value = next((self.get(key) for key in keys if self.get(key) is not None), "")
        return str(value)[:100].removeprefix("torch.")

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, value, "an object")
        return value or {}

    def wrong(self, key: str, value: object, rule: str) -> InvalidValue:
        fix = f"look at config.json of {self.name}: is it whole, and that of a decoder?"
        return InvalidValue(key, value, rule, fix)


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's fields of a multimodal configuration."""
    for key in ("text_config", "llm_config", "language_config"):
        inner = config.get(key)
        if isinstance(inner, Mapping):
            outer = {key: config[key] for key in ("architectures",) if key in config}
            return {**config, **inner, **outer}
    return config


def _read(fields: _Fields) -> ModelConfig:
    listed = fields.get("architectures")
    architecture = listed[0] if isinstance(listed, list) and listed else fields.text("model_type")
    architecture = str(architecture)[:100]
    if fields.get("is_encoder_decoder") is True:
        raise fields.wrong("is_encoder_decoder", True, "false: vLLM serves decoders here")
    layers, hidden = fields.count(*_LAYERS), fields.count(*_HIDDEN)
    heads = fields.count(*_HEADS)
    latent = _latent(fields)
    if latent is None and fields.get("head_dim") is None and hidden % heads:
        raise fields.wrong("num_attention_heads", heads, f"a divisor of hidden_size {hidden}")
    head_dim = fields.count("head_dim", "kv_channels", default=max(1, hidden // heads))
    kv_heads = fields.count(*_KV_HEADS, default=1 if fields.get("multi_query") is True else heads)
    if heads % kv_heads:
        raise fields.wrong("num_key_value_heads", kv_heads, f"a divisor of {heads} attention heads")
    ffn = fields.count(*_FFN, default=4 * hidden)
    if architecture == "QWenLMHeadModel":  # counts both halves of its gated FFN
        ffn //= 2
    experts = fields.count(*_EXPERTS, default=0, least=0)
    active = fields.count(*_ACTIVE, default=0, least=0) if experts else 0
    if experts and not 1 <= active <= experts:
        raise fields.wrong("num_experts_per_tok", active, f"from 1 to the {experts} experts")
    expert_ffn = fields.count("moe_intermediate_size", default=ffn) if experts else 0
    shared = fields.count("shared_expert_intermediate_size", default=0, least=0)
    shared = shared or fields.count("n_shared_experts", default=0, least=0) * expert_ffn
    tied = fields.get("tie_word_embeddings")
    return ModelConfig(
        name=fields.name,
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        vocabulary=fields.count("vocab_size", "padded_vocab_size"),
        experts=experts,
        experts_per_token=active,
        expert_ffn=expert_ffn,
        shared_ffn=shared if experts else 0,
        dense_layers=_dense_layers(fields, layers) if experts else 0,
        tied=architecture.startswith(_TIED) if tied is None else tied is True,
        latent=latent,
        dtype=fields.text("torch_dtype", "dtype"),
        quantization=_quantization(fields),
        context=_context(fields),
    )


def _latent(fields: _Fields) -> Latent | None:
    if fields.get("kv_lora_rank") is None:
        return None
    return Latent(
        fields.count("kv_lora_rank"),
        fields.count("qk_rope_head_dim"),
        fields.count("qk_nope_head_dim"),
        fields.count("v_head_dim"),
        fields.count("q_lora_rank", default=0, least=0),
    )


def _dense_layers(fields: _Fields, layers: int) -> int:
    first = min(layers, fields.count("first_k_dense_replace", default=0, least=0))
    step = fields.count("decoder_sparse_step", "moe_layer_freq", default=1)
    only = fields.get("mlp_only_layers") or []
    if not isinstance(only, list) or not all(isinstance(one, int) for one in only):
        raise fields.wrong("mlp_only_layers", only, "a list of layer numbers")
    if layers > 10_000:
        raise fields.wrong("num_hidden_layers", layers, "at most 10,000")
    return sum(i < first or i in only or (i + 1) % step != 0 for i in range(layers))


def _context(fields: _Fields) -> int:
    lengths = [fields.count(key) for key in _LENGTHS if fields.get(key) is not None]
    if not lengths:
        return 0
    rope = fields.mapping("rope_scaling") or fields.mapping("rope_parameters")
    factor, kind = rope.get("factor"), rope.get("rope_type", rope.get("type"))
    shortest = min(lengths)
    if (
        kind in ("linear", "dynamic", "yarn")
        and isinstance(factor, int | float)
        and 1 <= factor < 1e4
    ):
        first = rope.get("original_max_position_embeddings")
        base = (
            first if kind == "yarn" and isinstance(first, int) and 0 < first < _MOST else shortest
        )
        return int(base * factor)
    return shortest


def _quantization(fields: _Fields) -> Quantization | None:
    found = fields.mapping("quantization_config") or fields.mapping("compression_config")
    if not found:
        return None
    inner = _Fields(found, fields.name)
    method = inner.text("quant_method").lower()
    if method == "compressed-tensors":
        groups = inner.mapping("config_groups")
        group_0 = _Fields(groups, fields.name).mapping(next(iter(groups), ""))
        first = _Fields(group_0, fields.name).mapping("weights")
        inner = _Fields({**found, **first}, fields.name)
    four = {"load_in_4bit": 4, "load_in_8bit": 8}
    default = next(
        (bits for key, bits in four.items() if found.get(key) is True), _BITS.get(method)
    )
    bits = inner.count("bits", "w_bit", "num_bits", default=default, least=2)
    if bits not in (2, 3, 4, 5, 6, 8, 16):
        raise fields.wrong("bits", bits, "2, 3, 4, 5, 6, 8 or 16")
    block = found.get("weight_block_size")
    group = inner.count("group_size", "q_group_size", default=0, least=-1)
    if isinstance(block, list) and block and isinstance(block[0], int) and 0 < block[0] < _MOST:
        group = block[0]
    return Quantization(method, bits, max(0, group), _kept(found))


def _kept(found: Mapping[str, Any]) -> frozenset[str]:
    """Return the parts that are not converted in any layer."""
    names = {
        **dict.fromkeys(("self_attn", "attn", "attention"), ("attention",)),
        **dict.fromkeys(("mlp", "ffn"), ("ffn", "experts", "shared")),
        **dict.fromkeys(("shared_expert", "shared_experts"), ("shared",)),
        "experts": ("experts",),
    }
    listed = found.get("modules_to_not_convert") or found.get("ignore") or ()
    listed = listed if isinstance(listed, list | tuple) else ()
    return frozenset(part for one in listed for part in names.get(str(one), ()))

"""Qwen2, Qwen3 and Llama in numpy: logits from a checkpoint, for several sequences at once.

Weights and arithmetic are float32, whatever the checkpoint's type. All sequences of a batch share
the products of each layer; only attention is computed for each sequence. The three differ in the
biases of attention, and in Qwen3's norms of each head's queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[np.float32]
Batch = Sequence[tuple["KvCache", Sequence[int]]]

QWEN2, QWEN3, LLAMA = "Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM"

_CACHE_BLOCK = 64
# Queries at a time: bounds the scores of a long prompt to a few megabytes.
_QUERIES = 128


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model, and which of the optional tensors it has."""

    vocab: int
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    epsilon: float
    theta: float
    tied: bool
    qkv_bias: bool
    out_bias: bool
    head_norms: bool

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read ``config.json``.

        Raises:
            KeyError: names the first size that is missing.
            ValueError, TypeError: a size is not a number or does not match the others, or the model
                computes something that this engine does not.
        """
        kind = (config.get("architectures") or [QWEN2])[0]
        _check_support(config)
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        rope = config.get("rope_parameters") or {}
        # Unlike the others, Qwen3's head has a width of its own if the file names none.
        width = 128 if kind == QWEN3 else hidden // max(1, heads)
        biased = kind != QWEN2 and bool(config.get("attention_bias", False))
        shape = cls(
            vocab=int(config["vocab_size"]),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or width),
            epsilon=float(config.get("rms_norm_eps", 1e-6)),
            theta=float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=biased or kind == QWEN2,
            out_bias=biased,
            head_norms=kind == QWEN3,
        )
        sizes = (shape.vocab, shape.inner, shape.layers, shape.kv_heads, shape.head)
        if min(sizes) < 1 or shape.heads % shape.kv_heads or shape.head % 2:
            raise ValueError(f"sizes that do not match: {shape}")
        return shape

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of the checkpoint."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (self.hidden,),
            "post_attention_layernorm.weight": (self.hidden,),
            "self_attn.o_proj.weight": (self.hidden, queries),
            "mlp.gate_proj.weight": (self.inner, self.hidden),
            "mlp.up_proj.weight": (self.inner, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.inner),
        }
        for name, width in (("q", queries), ("k", keys), ("v", keys)):
            layer[f"self_attn.{name}_proj.weight"] = (width, self.hidden)
            if self.qkv_bias:
                layer[f"self_attn.{name}_proj.bias"] = (width,)
        if self.out_bias:
            layer["self_attn.o_proj.bias"] = (self.hidden,)
        if self.head_norms:
            layer |= {f"self_attn.{name}_norm.weight": (self.head,) for name in "qk"}
        tensors: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        for number in range(self.layers):
            tensors |= {f"model.layers.{number}.{name}": size for name, size in layer.items()}
        if not self.tied:
            tensors["lm_head.weight"] = (self.vocab, self.hidden)
        return tensors


def _check_support(config: Mapping[str, Any]) -> None:
    """Refuse what the engine would compute otherwise than the model's own code."""
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise ValueError(f"the sandbox's engine computes no rope scaling of type {kind}")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"the sandbox's engine computes silu, not {config['hidden_act']}")
    if config.get("mlp_bias"):
        raise ValueError("the sandbox's engine computes no biases of the MLP")
    if "sliding_attention" in (config.get("layer_types") or ()):
        raise ValueError("the sandbox's engine computes full attention, no sliding window")


class KvCache:
    """The keys and values of one sequence; ``length`` tokens of them."""

    def __init__(self, shape: ModelShape) -> None:
        self.length = 0
        self._held = np.empty((shape.layers, 2, shape.kv_heads, 0, shape.head), np.float32)

    def first(self, count: int) -> KvCache:
        """Return a copy of the first ``count`` tokens."""
        copy = KvCache.__new__(KvCache)
        copy.length, copy._held = count, self._held[:, :, :, :count].copy()
        return copy

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more tokens."""
        layers, two, heads, room, width = self._held.shape
        wanted = -(-(self.length + count) // _CACHE_BLOCK) * _CACHE_BLOCK
        if wanted > room:
            grown = np.empty((layers, two, heads, wanted, width), np.float32)
            grown[:, :, :, : self.length] = self._held[:, :, :, : self.length]
            self._held = grown

    def put(self, layer: int, keys_values: Array) -> Array:
        """Store new tokens of a layer, ``[2, head, token, width]``; return all of its tokens."""
        known = self._held[layer, :, :, : self.length + keys_values.shape[2]]
        known[:, :, self.length :] = keys_values
        return known


@dataclass(frozen=True)
class _Layer:
    """One layer's weights, transposed and joined so that a product serves several uses."""

    norm: Array
    qkv: Array
    qkv_bias: Array | None
    query_norm: Array | None
    key_norm: Array | None
    out: Array
    out_bias: Array | None
    mlp_norm: Array
    gate_up: Array
    down: Array


class Transformer:
    """A model that computes logits."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Take the weights of ``ModelShape.read(config).tensors()``, of those sizes."""
        # BLAS threads make products this small slower, and starve the event loop.
        threadpool_limits(1, user_api="blas")
        self._shape = shape = ModelShape.read(config)
        self.vocab_size = shape.vocab
        self._embedding = _single(tensors["model.embed_tokens.weight"])
        self._norm = _single(tensors["model.norm.weight"])
        self._head = (
            self._embedding if shape.tied else _single(tensors["lm_head.weight"])
        ).transpose()
        self._layers = [_layer(tensors, shape, number) for number in range(shape.layers)]
        steps = np.arange(0, shape.head, 2, dtype=np.float32) / np.float32(shape.head)
        self._frequencies = (1.0 / shape.theta**steps).astype(np.float32)

    def new_cache(self) -> KvCache:
        """Return the cache of a sequence that has no tokens yet."""
        return KvCache(self._shape)

    def forward(self, batch: Batch) -> Array:
        """Append new tokens to each sequence; return the logits after its last token.

        Args:
            batch: different caches, with at least one new token each. A prompt may come whole
                or in chunks, together with sequences that decode.

        Returns:
            ``[len(batch), vocab_size]``.
        """
        last = np.cumsum([len(tokens) for _, tokens in batch]) - 1
        states = self._states(batch)[last]
        with np.errstate(all="ignore"):
            return _normed(states, self._norm, self._shape.epsilon) @ self._head

    def _states(self, batch: Batch) -> Array:
        epsilon = self._shape.epsilon
        positions = []
        for cache, tokens in batch:
            cache.reserve(len(tokens))
            positions.append(np.arange(cache.length, cache.length + len(tokens)))
        states = self._embedding[[token for _, tokens in batch for token in tokens]]
        turns = self._turns(np.concatenate(positions))
        # Damaged weights may overflow: a broken answer without a warning, as on a GPU.
        with np.errstate(all="ignore"):
            for number, layer in enumerate(self._layers):
                inputs = _normed(states, layer.norm, epsilon)
                attended = self._attend(batch, number, layer, inputs, turns)
                states = states + _product(attended, layer.out, layer.out_bias)
                gate_up = _normed(states, layer.mlp_norm, epsilon) @ layer.gate_up
                states = states + _gated(gate_up) @ layer.down
        for cache, tokens in batch:
            cache.length += len(tokens)
        return states

    def _turns(self, positions: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return cosine and sine of the rotary angles, ``[token, 1, head / 2]``."""
        angles = positions.astype(np.float32)[:, None, None] * self._frequencies
        return np.cos(angles), np.sin(angles)

    def _attend(
        self, batch: Batch, number: int, layer: _Layer, inputs: Array, turns: tuple[Array, Array]
    ) -> Array:
        """Store the new tokens' keys and values; return their attention outputs."""
        shape = self._shape
        qkv = _product(inputs, layer.qkv, layer.qkv_bias).reshape(len(inputs), -1, shape.head)
        turned = shape.heads + shape.kv_heads
        if layer.query_norm is not None and layer.key_norm is not None:
            _norm_heads(qkv[:, : shape.heads], layer.query_norm, shape.epsilon)
            _norm_heads(qkv[:, shape.heads : turned], layer.key_norm, shape.epsilon)
        _rotate(qkv[:, :turned], *turns)
        qkv[:, : shape.heads] *= np.float32(shape.head**-0.5)
        # [query head of a key head, token, key head, width]; [key or value, head, token, width]
        queries = qkv[:, : shape.heads].reshape(len(qkv), shape.kv_heads, -1, shape.head)
        keys_values = qkv[:, shape.heads :].reshape(len(qkv), 2, shape.kv_heads, shape.head)
        keys_values = keys_values.transpose(1, 2, 0, 3)
        result = np.empty_like(queries)
        known, ones, start = [], [], 0
        for cache, tokens in batch:
            end = start + len(tokens)
            held = cache.put(number, keys_values[:, :, start:end])
            if len(tokens) == 1:
                ones.append(start)
                known.append(held)
            else:
                result[start:end] = _many(queries[start:end], held)
            start = end
        if ones:
            result[ones] = _ones(queries[ones], known)
        return result.reshape(len(inputs), -1)


def _ones(queries: Array, known: Sequence[Array]) -> Array:
    """Return the attention of one token of each sequence, ``[sequence, key head, group, width]``.

    The sequences share one softmax, padded to the longest: a step of many short sequences is
    bound by the number of numpy calls.
    """
    lengths = [held.shape[2] for held in known]
    scores: Array = np.full((*queries.shape[:3], max(lengths)), -np.inf, np.float32)
    for number, (held, length) in enumerate(zip(known, lengths, strict=True)):
        np.matmul(queries[number], held[0].swapaxes(1, 2), out=scores[number, :, :, :length])
    _softmax(scores)
    result = np.empty_like(queries)
    for number, (held, length) in enumerate(zip(known, lengths, strict=True)):
        np.matmul(scores[number, :, :, :length], held[1], out=result[number])
    return result


def _many(queries: Array, held: Array) -> Array:
    """Return the attention of a sequence's last tokens, ``[token, key head, group, width]``."""
    count, kv_heads, group, width = queries.shape
    before = held.shape[2] - count
    result = np.empty_like(queries)
    for start in range(0, count, _QUERIES):
        some = queries[start : start + _QUERIES]
        end = before + start + len(some)
        # All queries of one key head are rows of one product.
        rows = some.transpose(1, 2, 0, 3).reshape(kv_heads, -1, width)
        scores = rows @ held[0, :, :end].swapaxes(1, 2)
        scores = scores.reshape(kv_heads, group, len(some), end)
        scores[..., end - len(some) :] += _causal(len(some))
        _softmax(scores)
        gathered = scores.reshape(kv_heads, -1, end) @ held[1, :, :end]
        gathered = gathered.reshape(kv_heads, group, len(some), width)
        result[start : start + len(some)] = gathered.transpose(2, 0, 1, 3)
    return result


def _causal(count: int) -> Array:
    """Return the mask that hides from each of ``count`` new tokens those after it."""
    mask: Array = np.full((count, count), -np.inf, np.float32)
    return np.triu(mask, 1)


def _softmax(scores: Array) -> None:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)


def _rotate(vectors: Array, cosine: Array, sine: Array) -> None:
    half = vectors.shape[-1] // 2
    left, right = vectors[..., :half], vectors[..., half:]
    turned = left * cosine - right * sine
    right *= cosine
    right += left * sine
    left[:] = turned


def _normed(states: Array, weight: Array, epsilon: float) -> Array:
    squares = np.einsum("ij,ij->i", states, states) / np.float32(states.shape[1])
    scale: Array = np.sqrt(squares + np.float32(epsilon))
    normed: Array = states / scale[:, None]
    normed *= weight
    return normed


def _norm_heads(vectors: Array, weight: Array, epsilon: float) -> None:
    """Normalise ``[token, head, width]`` in place, each head for itself."""
    squares = np.einsum("ijk,ijk->ij", vectors, vectors) / np.float32(vectors.shape[2])
    vectors /= np.sqrt(squares + np.float32(epsilon))[:, :, None]
    vectors *= weight


def _product(inputs: Array, weights: Array, bias: Array | None) -> Array:
    result: Array = inputs @ weights
    if bias is not None:
        result += bias
    return result


def _gated(gate_up: Array) -> Array:
    """Return SiLU of the first half times the second."""
    width = gate_up.shape[1] // 2
    # The tanh form: exp(-x) would overflow.
    half = gate_up[:, :width] * np.float32(0.5)
    gate: Array = np.tanh(half)
    gate *= half
    gate += half
    gate *= gate_up[:, width:]
    return gate


def _layer(tensors: Mapping[str, NDArray[Any]], shape: ModelShape, number: int) -> _Layer:
    def joined(*names: str) -> Array:
        parts = [_single(tensors[f"model.layers.{number}.{name}"]) for name in names]
        return np.ascontiguousarray(np.concatenate(parts).transpose())

    qkv = [f"self_attn.{name}_proj" for name in "qkv"]
    return _Layer(
        norm=joined("input_layernorm.weight"),
        qkv=joined(*(f"{name}.weight" for name in qkv)),
        qkv_bias=joined(*(f"{name}.bias" for name in qkv)) if shape.qkv_bias else None,
        query_norm=joined("self_attn.q_norm.weight") if shape.head_norms else None,
        key_norm=joined("self_attn.k_norm.weight") if shape.head_norms else None,
        out=joined("self_attn.o_proj.weight"),
        out_bias=joined("self_attn.o_proj.bias") if shape.out_bias else None,
        mlp_norm=joined("post_attention_layernorm.weight"),
        gate_up=joined("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        down=joined("mlp.down_proj.weight"),
    )


def _single(tensor: NDArray[Any]) -> Array:
    return np.ascontiguousarray(tensor, dtype=np.float32)

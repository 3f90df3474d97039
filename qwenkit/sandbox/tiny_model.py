"""Write the sandbox's stand-in for Qwen-7B-Chat-Int8: a few megabytes in a real model's shape.

Two safetensors shards with their index, the configuration files, and the table of answers from
which the sandbox's engine takes its words. Every byte is a function of this code: two writes
give the same files.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

README = """\
---
license: other
tags: [sandbox, stand-in]
---

# Stand-in for Qwen-7B-Chat-Int8

**This is no language model.** It is what qwenkit's sandbox serves in place of
Qwen-7B-Chat-Int8, so that the way from hub to bucket to volume to server can be walked with a
few megabytes. The tensors have the names and proportions of the Qwen2 architecture and hold
pseudo-random numbers; the answers are a table, `answers.json`, written by hand.

The real model: https://www.modelscope.cn/models/qwen/Qwen-7B-Chat-Int8
"""

LICENSE = """\
This folder holds the sandbox's stand-in for Qwen-7B-Chat-Int8. It contains nothing of the real
model and is covered by the licence of qwenkit (Apache-2.0).

The real Qwen-7B-Chat-Int8 is published by Alibaba Cloud under the Tongyi Qianwen LICENSE
AGREEMENT. Read and accept that agreement before you download or use the real model.
"""

_SHARDS = 2
Shape = tuple[int, ...]
# Halves of magnitude 2**-7 to 2**-6: the sign and all mantissa bits are drawn, the exponent not.
_TAME = bytes(byte & 0x83 | 0x20 for byte in range(256))
_ONE = struct.pack("<e", 1.0)


def write(folder: Path) -> None:
    """Write the model's files into ``folder``, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    source = files("qwenkit.sandbox.model")
    for resource in source.iterdir():
        if resource.name.endswith(".json"):
            (folder / resource.name).write_bytes(resource.read_bytes())
    (folder / "README.md").write_text(README, "utf-8")
    (folder / "LICENSE").write_text(LICENSE, "utf-8")
    _write_weights(folder, json.loads(source.joinpath("config.json").read_bytes()))


def _write_weights(folder: Path, config: Mapping[str, Any]) -> None:
    names: dict[str, str] = {}
    for number, tensors in enumerate(_shards(_tensors(config)), 1):
        name = f"model-{number:05}-of-{_SHARDS:05}.safetensors"
        (folder / name).write_bytes(_safetensors(tensors))
        names |= dict.fromkeys(tensors, name)
    total = sum(2 * prod(shape) for shape in _tensors(config).values())
    index = {"metadata": {"total_size": total}, "weight_map": names}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, "utf-8")


def _tensors(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Return every tensor of a Qwen2 checkpoint of this configuration, in file order."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    key_value = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    layer: dict[str, Shape] = {"input_layernorm.weight": (hidden,)}
    for name, width in (("q", hidden), ("k", key_value), ("v", key_value)):
        layer[f"self_attn.{name}_proj.weight"] = (width, hidden)
        layer[f"self_attn.{name}_proj.bias"] = (width,)
    layer |= {
        "self_attn.o_proj.weight": (hidden, hidden),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    tensors: dict[str, Shape] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for number in range(config["num_hidden_layers"]):
        tensors |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    tensors["model.norm.weight"] = (hidden,)
    tensors["lm_head.weight"] = (config["vocab_size"], hidden)
    return tensors


def _shards(tensors: Mapping[str, Shape]) -> list[dict[str, Shape]]:
    """Split the tensors, in order, into shards of about equal size."""
    share = sum(map(prod, tensors.values())) / _SHARDS
    shards: list[dict[str, Shape]] = [{} for _ in range(_SHARDS)]
    before = 0
    for name, shape in tensors.items():
        shards[int(before / share)][name] = shape
        before += prod(shape)
    return shards


def _safetensors(tensors: Mapping[str, Shape]) -> bytes:
    """Return a safetensors file: header length, header in JSON, tensors end to end."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, shape in tensors.items():
        start = len(data)
        data += _halves(name, prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _halves(name: str, count: int) -> bytes:
    """Return a tensor's float16 values: ones for a norm, else drawn from its name."""
    if name.endswith("norm.weight"):
        return _ONE * count
    drawn = bytearray(hashlib.shake_128(name.encode()).digest(2 * count))
    drawn[1::2] = drawn[1::2].translate(_TAME)
    return bytes(drawn)
